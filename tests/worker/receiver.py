"""A receiver of webhooks that behaves as its paths say, over real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

CHUNK = bytes(65_536)
HUGE = 2 << 30


@dataclass
class Got:
    """One message as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def signed_by(self, secret: str) -> bool:
        """What the public library says."""
        try:
            Webhook(secret).verify(self.body, self.headers)
        except WebhookVerificationError:
            return False
        return True


@dataclass
class Receiver:
    """What arrived, and what a test decides. `sent`: bytes of huge answers that the other side let us send."""

    url: str
    got: list[Got] = field(default_factory=list)
    waiting: int = 0
    most: int = 0  # requests to /held at once
    sent: int = 0
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, path: str) -> list[Got]:
        return [each for each in self.got if each.path == path]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver, headers = self.server.receiver, {name.lower(): value for name, value in self.headers.items()}
        got = Got(self.path, headers, self.rfile.read(int(headers["content-length"])))
        with receiver.lock:
            receiver.got.append(got)
            receiver.seen[got.path, got.id] += 1
            first = receiver.seen[got.path, got.id] == 1
        with suppress(OSError):
            self._answer(self.path.strip("/"), first, receiver)

    def _answer(self, how: str, first: bool, receiver: Receiver) -> None:  # noqa: PLR0912 - a list of manners
        match how:
            case "shy":
                self._say(500 if first else 200)
            case "late":  # hangs once, then answers
                if first:
                    receiver.release.wait(30)
                self._say(200)
            case "held":
                with receiver.lock:
                    receiver.waiting += 1
                    receiver.most = max(receiver.most, receiver.waiting)
                receiver.release.wait(30)
                with receiver.lock:
                    receiver.waiting -= 1
                self._say(200)
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "/ok")
                self.end_headers()
            case "huge":
                self.send_response(200)
                self.send_header("Content-Length", str(HUGE))
                self.end_headers()
                for _ in range(HUGE // len(CHUNK)):
                    self.wfile.write(CHUNK)
                    receiver.sent += len(CHUNK)
            case "headers":  # without an end
                self.send_response(200)
                self.flush_headers()
                while True:
                    self.wfile.write(b"X-More: " + b"x" * 4_000 + b"\r\n")
                    receiver.sent += 4_010
            case "drip":  # a byte now and then: each read succeeds, the answer never comes
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                    self.wfile.write(bytes((byte,)))
                    if receiver.release.wait(0.02):
                        return
            case "broken":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
            case "nonsense":
                self.wfile.write(b"\x00\xff this is no HTTP\r\n\r\n")
            case "hangup":
                self.connection.shutdown(socket.SHUT_RDWR)
            case _:
                self._say(int(how) if how.isdecimal() else 200)

    def _say(self, status: int) -> None:
        body = b"thanks\x00" * 1_000
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Quiet."""


@contextmanager
def receiver(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """One on loopback."""
    server = _Server(("127.0.0.1", port), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.receiver
    finally:
        server.receiver.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def closed_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
