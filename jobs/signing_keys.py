"""The public half of every key that ever signed here: what `/.well-known/ladapress-keys.json` says.

A key's row is never removed: artifacts that it signed are still out there. No private key is in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.db import insert_once
from jobs.tables import SigningKey as Row

if TYPE_CHECKING:  # the api reads rows and needs no cryptography
    from jobs.signing import SigningKey


def register(s: Session, key: SigningKey, *, endorsed_by: SigningKey | None = None) -> None:
    """Make a key known, so that what it signed can be checked. Again changes nothing.

    Args:
        endorsed_by: the key that it takes over from. Who trusts that one can trust this one, too.
    """
    insert_once(
        s,
        Row,
        id=key.kid,
        x=key.x,
        created_at=db_now(),
        endorsed_by=endorsed_by and endorsed_by.kid,
        endorsement=endorsed_by and endorsed_by.endorse(key.kid),
    )


def retire(s: Session, kid: str) -> None:
    """Mark a key that signs no more; what it signed stays valid. Again changes nothing."""
    s.execute(update(Row).where(Row.id == kid, Row.retired_at.is_(None)).values(retired_at=db_now()))


def known(s: Session) -> Sequence[Row]:
    """Every key, oldest first."""
    return s.scalars(select(Row).order_by(Row.created_at, Row.id)).all()
