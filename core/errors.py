"""Errors of the compression library: a stable code, an owner, and the field, value and legal form at fault.

`CompressionError.code` is what users branch on; it never changes its meaning. `retryable` says whether the same
input may succeed later (a lost machine), as opposed to never (a bad file).
"""

from __future__ import annotations

from typing import Any, ClassVar


class CompressionError(Exception):
    """Base of every error that a caller of core may want to handle.

    Args:
        detail: one sentence for people: what is wrong, with which value, and what would be right.
        param: JSON pointer of the field at fault, relative to the job request (`/target/parameter_ratio`).
        errors: several findings at once, each as `as_finding` makes it.
        finding: the code of docs/preflight.md that this is, where it has one of its own.
        rows: numbers of the rows at fault, from 1.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        param: str | None = None,
        errors: tuple[dict[str, Any], ...] = (),
        finding: str | None = None,
        rows: tuple[int, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        self.errors = errors or (() if finding is None else (as_finding(finding, detail, param, rows),))

    def as_dict(self) -> dict[str, Any]:
        """The error as it crosses a process boundary (JSON)."""
        return {
            "code": self.code,
            "detail": self.detail,
            "param": self.param,
            "errors": list(self.errors),
            "retryable": self.retryable,
        }


def as_finding(code: str, detail: str, param: str | None, rows: tuple[int, ...] = ()) -> dict[str, Any]:
    """One entry of `CompressionError.errors`: plain JSON values."""
    return {"detail": detail, "param": param, "code": code, "rows": list(rows)}


class RequestInvalid(CompressionError):
    """A field of the request has a value that nothing can be done with here."""

    code = "request_invalid"


class RecipeInvalid(CompressionError):
    """The steps do not make sense together, or a field lies outside its range."""

    code = "recipe_invalid"


class TargetImpossible(CompressionError):
    """No setting of the recipe reaches the target on this model."""

    code = "target_impossible"


class ModelUnsafe(CompressionError):
    """The upload holds something that could run code or reach outside its folder."""

    code = "model_unsafe"


class ModelUnsupported(CompressionError):
    """The architecture, task or head is not one that we know."""

    code = "model_unsupported"


class ModelInvalid(CompressionError):
    """The files do not form one loadable model."""

    code = "model_invalid"


class DataInvalid(CompressionError):
    """The labelled text cannot be used as sent."""

    code = "data_invalid"


class OutputUnavailable(CompressionError):
    """The worker lacks what writes or runs a format that was asked for in `outputs`."""

    code = "output_unavailable"


class OutOfMemory(CompressionError):
    """The device has, or had, too little memory."""

    code = "out_of_memory"
    retryable = True


class TrainingDiverged(CompressionError):
    """The loss became NaN or infinite."""

    code = "training_diverged"


class ExportFailed(CompressionError):
    """The compressed model could not be written in one of the promised forms."""

    code = "export_failed"


class VerificationFailed(CompressionError):
    """A written file does not give the outputs of the model in memory; it is never published."""

    code = "verification_failed"
