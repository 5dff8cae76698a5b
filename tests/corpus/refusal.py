"""What comes back to a submission that is refused, and the ways to send one that is wrong in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.corpus import made
from tests.corpus.desk import Desk

Content = bytes | Callable[[], bytes]  # a large one is made when it is sent
Send = Callable[[Desk], httpx2.Response]


@dataclass(frozen=True)
class Refusal:
    """`finding` and `rows` are those of the first of `errors`, where an inspection made them."""

    send: Send
    status: int
    code: str
    param: str | None
    says: str
    finding: str | None = None
    rows: tuple[int, ...] = ()


def of_model(
    says: str, code: str = "model_invalid", finding: str | None = None, param: str = "/model", **files: Any
) -> Refusal:
    return Refusal(lambda desk: desk.submit(made.model(**files)), 422, code, param, says, finding)


def of_files(says: str, param: str, **named: bytes) -> Refusal:
    """Files that are refused as they are sent."""
    more = {name.replace("__", "."): content for name, content in named.items()}
    return Refusal(lambda desk: desk.submit({**made.model(), **more}), 422, "model_unsafe", param, says)


def of_rows(
    says: str,
    finding: str,
    content: Content,
    rows: tuple[int, ...] = (),
    format_: str = "csv",
    param: str = "/data/train",
    **fields: Any,
) -> Refusal:
    return Refusal(
        lambda desk: desk.submit(train=content if isinstance(content, bytes) else content(), format_=format_, **fields),
        422,
        "data_invalid",
        param,
        says,
        finding,
        rows,
    )


def of_request(says: str, param: str, code: str = "request_invalid", status: int = 422, **fields: Any) -> Refusal:
    return Refusal(lambda desk: desk.submit(**fields), status, code, param, says)


def of_body(says: str, param: str | None, text: str) -> Refusal:
    return Refusal(lambda desk: desk.submit(raw=text), 400, "json_invalid", param, says)


def of_bytes(says: str, content: bytes) -> Refusal:
    """A file of rows that is refused as it is sent."""
    return Refusal(lambda desk: desk.submit(train=content), 422, "data_invalid", None, says)
