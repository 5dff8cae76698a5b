"""What a child may say: one JSON object a line, each of a known type and bounded in every field.

The child is not trusted (it reads strangers' files), so a line that does not fit is dropped, never repaired.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from core.estimate import Estimate
from core.findings import Finding, Lengths
from core.plan import ModelShape

MAX_LINE_BYTES = 8 << 20
_UNFIT = (ValueError, RecursionError, ValidationError)


class Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Ready(Said):
    """The libraries are loaded; an order may come. `devices` are those of `resources.device` that work here."""

    type: Literal["ready"]
    network_closed: bool
    files_closed: bool
    devices: list[Literal["cpu", "cuda"]]


class Stage(Said):
    type: Literal["stage"]
    stage: str = Field(max_length=40)


class Progress(Said):
    """`fraction` is of the whole job."""

    type: Literal["progress"]
    stage: str | None = Field(None, max_length=40)
    fraction: float = Field(ge=0, le=1)
    step: int = Field(ge=0, lt=2**53)
    steps: int = Field(ge=0, lt=2**53)


class Metric(Said):
    """`value` is None where it was not finite."""

    type: Literal["metric"]
    name: str = Field(max_length=80)
    value: float | None
    step: int = Field(ge=0, lt=2**53)


class Warned(Said):
    type: Literal["warning"]
    code: str = Field(max_length=80)
    detail: str = Field(max_length=4_000)


class Log(Said):
    type: Literal["log"]
    line: str = Field(max_length=4_000)


class Folder(Said):
    """One delivered point: a folder below the order's `out`, paths relative to that folder, its `core.report.Point`."""

    dir: str = Field(max_length=80)
    files: list[str] = Field(min_length=1, max_length=200)
    report: dict[str, Any]


class Checkpoint(Said):
    """A whole checkpoint: a folder below the order's `out`, and the names of the files in it."""

    type: Literal["checkpoint"]
    dir: str = Field(max_length=80)
    files: list[str] = Field(min_length=1, max_length=64)


class Profiled(Said):
    """What was measured of the model, a `core.profile.Profile`."""

    type: Literal["profiled"]
    profile: dict[str, Any]


class Result(Said):
    """Without report and points of a dry run."""

    type: Literal["result"]
    report: dict[str, Any] | None
    points: list[Folder] = Field(max_length=64)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Result:
        if (self.report is None) != (not self.points):
            raise ValueError("a report stands for points")
        return self


class Fault(Said):
    """`CompressionError.as_dict()`."""

    code: str = Field(max_length=80)
    detail: str = Field(max_length=8_000)
    param: str | None = Field(None, max_length=400)
    errors: list[dict[str, Any]] = Field([], max_length=100)
    retryable: bool = False


class Judgement(Said):
    """`core.inspect.Verdict`."""

    ok: bool
    error: Fault | None = None
    shape: ModelShape | None = None
    rows: dict[str, int] = {}
    findings: list[Finding] = Field([], max_length=100)
    classes: dict[str, dict[str, int]] = {}
    lengths: dict[str, Lengths] = {}
    estimate: Estimate | None = None


class Verdict(Said):
    type: Literal["verdict"]
    verdict: Judgement


class Sampled(Said):
    """What the teacher's answers say: after the verdict of an inspection that asked for them."""

    type: Literal["sampled"]
    findings: list[Finding] = Field(max_length=10)


class Failed(Fault):
    type: Literal["error"]


Event = Ready | Stage | Progress | Metric | Warned | Log | Checkpoint | Profiled | Result | Verdict | Sampled | Failed
Kept = Checkpoint | Profiled
Last = Result | Verdict | Sampled | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse(line: bytes) -> Event | None:
    """One line of a child; None where it is not a legal event."""
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        text = json.dumps(value, ensure_ascii=False)
        text.encode("utf-8")  # a lone surrogate fails here
        return None if "\\u0000" in text else _EVENT.validate_json(line)
    except _UNFIT:
        return None


def render(event: dict[str, Any]) -> bytes:
    """The line of one event, with what no database or JSON parser takes replaced: NaN, NUL, lone surrogates."""
    text = json.dumps(_finite(event), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("\\u0000", "\\ufffd").encode("utf-8", "replace") + b"\n"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
