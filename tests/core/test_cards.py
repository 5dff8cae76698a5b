"""The page about methods is what the code says."""

from pathlib import Path

from core.cards import markdown
from core.catalogue import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m core.cards > docs/methods.md"


def test_every_field_of_every_method_is_on_the_page() -> None:
    text = markdown()
    for method in METHODS.values():
        assert all(f"| `{field}` |" in text for field in method.model_fields if field != "method")
