"""`ladapress usage` and `ladapress webhooks ...`: what the project spent, and who is told of its events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Column, Table

from ladapress.client import Client
from ladapress.display import minute
from ladapress.listed import group, show, show_deleted, show_list
from ladapress.options import After, AsJson, Before, Count
from ladapress.types import WebhookDelivery, WebhookEndpoint

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="hook_...")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="The webhook-id of a message.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="TYPE", help="As job.succeeded; may be repeated. [default: all]"),
]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="For who reads the list.")]
Grace = Annotated[
    float | None, typer.Option("--grace-s", metavar="S", min=0, help="So long both secrets sign. [default: a day]")
]

webhooks = group("webhooks", "Who is told of events; alone it lists the endpoints.")


def usage(
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Of which month (UTC). [default: this]")] = None,
    as_json: AsJson = False,
) -> None:
    """What the project holds and spent: seconds of workers, bytes, jobs, and how much of each quota is left."""
    with Client() as client:
        show(client.usage(month=month), as_json=as_json)


@webhooks.command("list")
def _list(limit: Count = 20, after: After = None, before: Before = None, as_json: AsJson = False) -> None:
    """List endpoints, newest first."""
    with Client() as client:
        show_list(client.webhooks.list, _endpoints, limit=limit, as_json=as_json, after=after, before=before)


@webhooks.command("add", no_args_is_help=True)
def _add(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://...")],
    event: Events = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Have events sent to a URL. The secret that signs them is printed this once."""
    with Client() as client:
        show(client.webhooks.create(url=url, events=event, description=description), as_json=as_json)


@webhooks.command("show", no_args_is_help=True)
def _show(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Every field of one, but its secret."""
    with Client() as client:
        show(client.webhooks.get(endpoint_id), as_json=as_json)


@webhooks.command("update", no_args_is_help=True)
def _update(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(metavar="URL")] = None,
    event: Events = None,
    description: Description = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Disabled, its messages wait.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays."""
    with Client() as client:
        changed = client.webhooks.update(endpoint_id, url=url, events=event, description=description, enabled=enabled)
        show(changed, as_json=as_json)


@webhooks.command("rotate", no_args_is_help=True)
def _rotate(endpoint_id: EndpointId, grace_s: Grace = None, as_json: AsJson = False) -> None:
    """Make a new secret, which is printed this once."""
    with Client() as client:
        show(client.webhooks.rotate_secret(endpoint_id, grace_s=grace_s), as_json=as_json)


@webhooks.command("test", no_args_is_help=True)
def _test(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Send a ping; its delivery tells how it went."""
    with Client() as client:
        show(client.webhooks.test(endpoint_id), as_json=as_json)


@webhooks.command("deliveries", no_args_is_help=True)
def _deliveries(
    endpoint_id: EndpointId,
    status: Annotated[str | None, typer.Option(metavar="S", help="queued, running, succeeded or failed.")] = None,
    limit: Count = 20,
    after: After = None,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """What was, is and will be sent to an endpoint, newest first."""
    with Client() as client:

        def ask(**query: object) -> object:
            return client.webhooks.deliveries(endpoint_id, status=status, **query)  # type: ignore[arg-type]

        show_list(ask, _sent, limit=limit, as_json=as_json, after=after, before=before)  # type: ignore[arg-type]


@webhooks.command("replay", no_args_is_help=True)
def _replay(endpoint_id: EndpointId, delivery_id: DeliveryId, as_json: AsJson = False) -> None:
    """Send a message once more, under the same webhook-id."""
    with Client() as client:
        show(client.webhooks.replay(endpoint_id, delivery_id), as_json=as_json)


@webhooks.command("delete", no_args_is_help=True)
def _delete(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Forget an endpoint, its secret and its deliveries."""
    with Client() as client:
        client.webhooks.delete(endpoint_id)
    show_deleted(endpoint_id, as_json=as_json)


def _endpoints(rows: Sequence[WebhookEndpoint]) -> Table:
    made = _table("url", "events", "enabled")
    for row in rows:
        state = "yes" if row.enabled else f"no: {row.disabled_reason or 'by hand'}"
        made.add_row(row.id, row.url, " ".join(row.events) or "of jobs that name it", state, minute(row.created_at))
    return made


def _table(*columns: str) -> Table:
    """Nothing of it is cut off: ids and URLs are there to be copied."""
    folded = (Column(name, overflow="fold") for name in columns)
    return Table(Column("id", no_wrap=True), *folded, "created (UTC)", box=None, pad_edge=False)


def _sent(rows: Sequence[WebhookDelivery]) -> Table:
    made = _table("type", "about", "status")
    for row in rows:
        about = json.loads(row.message.model_dump_json())["data"].get("id", "")
        made.add_row(row.id, row.type, about, row.status, minute(row.created_at))
    return made
