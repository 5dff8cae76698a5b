"""One POST to somebody's address: only where the guard permits, within one deadline, reading no more than is kept.

The guard's answer and the connection are one step: the name is looked up here, every address is judged, and the
socket goes to the very ones that were judged. TLS and the Host header keep the name. Nothing follows a redirect, no
proxy of the environment is asked, no body is decompressed.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore2

from jobs.service import Outcome
from jobs.webhooks.addresses import Blocked, Guard

logger = logging.getLogger(__name__)
KEPT = 1024  # bytes of an answer


class Sender:
    """Sends within a policy.

    Args:
        timeout_s: for everything: name, connection, TLS, request, answer.
        tls: whom to believe; the machine's authorities (and SSL_CERT_FILE) by default.
    """

    def __init__(self, guard: Guard, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._guard, self._timeout_s = guard, timeout_s
        self._tls = tls or ssl.create_default_context()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """What came of it. Raises nothing that a receiver could cause."""
        started = time.monotonic()
        status, error, answer = None, None, None
        try:
            status, answer = self._post(url, headers, body, started + self._timeout_s)
            error = _verdict(status)
        except Blocked as blocked:
            error = f"blocked: {blocked}"
        except httpcore2.TimeoutException:
            error = f"no answer within {self._timeout_s:g} seconds"
        except httpcore2.ConnectError as refused:
            error = f"could not connect: {refused}"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as broken:
            error = f"the connection broke: {broken or type(broken).__name__}"
        except Exception as unexpected:
            logger.exception("a webhook could not be sent")
            error = f"internal: {type(unexpected).__name__}"
        return Outcome(time.monotonic() - started, status, error, answer)

    def _post(self, url: str, headers: Mapping[str, str], body: bytes, deadline: float) -> tuple[int, str]:
        target = self._guard.check(url)  # again: the operator may have changed his mind
        address = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        sent = [("Host", target.netloc), ("Connection", "close"), *headers.items()]
        with (
            httpcore2.ConnectionPool(ssl_context=self._tls, network_backend=_Guarded(self._guard, deadline)) as pool,
            pool.stream("POST", address, headers=sent, content=body) as response,
        ):
            return response.status, _beginning(response)


class _Guarded(httpcore2.NetworkBackend):
    """Connects to permitted addresses only."""

    def __init__(self, guard: Guard, deadline: float) -> None:
        self._guard, self._deadline = guard, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - of this step; the deadline of the whole stands in its place
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            addresses = self._guard.resolve(host, port)
        except OSError:
            raise httpcore2.ConnectError("the host's name has no address") from None
        failed: Exception | None = None
        for address in addresses:
            try:
                stream = httpcore2.SyncBackend().connect_tcp(
                    address, port, _left(self._deadline), local_address, socket_options
                )
            except httpcore2.ConnectError as error:
                failed = error
            else:
                return _Timed(stream, self._deadline)
        raise failed or httpcore2.ConnectError("the host's name has no address")


class _Timed(httpcore2.NetworkStream):
    """A stream with one deadline for all that happens on it: who sends a byte now and then gains no time by it."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise httpcore2.ReadTimeout
    return left_s


def _beginning(response: httpcore2.Response) -> str:
    """The beginning of the body. The status was told already, so a body that breaks off or hangs changes nothing."""
    head = b""
    try:
        for part in response.iter_stream():
            head += part[: KEPT - len(head)]
            if len(head) >= KEPT:
                break
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
        pass
    return head.decode("utf-8", "replace")


def _verdict(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    return f"answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
