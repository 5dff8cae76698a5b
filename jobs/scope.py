"""The tenant scope: who asks, and the only way to reach rows on behalf of a user.

Another project's id and an absent id give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session

from jobs.ids import new_id
from jobs.problem import refuse
from jobs.tables import Audit

DEFAULT_PROJECT = "proj_" + 26 * "0"  # made by the first migration; whoever asks without keys is in it
PROJECT_HEADER = "Ladapress-Project"  # of a caller whose token names several projects
# What a key may be narrowed to: the tags of the routes. Whatever has another tag is open to every key of the project.
AREAS = ("models", "datasets", "inspections", "plans", "jobs", "uploads", "artifacts", "pushes", "webhooks")
ROLES = ("read", "write", "admin")  # over every area; admin: keys and the audit log, and nothing else
SCOPES = (*ROLES, *(f"{area}:{action}" for area in AREAS for action in ("read", "write")))


Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True)
class Scope:
    """A project, and what the caller may do in it. `who` stands in the audit rows.

    `quotas`: of the settings, by name; empty where nothing is counted (workers, tests). See `jobs.quotas`.
    """

    project_id: str = DEFAULT_PROJECT
    who: str = "local"
    scopes: frozenset[str] = frozenset(ROLES)
    quotas: Mapping[str, int | None] = field(default_factory=dict, compare=False)

    def need(self, action: str, area: str | None = None) -> None:
        """Raises Refused (forbidden) where the key may not do `action` (read, write, admin), in `area` if given."""
        open_to_all = action == "read" and area is not None and area not in AREAS
        narrow = f"{area}:{action}" if area in AREAS else action
        if action in self.scopes or narrow in self.scopes or open_to_all:
            return
        wanted = " or ".join(repr(one) for one in dict.fromkeys((action, narrow)))
        raise refuse("forbidden", f"the key lacks the scope {wanted}; it has: {', '.join(sorted(self.scopes))}")


def scoped(table: type[Row], scope: Scope) -> Select[Row]:
    """`select(table)` within the project."""
    return select(table).where(table.project_id == scope.project_id)


def get(s: Session, scope: Scope, table: type[Row], id_: str, *, lock: bool = False, param: str | None = None) -> Row:
    """One row of the project by id; `lock` holds it against change until the transaction ends.

    Raises:
        Refused: not_found, the same for absent ids and for ids of other projects.
    """
    query = scoped(table, scope).where(table.id == id_).execution_options(populate_existing=True)
    found: Row | None = (
        s.scalars(query.with_for_update() if lock else query).one_or_none() if can_be_stored(id_) else None
    )
    if found is None:
        raise refuse(
            "not_found", f"no {table.__tablename__.replace('_', ' ')} has this id in this project", param=param
        )
    return found


def page(
    s: Session,
    scope: Scope,
    table: type[Row],
    *,
    limit: int = 20,
    after: str | None = None,
    before: str | None = None,
    created_after: float | None = None,
    created_before: float | None = None,
    where: Sequence[ColumnElement[bool]] = (),
    **equal: Any,
) -> tuple[list[Row], bool]:
    """Newest first, those that follow the id `after`, or those just before the id `before`; and whether there are
    more in that direction. `where` and `equal` (of columns) filter; times are seconds since 1970."""
    query = scoped(table, scope).filter_by(**equal).where(*where).limit(limit + 1)
    made = table.created_at if hasattr(table, "created_at") else table.at
    if created_after is not None:
        query = query.where(made >= created_after)
    if created_before is not None:
        query = query.where(made < created_before)
    if not can_be_stored((after or "") + (before or "")):
        return [], False
    if before is not None:
        rows = list(s.scalars(query.where(table.id > before).order_by(table.id)))
        return rows[:limit][::-1], len(rows) > limit
    if after is not None:
        query = query.where(table.id < after)
    rows = list(s.scalars(query.order_by(table.id.desc())))
    return rows[:limit], len(rows) > limit


def has_pair(s: Session, column: ColumnElement[Any], key: str, value: str) -> ColumnElement[bool]:
    """Whether a JSON column, an object of strings, holds this pair. Keys may be any text, so no path is spelled."""
    if s.get_bind().dialect.name == "sqlite":
        pairs = func.json_each(column).table_valued("key", "value", name="pair")
    else:
        pairs = func.json_each_text(column).table_valued("key", "value", name="pair").render_derived()
    return exists().select_from(pairs).where(pairs.c.key == key, pairs.c.value == value)


def audit(s: Session, scope: Scope, action: str, object_id: str) -> None:
    """Append to the audit log, in the caller's transaction."""
    s.add(Audit(id=new_id("aud"), project_id=scope.project_id, who=scope.who, action=action, object=object_id))


def can_be_stored(text: str) -> bool:
    """PostgreSQL refuses these with an error of its own."""
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
