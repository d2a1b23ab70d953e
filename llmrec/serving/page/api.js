// Calls of the service that this page is served by.

let key = sessionStorage.getItem("key") ?? "";

/** An answer other than a good one, with the service's own words. */
export class ServiceError extends Error {}

async function send(path, options) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const answer = await fetch(new URL(`..${path}`, document.baseURI), { ...options, headers });
  if (answer.status === 401) {
    const given = window.prompt("This service asks for an API key:");
    if (given) {
      key = given.trim();
      sessionStorage.setItem("key", key);
      return send(path, options);
    }
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new ServiceError(body.error?.message ?? `The service answered ${answer.status}.`);
}

export async function get(path) {
  return (await send(path, { method: "GET" })).json();
}

export async function text(path) {
  return (await send(path, { method: "GET" })).text();
}

export async function post(path, body) {
  return (await send(path, posted(body))).json();
}

/** Calls `take` with each part of a stream of server-sent events. */
export async function stream(path, body, take) {
  const answer = await send(path, posted(body));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.replace(/^data: /, "");
      if (data !== "[DONE]") take(JSON.parse(data));
    }
  }
}

function posted(body) {
  return {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
}

/** A file as OpenAI's clients send it. */
export function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
