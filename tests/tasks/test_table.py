"""docs/tasks.md is of the tasks, metrics and families that there are, and every cell of it is green."""

import re

from core.family import FAMILIES
from core.task import TASKS
from tests.tasks.table import ROOT, tasks


def test_the_page_is_of_what_there_is() -> None:
    page = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    assert tasks() in page, "run: python -m tests.tasks.table > docs/tasks.md"
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [a-z, ]+((?: \| [^|]+)+) \|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == [*FAMILIES]
    for name, found in rows:
        numbers = found.strip(" |").split(" | ")
        assert len(numbers) == len(TASKS)
        assert all(number.isdigit() and int(number) >= 7 for number in numbers), name
