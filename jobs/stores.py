"""The store of the settings: a folder, or an S3 bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from jobs.local_store import LocalStore
from jobs.settings import Settings
from jobs.store import Store

if TYPE_CHECKING:
    from obstore.store import S3Store as Bucket

RETRIES = 5  # of one request, ever later


def open_store(settings: Settings) -> Store:
    """The store that all processes with these settings share. Asks nobody anything yet."""
    url = settings.store_url
    if url is None:
        return LocalStore(settings.store_dir)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    return _bucket_store(settings, parts.netloc, parts.path.strip("/"))


def _bucket_store(settings: Settings, bucket: str, prefix: str) -> Store:
    from jobs.s3_store import S3Store  # noqa: PLC0415 - 16 MB that a folder does not need

    public = settings.store_public_endpoint
    return S3Store(
        settings.store_dir,
        bucket_at(settings, bucket, prefix, settings.store_endpoint),
        bucket_at(settings, bucket, prefix, public) if public else None,
    )


def bucket_at(settings: Settings, bucket: str, prefix: str | None, endpoint: str | None) -> Bucket:
    """A bucket by the credentials of the settings. What is not set obstore takes from AWS_* or the machine's role."""
    from obstore.store import S3Store as Opened  # noqa: PLC0415 - as above

    given: dict[str, Any] = {"endpoint": endpoint, "region": settings.store_region}
    for name in ("access_key_id", "secret_access_key"):
        secret = getattr(settings, f"store_{name}")
        given[name] = secret and secret.get_secret_value()
    return Opened(
        bucket,
        prefix=prefix or None,
        checksum_algorithm="sha256",  # the store refuses a part that changed on its way
        client_options={"allow_http": (endpoint or "").startswith("http://"), "timeout": "300s"},
        retry_config={"max_retries": RETRIES},
        **{name: value for name, value in given.items() if value is not None},
    )
