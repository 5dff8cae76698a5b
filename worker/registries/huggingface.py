"""A repository of a Hugging Face hub: one commit that makes its branch hold the artifact and nothing else.

A clone or a snapshot of the branch is then the artifact, file by file, and `ladapress verify` passes on it. Only a
branch that is new, or that an earlier push filled, is made so: nobody's other work is replaced.

Large files go by the hub's plain HTTP uploads (Git LFS), whose storage compares the sha256; not by Xet, which needs
servers of its own beside the hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import httpx2

from worker.registries.order import TIMEOUT, File, Order, Pushed, PushFailed

MAIN = "main"
KEPT = {".gitattributes"}  # the hub's own
HARMLESS = {*KEPT, "README.md", "LICENSE"}  # what the hub's page for new repositories puts there
MANIFEST = "manifest.json"


def push(order: Order) -> Pushed:
    """Make the branch hold the artifact.

    Raises:
        PushFailed: registry_refused, where the branch holds other work.
        HfHubHTTPError, httpx2.TransportError, ValueError: see `order.failure`.
    """
    import huggingface_hub as hub

    hub.set_client_factory(lambda: httpx2.Client(timeout=TIMEOUT, follow_redirects=True))
    api = hub.HfApi(endpoint=order.url, token=order.token or False, library_name="ladapress")
    branch = order.revision or MAIN
    if not api.repo_exists(order.to):  # asked first: a token that may write need not be one that may create
        api.create_repo(order.to, private=order.private, exist_ok=True)
    if branch != MAIN:
        api.create_branch(order.to, branch=branch, exist_ok=True)
    head = api.repo_info(order.to, revision=branch).sha
    listed = api.list_repo_tree(order.to, recursive=True, revision=head)
    there = {entry.path: entry for entry in listed if isinstance(entry, hub.RepoFile)}
    if MANIFEST not in there and there.keys() - HARMLESS:
        other = ", ".join(sorted(there.keys() - HARMLESS)[:3])
        detail = f"branch {branch} of {order.to} holds other work ({other}); legal: a new branch, or an artifact's"
        raise PushFailed("registry_refused", detail)
    changed = [file for file in order.files if file.path not in there or not _same(file, there[file.path])]
    gone = there.keys() - KEPT - {file.path for file in order.files}
    if not changed and not gone:
        return Pushed(url=f"{order.url}/{order.to}/tree/{head}", commit=head, unchanged=True)
    operations: list[hub.CommitOperationAdd | hub.CommitOperationDelete] = []
    for file in changed:
        addition = hub.CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=file.blob)
        addition.upload_info.sha256 = bytes.fromhex(file.sha256)  # other bytes by now: the storage refuses them
        operations.append(addition)
    operations += [hub.CommitOperationDelete(path_in_repo=path, is_folder=False) for path in sorted(gone)]
    made = api.create_commit(
        order.to, operations, commit_message=f"ladapress: {order.artifact_id}", revision=branch, parent_commit=head
    )
    return Pushed(url=f"{order.url}/{order.to}/tree/{made.oid}", commit=made.oid, unchanged=False)


def environment(folder: str) -> Mapping[str, str]:
    """What the library reads when it is imported: nothing of this machine's user, no progress bars, nothing told."""
    return {
        "HF_HOME": folder,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


def _same(file: File, entry: object) -> bool:
    """Whether the branch holds these bytes: Git's name of a blob, or the sha256 of a large file."""
    if (large := getattr(entry, "lfs", None)) is not None:
        return bool(large.sha256 == file.sha256)
    if getattr(entry, "size", None) != file.size:
        return False
    name = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with file.blob.open("rb") as blob:
        while chunk := blob.read(1 << 20):
            name.update(chunk)
    return bool(getattr(entry, "blob_id", None) == name.hexdigest())
