"""`Client`: the whole HTTP interface as plain calls that return typed objects.

client = Client()
model = client.models.upload("my-bert")
train, evaluation = client.datasets.upload("train.csv"), client.datasets.upload("eval.csv")
job = client.jobs.create(model=model.id, train=train.id, eval=evaluation.id, preset="ladabert-3")
job = client.jobs.wait(job.id)
client.artifacts.download(job.points[0].artifact_id, "my-small-bert")
"""

from __future__ import annotations

import os
from types import TracebackType

import httpx2

from ladapress import types
from ladapress.errors import LadapressError
from ladapress.inputs import Datasets, Models
from ladapress.jobs import Artifacts, Jobs, Plans
from ladapress.keys import Keys, key_set
from ladapress.pushes import Pushes
from ladapress.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8642"


class Client:
    """A connection to one service. Use as a context manager, or call `close`.

    Args:
        url: address of the service; LADAPRESS_URL, else http://127.0.0.1:8642.
        api_key: LADAPRESS_API_KEY where None; a keyless loopback service needs none.
        patience_s: how long a request is retried while the service does not answer.
        handler: httpx2 transport used instead of the network (tests, proxies).
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 30.0,
        handler: httpx2.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            url or os.environ.get("LADAPRESS_URL") or DEFAULT_URL,
            (api_key or os.environ.get("LADAPRESS_API_KEY", "")).strip() or None,
            patience_s=patience_s,
            handler=handler,
        )
        self.models = Models(self._transport)
        self.datasets = Datasets(self._transport)
        self.plans = Plans(self._transport)
        self.jobs = Jobs(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.pushes = Pushes(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back."""
        self._transport.close()

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._transport.url

    def methods(self) -> types.MethodList:
        """What a step of a recipe may be."""
        return types.MethodList.model_validate(self._transport.json("GET", "/v1/methods"))

    def signing_keys(self) -> Keys:
        """The public keys that the service says it signs artifacts with, by kid; retired ones too."""
        said = self._transport.json("GET", "/.well-known/ladapress-keys.json")
        try:
            return key_set(said["keys"])
        except (TypeError, KeyError, AttributeError):
            raise LadapressError.local("protocol", f"{self.url} answers with something that is no JWK Set") from None

    def presets(self) -> types.PresetList:
        """Recipes with names."""
        return types.PresetList.model_validate(self._transport.json("GET", "/v1/presets"))
