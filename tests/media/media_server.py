"""A web server on this machine that does what a test needs of it, good or bad."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from made_media import picture

PICTURE = picture("red")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name, _, rest = self.path.lstrip("/").partition("/")
        try:
            getattr(self, f"_{name}")(rest)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client had enough, as it should

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def _picture(self, _: str) -> None:
        self._start(Content_Length=len(PICTURE))
        self.wfile.write(PICTURE)

    def _to(self, place: str) -> None:
        self._start(302, Location=place)

    def _circle(self, _: str) -> None:
        self._start(302, Location="/circle")

    def _missing(self, _: str) -> None:
        self._start(404)

    def _stated(self, size: str) -> None:
        self._start(Content_Length=size)
        self.wfile.write(b"x")

    def _endless(self, _: str) -> None:
        self._start()
        while True:
            self.wfile.write(bytes(1 << 16))

    def _trickle(self, _: str) -> None:
        self._start()
        for _ in range(200):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def _header(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for _ in range(200):
            self.wfile.write(b"X: y\r\n")
            self.wfile.flush()
            time.sleep(0.05)

    def _silent(self, _: str) -> None:
        time.sleep(2)

    def _nonsense(self, _: str) -> None:
        self.wfile.write(b"this is no HTTP\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.asked: list[str] = []
        self.url = f"http://{address}:{self.server_port}"


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let a server answer in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
