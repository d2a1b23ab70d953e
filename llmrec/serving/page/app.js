// The page: a person's home feed, search, chat, a product, experiments, operations.

import { dataUrl, get, post, ServiceError, stream, text } from "./api.js";

const find = (id) => document.getElementById(id);
const views = ["feed", "search", "chat", "experiments", "operations"];
const shown = { feed: showFeed, search: () => {}, chat: () => {}, experiments: showExperiments, operations: showOperations };
let person = new URLSearchParams(location.search).get("user") ?? "";
let conversation = [];
let session = crypto.randomUUID();
let recording = null;
let hasAssistant = false;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

function say(words, isError = false) {
  find("status").textContent = words;
  find("status").className = isError ? "error" : "";
}

/** Runs what an event asks for and says what went wrong, in the service's words. */
function guarded(work) {
  return async (event) => {
    event?.preventDefault?.();
    try {
      say("");
      await work(event);
    } catch (error) {
      if (!(error instanceof ServiceError || error instanceof TypeError)) throw error;
      say(error.message, true);
    }
  };
}

// --- views -----------------------------------------------------------------------------------

const show = guarded(async (event) => {
  const name = event.currentTarget.id.replace("tab-", "");
  for (const view of views) {
    const chosen = view === name;
    find(view).hidden = !chosen;
    find(`tab-${view}`).setAttribute("aria-selected", String(chosen));
    find(`tab-${view}`).tabIndex = chosen ? 0 : -1;
  }
  await shown[name]();
});

function moveTab(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const at = views.indexOf(event.currentTarget.id.replace("tab-", ""));
  const next = find(`tab-${views[(at + step + views.length) % views.length]}`);
  next.focus();
  next.click();
}

// --- cards -----------------------------------------------------------------------------------

const percent = (p) => `${(100 * p).toFixed(1)}%`;

/** Pictures that the service has not got leave no hole. */
function picture(id, alt) {
  const made = element("img", { src: `../ui/pictures/${encodeURIComponent(id)}`, alt, loading: "lazy" });
  made.addEventListener("error", () => made.remove());
  return made;
}

function card(item, list) {
  const open = element("button", { type: "button", className: "open", textContent: item.title });
  open.addEventListener("click", guarded(() => choose(item, list)));
  const made = element("li", { className: "card" }, picture(item.item_id, ""), open);
  if (typeof item.price === "number") {
    made.append(element("p", { className: "price", textContent: `${item.price.toFixed(2)} ${item.currency}` }));
  }
  if (item.p_click !== undefined) {
    made.append(element("p", { className: "facts", textContent: `${percent(item.p_click)} likely to be clicked` }));
  }
  if (item.reason) made.append(element("p", { className: "reason", textContent: item.reason }));
  made.append(why(item, list));
  return made;
}

/** Everything that led to a place in the list. */
function why(item, list) {
  const facts = {
    "Rank": item.rank,
    "Score": item.score?.toFixed(3),
    "Sources": item.sources?.join(", "),
    "Click, calibrated": item.p_click === undefined ? undefined : percent(item.p_click),
    "Purchase": item.p_purchase === undefined ? undefined : percent(item.p_purchase),
    "Log-likelihood": item.llm_logp?.toFixed(2),
    "History read": list?.history_read === undefined ? undefined : `${list.history_read} of ${list.history_given} events`,
    "Model": list?.model,
    "Catalogue": list?.catalog_version,
    "Variant": list?.variant,
  };
  return element("details", {}, element("summary", { textContent: "Why" }), fields(facts));
}

function fields(facts) {
  const made = element("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value === undefined || value === null || value === "") continue;
    made.append(element("dt", { textContent: name }), element("dd", { textContent: String(value) }));
  }
  return made;
}

function fill(list, answer) {
  const items = answer.recommendations ?? answer.results ?? [];
  list.replaceChildren(...items.map((item) => card(item, answer)));
  if (!items.length) list.append(element("li", { textContent: "Nothing fits." }));
}

// --- the home feed ---------------------------------------------------------------------------

const request = (more) => ({ n: 12, ...(person ? { user: person } : {}), ...more });

async function showFeed() {
  document.querySelector("[data-person]").textContent = person || "somebody new";
  const [answer] = await Promise.all([post("/v1/recommendations", request({})), showHistory()]);
  fill(find("feed-items"), answer);
  offerMore(answer);
  performance.mark("feed-shown");
}

/** A button for the next page of the list, where there is one. */
function offerMore(answer) {
  find("more").hidden = !answer.cursor;
  find("more").onclick = guarded(async () => {
    const next = await post("/v1/recommendations", request({ cursor: answer.cursor }));
    find("feed-items").append(...next.recommendations.map((item) => card(item, next)));
    offerMore(next);
  });
}

async function showHistory() {
  const known = person ? await get(`/v1/users/${encodeURIComponent(person)}`).catch(() => null) : null;
  const newest = (known?.history ?? []).slice(-6).reverse();
  const names = await Promise.all(newest.map((event) => titleOf(event.item_id ?? event)));
  find("history").replaceChildren(
    ...newest.map((event, at) => element("li", { textContent: `${event.type ?? "chose"} ${names[at]}` })),
  );
}

const titles = new Map();

/** The title of an item, or its identifier where the catalogue has it no longer. */
async function titleOf(id) {
  if (!titles.has(id)) {
    const item = await get(`/v1/catalog/items/${encodeURIComponent(id)}`).catch(() => ({}));
    titles.set(id, item.title || id);
  }
  return titles.get(id);
}

async function record(type, item, list) {
  if (!person) return;
  const event = { event_id: crypto.randomUUID(), user_id: person, type, item_id: item.item_id };
  if (list?.recommendation_id) event.recommendation_id = list.recommendation_id;
  await post("/v1/events", { events: [event] });
}

/** A chosen item opens, counts as a click, and the feed follows. */
async function choose(item, list) {
  const open = showProduct(item);
  await record("click", item, list);
  await Promise.all([open, find("feed").hidden ? null : showFeed()]);
}

// --- a product -------------------------------------------------------------------------------

async function showProduct(item) {
  find("product-title").textContent = item.title;
  const image = find("product-picture");
  image.hidden = true;
  image.alt = item.title;
  image.onload = () => { image.hidden = false; };
  image.src = `../ui/pictures/${encodeURIComponent(item.item_id)}`;
  find("product-fields").replaceChildren();
  find("product-actions").replaceChildren(
    ...["cart", "purchase"].map((type) => {
      const label = type === "cart" ? "Put into the cart" : "Buy";
      const button = element("button", { type: "button", className: "primary", textContent: label });
      button.addEventListener("click", guarded(async () => {
        await record(type, item);
        say(`${label}: noted for ${person || "nobody: choose a person first"}.`);
        if (!find("feed").hidden) await showFeed();
      }));
      return button;
    }),
  );
  if (!find("product").open) find("product").showModal();
  const id = encodeURIComponent(item.item_id);
  const [about, similar, together] = await Promise.all([
    get(`/v1/catalog/items/${id}`).catch(() => ({})),
    post("/v1/recommendations", { n: 4, similar_to: item.item_id }),
    post("/v1/recommendations", { n: 4, scenario: "bought_together", similar_to: item.item_id }).catch(() => ({})),
  ]);
  find("product-fields").replaceChildren(...fields(flat(about)).children);
  fill(find("product-similar"), similar);
  fill(find("product-together"), together);
}

function flat(item) {
  const { title, model, catalog_version, image, video, audio, available_from, attributes, ...rest } = item;
  const since = available_from ? new Date(1000 * available_from).toISOString().slice(0, 10) : undefined;
  const said = Object.entries({ ...rest, "there since": since, ...attributes });
  return Object.fromEntries(
    said.map(([name, value]) => [name.replaceAll("_", " "), Array.isArray(value) ? value.join(", ") : value]),
  );
}

// --- search ----------------------------------------------------------------------------------

async function search() {
  const body = { n: 12 };
  if (find("query").value.trim()) body.query = find("query").value;
  if (find("photo").files[0]) body.image = await dataUrl(find("photo").files[0]);
  if (find("voice").files[0]) body.audio = await dataUrl(find("voice").files[0]);
  const answer = await post("/v1/search", body);
  if (answer.transcript) say(`Heard: ${answer.transcript}`);
  fill(find("search-items"), answer);
}

// --- chat ------------------------------------------------------------------------------------

function turn(words, mine) {
  const made = element("div", { className: mine ? "turn mine" : "turn", textContent: words });
  find("conversation").append(made);
  made.scrollIntoView({ block: "end" });
  return made;
}

async function chat() {
  const words = find("message").value.trim();
  const content = [];
  if (words) content.push({ type: "text", text: words });
  const photo = find("chat-photo").files[0];
  if (photo) content.push({ type: "image_url", image_url: { url: await dataUrl(photo) } });
  if (recording) {
    const [head, data] = (await dataUrl(recording)).split(",");
    content.push({ type: "input_audio", input_audio: { data, format: head.includes("wav") ? "wav" : "mp3" } });
  }
  if (!content.length) return;
  document.querySelectorAll(".answers").forEach((old) => old.remove());
  const mine = turn(words || (photo ? "a photo" : "a recording"), true);
  find("chat-form").reset();
  recording = null;
  conversation.push({ role: "user", content: content.length === 1 && words ? words : content });
  const reply = turn("", false);
  let list = {};
  find("conversation").setAttribute("aria-busy", "true");
  await stream("/v1/chat/completions", chatRequest(), (part) => {
    reply.textContent += part.choices?.[0]?.delta?.content ?? "";
    if (part.transcript && !words) mine.textContent = part.transcript;
    if (part.recommendations) list = part;
  }).finally(() => find("conversation").setAttribute("aria-busy", "false"));
  conversation.push({ role: "assistant", content: reply.textContent });
  if (list.recommendations?.length) {
    if (hasAssistant) { // the cards say what its numbered lines say
      reply.textContent = reply.textContent.replace(/^\d+\. .*\n?/gm, "").trim();
    }
    const cards = element("ol", { className: "cards small" });
    fill(cards, list);
    find("conversation").append(cards);
  }
  if (list.question) offerAnswers(list.question.values);
  reply.scrollIntoView({ block: "start" });
}

/** The assistant where there is one; it keeps what was said, so nothing else goes with it. */
function chatRequest() {
  const said = { messages: conversation, stream: true };
  if (!hasAssistant) return request({ n: 5, ...said });
  return { model: "assistant", ...(person ? { user: person } : {}), metadata: { session }, ...said };
}

/** Buttons that answer what the assistant asks. */
function offerAnswers(values) {
  const buttons = values.map((value) => {
    const button = element("button", { type: "button", textContent: value });
    button.addEventListener("click", guarded(async () => {
      find("message").value = value;
      await chat();
      find("message").focus();
    }));
    return button;
  });
  const row = element("div", { className: "answers", role: "group", "aria-label": "Answers" }, ...buttons);
  find("conversation").append(row);
}

async function toggleRecording(event) {
  const button = event.currentTarget;
  if (button.recorder) {
    button.recorder.stop();
    return;
  }
  const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(sound);
  recorder.ondataavailable = ({ data }) => {
    recording = data;
    sound.getTracks().forEach((track) => track.stop());
    button.recorder = null;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Record";
    find("message").required = false;
    say("Recorded; send it, with words or without.");
  };
  recorder.start();
  button.recorder = recorder;
  button.setAttribute("aria-pressed", "true");
  button.textContent = "Stop";
}

// --- experiments and operations --------------------------------------------------------------

async function showExperiments() {
  const found = await get("/ui/experiments").catch(() => ({ experiments: [] }));
  const home = find("experiments-table");
  home.replaceChildren();
  if (!found.experiments.length) home.append(element("p", { textContent: "No experiment runs on this service." }));
  for (const one of found.experiments) {
    const rows = one.variants.map((v) => row([v.name, percent(v.share), v.exposures]));
    const caption = element("caption", { textContent: one.name });
    const head = element("tr", {}, ...["Variant", "Share", "Lists shown"].map((h) => element("th", { textContent: h, scope: "col" })));
    home.append(element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...rows)));
  }
}

function row([name, ...numbers]) {
  const cells = numbers.map((value) => element("td", { className: "number", textContent: String(value) }));
  return element("tr", {}, element("th", { scope: "row", textContent: name }), ...cells);
}

async function showOperations() {
  const figures = (await text("/metrics")).split("\n").flatMap(readFigure);
  const routes = new Map();
  for (const { name, labels, value } of figures) {
    if (!name.startsWith("llmrec_request_seconds_") || name.endsWith("bucket")) continue;
    const of = `${labels.method} ${labels.route}, ${labels.status}`;
    routes.set(of, { ...routes.get(of), [name.replace("llmrec_request_seconds_", "")]: value });
  }
  const requests = [...routes].filter(([, { count }]) => count);
  find("requests").tBodies[0].replaceChildren(
    ...requests.map(([of, { count, sum }]) => row([of, count, `${((1000 * sum) / count).toFixed(1)} ms`])),
  );
  const others = figures.filter(({ name }) => name.startsWith("llmrec_") && !/request_seconds|_bucket|_created/.test(name));
  find("figures").tBodies[0].replaceChildren(
    ...others.map(({ name, labels, value }) => {
      const said = [name.replace("llmrec_", "").replaceAll("_", " "), ...Object.values(labels)].join(", ");
      return row([said, Number.isInteger(value) ? value : value.toPrecision(4)]);
    }),
  );
  if (!find("operations").hidden) setTimeout(guarded(showOperations), 2000);
}

/** A line of Prometheus' text format; none for a comment. */
function readFigure(line) {
  const [, name, pairs, value] = line.match(/^(\w+)(?:\{(.*)\})? (\S+)$/) ?? [];
  if (!name) return [];
  const labels = Object.fromEntries([...(pairs ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v]));
  return [{ name, labels, value: Number(value) }];
}

// --- start -----------------------------------------------------------------------------------

async function findAssistant() {
  const { data } = await get("/v1/models").catch(() => ({ data: [] }));
  hasAssistant = data.some(({ id }) => id === "assistant");
}

async function showPeople() {
  const { people } = await get("/ui/people").catch(() => ({ people: [] }));
  find("people").replaceChildren(...people.map((name) => element("option", { value: name })));
  if (!person && people.length) person = people[0];
  find("user").value = person;
}

for (const view of views) {
  find(`tab-${view}`).addEventListener("click", show);
  find(`tab-${view}`).addEventListener("keydown", moveTab);
}
find("person").addEventListener("submit", guarded(async () => {
  person = find("user").value.trim();
  conversation = [];
  session = crypto.randomUUID();
  find("conversation").replaceChildren();
  await showFeed();
}));
find("search-form").addEventListener("submit", guarded(search));
find("chat-form").addEventListener("submit", guarded(chat));
find("record").addEventListener("click", guarded(toggleRecording));
find("chat-photo").addEventListener("change", () => { find("message").required = !find("chat-photo").files.length; });
guarded(async () => {
  await Promise.all([showPeople(), findAssistant()]);
  await showFeed();
})();
