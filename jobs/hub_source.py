"""Repositories of a Hugging Face hub as a source: `hf://OWNER/NAME[@REVISION][/FILE]`, `hf://datasets/OWNER/NAME/...`.

What a repository holds is asked with the hub's own library; its files come by plain HTTP, as they are at that moment.
Nothing of it is run, and nothing is kept on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jobs.problem import refuse
from jobs.settings import Settings
from jobs.store import CHUNK

TIMEOUT_S = 30.0
UNKNOWN = (401, 403, 404)  # a private repository is none to who may not read it
Listed = list[tuple[str, int, Callable[[], Iterator[bytes]]]]


def is_open(path: str, allowed: tuple[str, ...]) -> bool:
    """Whether [datasets/]OWNER/NAME[@REVISION]/... lies below an entry of the settings, `OWNER` or `OWNER/NAME`."""
    kind, owner, name, _, _ = _parts(path)
    return bool(owner and name) and any(f"{kind}{one}" in allowed for one in (owner, f"{owner}/{name}"))


def listed(settings: Settings, path: str) -> Listed:
    """(bare name, bytes, content) of the files at the top of a repository or folder, or of the one file named.

    Raises:
        FileNotFoundError: there is none that the operator's token may read.
        Refused: unavailable, where the hub does not answer.
    """
    import httpx2  # noqa: PLC0415 - most services do without
    import huggingface_hub as hub  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    kind, owner, name, revision, inside = _parts(path)
    # The library's own factory looks at HF_HUB_OFFLINE, which says something else: whether models load from the net.
    hub.set_client_factory(lambda: httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True))
    token = settings.hub_token.get_secret_value() if settings.hub_token else None
    api = hub.HfApi(endpoint=settings.hub_endpoint, token=token or False)
    try:
        ask = api.dataset_info if kind else api.model_info
        found = ask(f"{owner}/{name}", revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    except HFValidationError:
        raise FileNotFoundError(path) from None
    except HfHubHTTPError as error:
        raise _said(error.response.status_code, path) from None
    except httpx2.TransportError:
        raise refuse("unavailable", "the hub does not answer", retryable=True) from None

    def content(file: str) -> Callable[[], Iterator[bytes]]:
        url = hub.hf_hub_url(
            f"{owner}/{name}",
            file,
            repo_type="dataset" if kind else "model",
            revision=found.sha,
            endpoint=settings.hub_endpoint,
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}  # not sent on to another host

        def read() -> Iterator[bytes]:
            try:
                with httpx2.stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as answer:
                    if answer.status_code != 200:
                        raise _said(answer.status_code, path)
                    yield from answer.iter_bytes(CHUNK)
            except httpx2.TransportError:
                raise refuse("unavailable", "the hub broke off", retryable=True) from None

        return read

    files = {one.rfilename: one.size or 0 for one in found.siblings or ()}
    below = [file for file in files if file.rpartition("/")[0] == inside] or [file for file in files if file == inside]
    return [(file.rpartition("/")[2], files[file], content(file)) for file in sorted(below)]


def _parts(path: str) -> tuple[str, str, str, str | None, str]:
    """Kind ("datasets/" or nothing), owner, name, revision, and what is named inside."""
    kind = "datasets/" if path.startswith("datasets/") else ""
    owner, _, rest = path.removeprefix(kind).partition("/")
    repository, _, inside = rest.partition("/")
    name, _, revision = repository.partition("@")
    return kind, "" if "@" in owner else owner, name, revision or None, inside


def _said(status: int, path: str) -> Exception:
    if status in UNKNOWN:
        return FileNotFoundError(path)
    return refuse("unavailable", f"the hub answered {status}", retryable=True)
