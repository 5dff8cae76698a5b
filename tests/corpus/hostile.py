"""Uploads made to do harm, with what refuses each. HEAVY ones take seconds to make."""

from __future__ import annotations

from tests.corpus import hostile_names, hostile_rows, hostile_settings, hostile_weights

HOSTILE = {
    f"{kind}: {name}": case
    for kind, found in (
        ("file", hostile_names.HOSTILE),
        ("weights", hostile_weights.HOSTILE),
        ("settings", hostile_settings.HOSTILE),
        ("rows", hostile_rows.HOSTILE),
    )
    for name, case in found.items()
}
HEAVY = {**hostile_weights.HEAVY, **hostile_settings.HEAVY, **hostile_rows.HEAVY}
