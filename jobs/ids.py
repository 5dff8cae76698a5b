"""Identifiers: a prefix that says what it is, then 26 base32 characters that sort by time (the ULID layout)."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: no i, l, o, u
PREFIXES = (
    "proj",
    "key",
    "model",
    "data",
    "insp",
    "job",
    "art",
    "evt",
    "aud",
    "chk",
    "prof",
    "push",
    "rep",
    "hook",
    "msg",
    "try",
    "upl",
)


def new_id(prefix: str, *, at_ms: int | None = None) -> str:
    """A fresh id such as `job_01k…`: 48 bits of milliseconds, 80 random bits. Ids are not secrets.

    Args:
        at_ms: milliseconds since 1970; now where absent.

    Raises:
        ValueError: the prefix is not one of PREFIXES.
    """
    if prefix not in PREFIXES:
        raise ValueError(f"prefix {prefix!r} is not one of {', '.join(PREFIXES)}")
    number = (at_ms if at_ms is not None else time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
