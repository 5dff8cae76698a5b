"""From what happens to what is to be told, in the same transaction: all that is committed is told, and nothing else.

A delivery is written for each endpoint that is enabled at this moment. Nothing is sent from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.ids import new_id
from jobs.tables import Job, WebhookDelivery, WebhookEndpoint
from jobs.webhooks.kinds import OF_STATE, Kind


def tell_job(s: Session, job: Job, events: Sequence[Mapping[str, Any]]) -> None:
    """Tell of those rows of the event table that webhooks tell of."""
    for event in events:
        kind = OF_STATE.get(event["data"].get("state")) if event["type"] == "state" else None
        if kind is not None:
            chosen = job.spec.get("webhook") or {}  # specs of before have none
            also = {chosen["endpoint"]} if kind in chosen.get("events", ()) else set()
            tell(s, job.project_id, kind, {"object": "job", "id": job.id, "seq": event["seq"]}, also)


def tell(
    s: Session, project_id: str, kind: Kind, data: Mapping[str, Any], also: frozenset[str] | set[str] = frozenset()
) -> None:
    """Write a delivery for each endpoint of the project that wants this type, and for those of `also`."""
    # The lock keeps an endpoint from being deleted before its delivery is there; it stops nothing else.
    rows = select(WebhookEndpoint.id, WebhookEndpoint.events, db_now()).where(
        WebhookEndpoint.project_id == project_id, WebhookEndpoint.enabled
    )
    rows = rows.order_by(WebhookEndpoint.id).with_for_update(read=True, key_share=True)
    found = s.execute(rows).all()
    wanted = [(id_, now) for id_, events, now in found if id_ in also or {kind, "*"} & set(events)]
    if wanted:
        s.execute(insert(WebhookDelivery), [message(project_id, id_, kind, data, now) for id_, now in wanted])


def message(project_id: str, endpoint_id: str, kind: str, data: Mapping[str, Any], now: float) -> dict[str, Any]:
    """A delivery's columns. The body is thin: who wants to know more asks the API, which knows the newest."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": at, "data": data}, separators=(",", ":"))
    return {"id": new_id("msg"), "project_id": project_id, "endpoint_id": endpoint_id, "type": kind, "body": body}
