"""Targets that a bench draws: by seed, inside the front, and of the kind that was asked for."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bench.targets import HALF_A_POINT, INSIDE, drawn, front
from core.recipe import Target

KNOWN = {
    "small": [(4.0, 1.0), (8.0, 0.995), (30.0, 0.98)],
    "fast": [(2.0, 0.999), (6.0, 0.97)],
}


@given(st.integers(0, 10_000))
def test_targets_lie_inside_the_front(seed: int) -> None:
    for kind, axis, low, high in (("bytes", "bytes_ratio", 4, 30), ("latency", "latency_ratio", 2, 6)):
        preset, asked = drawn(kind, KNOWN, seed)  # type: ignore[arg-type]
        assert drawn(kind, KNOWN, seed) == (preset, asked)  # type: ignore[arg-type]
        assert INSIDE * low - 1e-3 <= asked[axis] <= INSIDE * high + 1e-3
    preset, asked = drawn("retention", KNOWN, seed)
    assert KNOWN[preset][-1][1] - HALF_A_POINT - 1e-4 <= asked["min_retention"] <= 1 - HALF_A_POINT + 1e-4
    _, asked = drawn("unreachable", KNOWN, seed)
    assert asked["min_retention"] == 1
    assert Target.model_validate(asked).given() == asked


def test_a_front_is_the_mean_over_seeds_and_never_rises(tmp_path: Path) -> None:
    def line(task: str, ratio: float, retention: float, system: str = "small-front") -> str:
        point = {"target": {"bytes_ratio": ratio}, "retention": retention}
        return json.dumps({"task": task, "system": f"{system}@{ratio:g}", "report": {"point": point}})

    file = tmp_path / "front.jsonl"
    lines = [line("t", 4.0, 0.98), line("t", 8.0, 0.99), line("t", 8.0, 1.01, "small"), line("other", 4.0, 0.1)]
    lines.append(line("t", 4.0, 0.1, "smaller"))
    file.write_text("\n".join(lines), encoding="utf-8")
    assert front([file], "t", "small") == [(4.0, 1.0), (8.0, 1.0)]
    assert front([file], "t", "fast") == []
