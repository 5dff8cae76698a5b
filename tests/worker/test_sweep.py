"""Deleted means gone: the bytes leave the store, not only the rows."""

import os
import time

from jobs.garbage import GRACE_S
from tests.worker.conftest import MakeScene
from tests.worker.scene import ENGINE, SCOPE
from worker.node import Node


def test_a_worker_takes_bytes_that_no_row_needs_out_of_the_store(make_scene: MakeScene) -> None:
    """Old bytes of a submitted job stay, old bytes of nothing go."""
    scene = make_scene("embedded")
    scene.submit()
    scene.store.put_stream(SCOPE.project_id, [b"of a deleted dataset"], max_bytes=100)
    for _, sha256 in scene.store.blobs():
        os.utime(scene.store.path(SCOPE.project_id, sha256), (time.time() - GRACE_S - 1,) * 2)
    assert len(list(scene.store.blobs())) == 2
    node = Node(scene.settings, ("inspection",), ENGINE)
    node.start()
    deadline = time.monotonic() + 60
    while len(list(scene.store.blobs())) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    node.close()
    assert len(list(scene.store.blobs())) == 1
