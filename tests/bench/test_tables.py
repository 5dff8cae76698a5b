"""What docs/results.md says is what the rows say."""

from bench import tables


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
