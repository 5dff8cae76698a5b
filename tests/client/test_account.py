"""The project's own affairs over HTTP: what was used, what was done, who is told.

Keys are of test_contract.py: the first one that is made closes this service to all that have none.
"""

from __future__ import annotations

import pytest
from ladapress import Client, LadapressError

from tests.client.conftest import Uploaded


def test_usage_is_of_a_month(client: Client, uploaded: Uploaded) -> None:
    assert uploaded
    assert client.usage(month="2026-01").month == "2026-01"
    assert client.usage().stored_bytes


def test_a_webhook_is_made_changed_and_forgotten(client: Client) -> None:
    made = client.webhooks.create(url="https://93.184.216.34/hook", events=[], enabled=False)
    assert made.secret
    changed = client.webhooks.update(made.id, events=["job.failed"], description="on call")
    assert (changed.url, changed.events, changed.description) == (made.url, ["job.failed"], "on call")
    assert client.webhooks.rotate_secret(made.id, grace_s=0).secret != made.secret
    assert made.id in [one.id for one in client.webhooks.list()]
    assert list(client.webhooks.deliveries(made.id, status="failed")) == []
    client.webhooks.delete(made.id)
    done = [one.action for one in client.audit(object_id=made.id)]
    assert done[0] != done[-1]
    assert [one.action for one in client.audit(object_id=made.id, action=done[0])] == done[:1]
    with pytest.raises(LadapressError, match="no webhook"):
        client.webhooks.get(made.id)
