"""What can go wrong, as one exception that carries a problem (RFC 9457): from the service, or made here.

`LadapressError.code` is stable and is what programs branch on. Codes made on this side of the wire:
`unreachable` (no answer within the client's patience), `protocol` (an answer that is not ladapress's),
`damaged_download` (bytes that do not match their sha256), `timeout` (a wait that ran out), `usage` (local input
that can be seen to be wrong before anything is sent). Of an artifact that is verified: `manifest_invalid`,
`file_missing`, `file_unlisted`, `file_illegal` (a link), `size_mismatch`, `sha256_mismatch`, `signature_invalid`,
`not_signed`, `key_unknown` (of nobody who is trusted), `key_changed` (not a pinned one, nor endorsed by one),
`known_keys_invalid`, `unreadable`, `cannot_measure`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ladapress.types import Job


class Problem(BaseModel):
    """The body of every refusal, and `error` of a failed job. Unknown members are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str = ""
    status: int | None = None
    detail: str | None = None
    code: str = "unknown"
    param: str | None = None
    errors: tuple[dict[str, Any], ...] = ()
    request_id: str | None = None
    retryable: bool = False
    stage: str | None = None


class LadapressError(Exception):
    """A request was refused, could not be made, or its result could not be trusted."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(sentence(problem))
        self.problem = problem
        self.retry_after_s: float | None = None  # as the service asked for, where it did

    @property
    def code(self) -> str:
        """The stable code of the problem."""
        return self.problem.code

    @property
    def status(self) -> int | None:
        """The HTTP status; None for a problem made on this side."""
        return self.problem.status

    @classmethod
    def local(cls, code: str, detail: str, *, param: str | None = None, retryable: bool = False) -> LadapressError:
        """A problem that this side found."""
        return cls(Problem(title=detail, detail=detail, code=code, param=param, retryable=retryable))

    @classmethod
    def from_response(cls, status: int, body: bytes, *, url: str) -> LadapressError:
        """The problem in a refusal; a body that holds none (a proxy's page) becomes code `protocol`."""
        try:
            problem = Problem.model_validate_json(body)
        except ValidationError:
            text = " ".join(body[:200].decode("utf-8", "replace").split())
            detail = f"{url} answered {status}: {text}"
            title = f"HTTP {status}"
            return cls(Problem(title=title, status=status, code="protocol", detail=detail, retryable=status >= 500))
        return cls(problem.model_copy(update={"status": problem.status or status}))


def of_job(job: Job) -> Problem | None:
    """What a job failed of."""
    return None if job.error is None else Problem.model_validate(job.error.model_dump())


def sentence(problem: Problem) -> str:
    """One line for people: what is wrong, where, and every finding when there are several."""
    text = problem.detail or problem.title or problem.code
    if problem.param and problem.param not in text:
        text += f" (at {problem.param})"
    findings = [[str(item[name]) for name in ("param", "detail") if item.get(name)] for item in problem.errors]
    return "; ".join([text, *(": ".join(said) for said in findings if not all(word in text for word in said))])
