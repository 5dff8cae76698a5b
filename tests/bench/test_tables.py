"""What docs/results.md says is what the rows say."""

import numpy as np

from bench import tables
from bench.plots import interval
from core.metrics import score


def test_the_page_is_made_of_the_rows() -> None:
    """After new rows: `python -m bench.tables`."""
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()


def test_every_row_is_on_the_page() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    rows = list(tables.RESULTS.glob("*/*.seed*.json"))
    assert rows
    for path in rows:
        name, _, _ = path.name.partition(".seed")
        assert f"| {name} |" in text


def test_an_interval_is_in_the_metric_of_its_task() -> None:
    """And holds what it is an interval of."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    guesses = np.where(rng.random(400) < 0.7, labels, 1 - labels)
    for metric in ("accuracy", "mcc"):
        student = score(metric, np.eye(2)[guesses], labels.tolist())
        point = {"metric": metric, "teacher": 0.8}
        low, high = interval({"report": {"point": point}, "labels": labels.tolist(), "predictions": guesses.tolist()})
        assert low < student / 0.8 < high
        assert high - low < 0.3
