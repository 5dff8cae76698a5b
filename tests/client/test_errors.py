"""What an error says to people: every finding once."""

from __future__ import annotations

import pytest
from ladapress import LadapressError, Problem

ONE = {"param": "/target/parameter_ratio", "detail": "Input should be greater than 1; got 0.5"}
OTHER = {"param": "/seed", "detail": "Input should be a valid integer"}


@pytest.mark.parametrize(
    ("detail", "errors", "said"),
    [
        (f"{ONE['param']}: {ONE['detail']}", [ONE], "/target/parameter_ratio: Input should be greater than 1; got 0.5"),
        (
            f"{ONE['param']}: {ONE['detail']}",
            [ONE, OTHER],
            "/target/parameter_ratio: Input should be greater than 1; got 0.5; /seed: Input should be a valid integer",
        ),
        ("two things", [ONE, {"detail": "bad"}], f"two things; {ONE['param']}: {ONE['detail']}; bad"),
        ("as it is", [{}], "as it is"),
    ],
)
def test_a_finding_is_told_once(detail: str, errors: list[dict[str, str]], said: str) -> None:
    assert str(LadapressError(Problem(detail=detail, errors=tuple(errors)))) == said
