"""The one clock: the database's. Worker clocks may be an hour off and no lease ends early."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement


class db_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 (UTC) when the statement runs, as a double."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "postgresql")
def _postgresql(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    # clock_timestamp, not now(): the latter stands still for the whole transaction.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(db_now, "sqlite")
def _sqlite(_element: db_now, _compiler: Any, **_kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def after(seconds: float | None) -> ColumnElement[float] | None:
    """So long from now; None = never."""
    return None if seconds is None else db_now() + seconds


def now(s: Session) -> float:
    """The same as a number, for what SQL is not to decide."""
    return s.scalars(select(db_now())).one()
