"""One shape for every refusal: RFC 9457 problem details. The HTTP body and `job.error` are the same object.

`CODES` is the one table of codes; a code never changes its meaning, its status or its title.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.errors import CompressionError

MAX_DETAIL = 8_000  # characters; a log tail of 4 KB fits
CODES: dict[str, tuple[int, str]] = {
    "json_invalid": (400, "The body is not strict UTF-8 JSON"),
    "header_invalid": (400, "A header has no legal value"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "The API key lacks the scope for this"),
    "quota_used_up": (403, "A quota of the project is used up, and waiting does not help soon"),
    "origin_refused": (403, "Without API keys only this machine is served"),
    "not_found": (404, "No such object"),
    "method_not_allowed": (405, "The route does not know this method"),
    "not_acceptable": (406, "None of the accepted media types can be produced"),
    "request_timeout": (408, "The body came too slowly"),
    "job_finished": (409, "The job has ended"),
    "job_succeeded": (409, "The job has succeeded"),
    "job_not_paused": (409, "The job is not paused"),
    "job_not_finished": (409, "The job has not ended"),
    "idempotency_in_flight": (409, "The first request with this idempotency key is still at work"),
    "secret_shown": (409, "The answer held a secret that is shown once"),
    "in_use": (409, "A job that has not ended needs this object"),
    "key_ended": (409, "The API key was revoked or has expired"),
    "model_not_ready": (409, "Files of the model are missing"),
    "model_complete": (409, "The model has all its files"),
    "expired": (410, "The files are gone"),
    "endpoint_disabled": (409, "The webhook endpoint is disabled"),
    "endpoint_limit": (409, "The project has as many webhook endpoints as it may have"),
    "upload_offset": (409, "The upload stands at another offset"),
    "upload_busy": (409, "Another request is writing to the upload"),
    "upload_lost": (410, "The bytes of the upload are gone"),
    "tus_version": (412, "The tus version is not supported"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "range_not_satisfiable": (416, "The range lies outside the file"),
    "request_invalid": (422, "The request does not follow the schema"),
    "sha256_mismatch": (422, "The bytes do not have the announced sha256"),
    "size_mismatch": (422, "The bytes do not have the announced size"),
    "output_unavailable": (422, "No worker can make a format that was asked for"),
    "idempotency_key_reused": (422, "The idempotency key was used with another body"),
    "recipe_invalid": (422, "The recipe makes no sense"),
    "target_impossible": (422, "The recipe cannot reach the target on this model"),
    "source_unknown": (422, "No such source is open to the service"),
    "registry_unknown": (422, "No registry of this name is open to the project"),
    "model_unsafe": (422, "The model holds something that could run code"),
    "model_unsupported": (422, "The model is of a kind that is not supported"),
    "model_invalid": (422, "The files do not form one loadable model"),
    "data_invalid": (422, "The labelled text cannot be used"),
    "too_many_requests": (429, "Too many requests"),
    "rate_limited": (429, "The rate limit is reached"),
    "quota_exceeded": (429, "A quota of the project is reached; room comes as its jobs go on"),
    "checksum_mismatch": (460, "The bytes of the request do not have the announced checksum"),
    "internal": (500, "Something broke on our side"),
    "out_of_memory": (500, "The device ran out of memory"),
    "training_diverged": (500, "The loss became NaN or infinite"),
    "export_failed": (500, "The compressed model could not be written"),
    "verification_failed": (500, "A written file does not give the outputs of the model in memory"),
    "worker_lost": (500, "The worker was lost too often"),
    "artifact_damaged": (500, "A stored file is not the one that was published"),
    "registry_refused": (502, "The registry refused the artifact"),
    "registry_unreachable": (502, "The registry does not answer"),
    "unavailable": (503, "A part of the service does not answer"),
    "timeout": (504, "The job ran longer than limits.max_runtime_s"),
    "pending_timeout": (504, "The job waited longer than limits.max_pending_s"),
    "storage_full": (507, "The store has no room left"),
}


class Problem(BaseModel):
    """`application/problem+json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="URI of the kind of problem: urn:ladapress:problem:<code>.")
    title: str = Field(description="The same sentence for every problem of this code.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What is wrong here, with which value, and what would be right.")
    code: str = Field(description="What programs branch on.")
    param: str | None = Field(None, description="JSON pointer of the field at fault.")
    errors: tuple[dict[str, Any], ...] = Field((), description="Several findings: {detail, param} each.")
    request_id: str | None = None
    retryable: bool = Field(False, description="The same request may succeed later.")
    stage: str | None = Field(None, description="Where a job was when it failed.")

    @classmethod
    def of(cls, code: str, detail: str, **fields: Any) -> Problem:
        """A problem of a known code. Raises KeyError on a code that is not in CODES."""
        status, title = CODES[code]
        # PostgreSQL stores no NUL, and a detail may quote a hostile file.
        text = detail.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:MAX_DETAIL]
        return cls(type=f"urn:ladapress:problem:{code}", title=title, status=status, detail=text, code=code, **fields)

    @classmethod
    def from_error(cls, error: CompressionError | Mapping[str, Any], *, stage: str | None = None) -> Problem:
        """The problem of an error of core, or of its `as_dict()` as it came over the pipe."""
        raw = error.as_dict() if isinstance(error, CompressionError) else error
        code = raw.get("code")
        return cls.of(
            code if code in CODES else "internal",
            str(raw.get("detail", "")),
            param=raw.get("param"),
            errors=tuple(raw.get("errors") or ()),
            retryable=bool(raw.get("retryable", False)),
            stage=stage,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, as stored in `job.error` and sent as a body."""
        return self.model_dump(mode="json")


class Refused(Exception):
    """Raised by services; carries the problem that the caller gets. The transaction rolls back."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refuse(code: str, detail: str, **fields: Any) -> Refused:
    """`raise refuse("not_found", ...)`."""
    return Refused(Problem.of(code, detail, **fields))
