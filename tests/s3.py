"""An S3-compatible server of the tests' own: moto in a thread, with a bucket and time that can be turned back."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobs.settings import Settings

BUCKET = "ladapress-test"


@dataclass
class S3:
    """Where it listens, and what lies in its bucket."""

    url: str

    def settings(self, folder: Path, **fields: Any) -> Settings:
        """Of a service whose store is below a prefix of the bucket named after `folder`."""
        given: dict[str, Any] = {
            "store_url": f"s3://{BUCKET}/{folder.name}",
            "store_endpoint": self.url,
            "store_region": "us-east-1",
            "store_access_key_id": "test-key",
            "store_secret_access_key": "test-secret",
        }
        return Settings(data_dir=folder, **{**given, **fields})

    @property
    def objects(self) -> dict[str, Any]:
        """moto's own, by key; every version of the bucket."""
        from moto.s3.models import s3_backends

        (account,) = s3_backends
        keys = s3_backends[account]["aws"].buckets[BUCKET].keys
        return dict(keys.items())

    def below(self, prefix: str | None) -> dict[str, Any]:
        """Those below a prefix, by the rest of their keys."""
        start = f"{prefix}/"
        return {key.removeprefix(start): found for key, found in self.objects.items() if key.startswith(start)}

    def age(self, end: str, seconds: float) -> None:
        """Make the objects whose key ends so look as if they had been put long ago."""
        for key, found in self.objects.items():
            if key.endswith(end):
                found.last_modified -= timedelta(seconds=seconds)

    def uploads(self) -> int:
        """Multipart uploads that were begun and neither completed nor aborted."""
        from moto.s3.models import s3_backends

        (account,) = s3_backends
        return len(s3_backends[account]["aws"].buckets[BUCKET].multiparts)


@contextmanager
def server() -> Iterator[S3]:
    """Run one until the context ends."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield S3(url)
    finally:
        moto.stop()
