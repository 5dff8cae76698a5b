"""A TCP wire between client and service that can be told to cut, to flip a bit, or to hold bytes back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass


@dataclass
class Fault:
    """Acts once, on the first request that begins with `request`.

    `after` counts bytes of the answer, its head included. `kind`: "cut" closes the connection there, "flip" inverts the
    byte there and goes on.
    """

    request: bytes
    kind: str
    after: int = 0


class Wire:
    """Listens on a free port of loopback and forwards to `target_port`. `requests` holds the heads seen."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fault(self, request: str, kind: str, after: int = 0) -> None:
        self._faults.append(Fault(request.encode(), kind, after))

    @property
    def pending(self) -> int:
        """Faults that have not acted yet."""
        return len(self._faults)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target_port))
        armed: list[Fault] = []
        threading.Thread(target=self._answers, args=(client, server, armed), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(65536):
                head = data.split(b"\r\n\r\n", 1)[0]
                if head.split(b"\r\n", 1)[0].endswith(b"HTTP/1.1"):
                    self.requests.append(head.decode())
                with self._lock:
                    for fault in self._faults:
                        if data.startswith(fault.request):
                            self._faults.remove(fault)
                            armed.append(fault)
                            break
                server.sendall(data)
        _close(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, armed: list[Fault]) -> None:
        passed = 0
        with suppress(OSError):
            while data := server.recv(65536):
                if armed:
                    fault = armed[0]
                    place = fault.after - passed
                    passed += len(data)
                    if place < len(data):
                        armed.pop()
                        passed = 0
                        if fault.kind == "cut":
                            client.sendall(data[: max(place, 0)])
                            break
                        data = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
                client.sendall(data)
        _close(client, server)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
