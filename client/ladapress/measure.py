"""A verified model on labelled rows again, by this side's own copy of what every artifact carries as verify.py.

Only model.onnx is run: a model file is data to ONNX Runtime, where pytorch/ may hold a program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ladapress.errors import LadapressError

NEEDS = ("numpy", "onnxruntime", "tokenizers")
FORM = "model.onnx"


def measure(folder: Path, rows: Path, columns: Mapping[str, str]) -> dict[str, Any]:
    """Answers against `parity.json`, the metric of `report.json`, milliseconds of one text on this machine.

    Args:
        folder: an artifact whose every byte has been verified.
        rows: the evaluation file, .csv, .jsonl or .parquet.
        columns: text, text_pair, label -> column, where they have other names than in the job.

    Raises:
        LadapressError: cannot_measure (something is not installed, the rows cannot be read), measured_otherwise.
    """
    if missing := [name for name in (*NEEDS, *_reader(rows)) if find_spec(name) is None]:
        raise _cannot(f"{', '.join(missing)} not installed: pip install 'ladapress[verify]'")
    from ladapress import shipped  # noqa: PLC0415 - numpy stands in the extra `verify` alone

    report = json.loads((folder / shipped.REPORT).read_text(encoding="utf-8"))
    try:
        texts, truth = shipped.read_rows(rows, report, dict(columns))
    except Exception as error:
        raise _cannot(f"{rows}: {type(error).__name__}: {error}; the rows that were measured are wanted") from None
    try:
        model = shipped.load_onnx(folder, 1)
        worst, allowed = shipped.apart(folder, FORM, model)
        value = shipped.score(model, folder, report, texts, truth)
        point = report["point"]
        told = point["student_by_file"][FORM]
    except Exception as error:
        raise _cannot(f"{folder / FORM}: {type(error).__name__}: {str(error)[:300]}") from None
    if not (worst <= allowed and abs(value - told) <= shipped.ELSEWHERE):  # also where one is NaN
        raise LadapressError.local(
            "measured_otherwise",
            f"{point['metric']} is {value:.6f} on {len(texts)} rows, report.json says {told:.6f}; answers differ by "
            f"{worst:.2g} from those before packing, {allowed:g} is allowed",
        )
    tokens = point["latency"][0]["tokens"]
    return {
        "metric": point["metric"],
        "rows": len(texts),
        "value": value,
        "reported": told,
        "to_the_digit": abs(value - told) < shipped.SAME,
        f"milliseconds_1x{tokens}": round(shipped.milliseconds(model, tokens), 3),
        "reported_milliseconds": round(point["latency"][0]["student_ms_p50"], 3),
    }


def _reader(rows: Path) -> tuple[str, ...]:
    return ("pyarrow",) if rows.suffix == ".parquet" else ()


def _cannot(detail: str) -> LadapressError:
    return LadapressError.local("cannot_measure", detail)
