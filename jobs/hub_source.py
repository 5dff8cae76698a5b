"""Repositories of a Hugging Face hub as a source: `hf://OWNER/NAME[@REVISION][/FILE]`, `hf://datasets/OWNER/NAME/...`.

What the address leads to is read by the hub's own library, as it is at that moment. Nothing of it is run, and nothing
is kept on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jobs.problem import refuse
from jobs.settings import Settings
from jobs.store import CHUNK

TIMEOUT_S = 30.0
UNKNOWN = (401, 403, 404)  # a private repository is none to who may not read it


def is_open(path: str, allowed: tuple[str, ...]) -> bool:
    """Whether OWNER/NAME[@REVISION]/... lies below an entry of the settings, `OWNER` or `OWNER/NAME`."""
    kind, _, rest = path.partition("/") if path.startswith("datasets/") else ("", "", path)
    owner, _, after = rest.partition("/")
    name = after.partition("/")[0].partition("@")[0]
    if not owner or not name or "@" in owner:
        return False
    return any(f"{kind}/{one}".strip("/") in allowed for one in (owner, f"{owner}/{name}"))


def listed(settings: Settings, path: str) -> list[tuple[str, int, Callable[[], Iterator[bytes]]]]:
    """(bare name, bytes, content) of the files at the top of a repository or folder, or of the one file named.

    Raises:
        FileNotFoundError: there is none that the operator's token may read.
        Refused: unavailable, where the hub does not answer.
    """
    import httpx2  # noqa: PLC0415 - most services do without
    import huggingface_hub as hub  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    # The library's own factory looks at HF_HUB_OFFLINE, which says something else: whether models load from the net.
    hub.set_client_factory(lambda: httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True))
    token = settings.hub_token.get_secret_value() if settings.hub_token else False
    files = hub.HfFileSystem(endpoint=settings.hub_endpoint, token=token, use_listings_cache=False)

    def asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in UNKNOWN:
                raise FileNotFoundError(path) from None
            raise refuse("unavailable", "the hub does not answer as it should", retryable=True) from None
        except httpx2.TransportError:
            raise refuse("unavailable", "the hub does not answer", retryable=True) from None

    def content(name: str) -> Callable[[], Iterator[bytes]]:
        def read() -> Iterator[bytes]:
            with asked(lambda: files.open(name, "rb", block_size=0)) as file:
                while chunk := asked(lambda: file.read(CHUNK)):
                    yield chunk

        return read

    depth = 3 if path.startswith("datasets/") else 2
    folder, _, last = path.rpartition("/")
    if path.count("/") >= depth:  # below a repository: a file of its folder, or a folder
        near = asked(lambda: files.ls(folder, detail=True, refresh=True))
        found = [one for one in near if one["type"] == "file" and one["name"].rpartition("/")[2] == last]
    else:
        found = []
    if not found:
        found = [one for one in asked(lambda: files.ls(path, detail=True, refresh=True)) if one["type"] == "file"]
    return [(one["name"].rpartition("/")[2], int(one["size"]), content(one["name"])) for one in found]
