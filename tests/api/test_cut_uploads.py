"""Uploads over real sockets: cut anywhere, written to by many at once, served by two processes (D22)."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from tests.api.live import Live, serve
from tests.api.problems import problem
from tests.api.test_resumable import ROWS, staged
from tests.api.tus import OCTETS, made, patch, stands


def cut(live: Live, path: str, offset: int, content: bytes, at: int) -> None:
    """Send a PATCH and go away after `at` bytes of its body."""
    host, port = live.url.removeprefix("http://").split(":")
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: {host}:{port}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: {OCTETS}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + content[:at])


def resume(client: httpx2.Client, path: str, content: bytes) -> int:
    """Go on from where the upload stands until it is whole; how many requests were sent away."""
    away = 0
    while (offset := stands(client, path)) < len(content):
        answer = patch(client, path, offset, content[offset:])
        assert answer.status_code in (204, 409), answer.text  # 409: the server still reads what was cut
        if answer.status_code == 409:
            away += 1
            threading.Event().wait(0.05)
    return away


def cut_and_resumed(live: Live, count: int) -> None:
    """D22: uploads cut at a random byte, some of them twice, and resumed; every sha256 is right."""
    draw = random.Random(22)
    with live.client() as client:
        for _ in range(count):
            content = b"text,label\n" + draw.randbytes(draw.randrange(50_000, 1_500_000)).replace(b"\x00", b"0")
            path = made(client, content)
            for _ in range(draw.randrange(1, 3)):
                offset = stands(client, path)
                cut(live, path, offset, content[offset:], draw.randrange(len(content) - offset))
            resume(client, path, content)
            dataset = client.get(f"/v1/datasets/{client.get(path).json()['dataset_id']}").json()
            assert dataset["sha256"] == hashlib.sha256(content).hexdigest()
    assert staged(live.world.settings) == []


def test_uploads_cut_at_a_random_byte_are_resumed(live: Live) -> None:
    cut_and_resumed(live, 20)


@pytest.mark.long
def test_three_hundred_uploads_cut_at_a_random_byte_are_resumed(live: Live) -> None:
    cut_and_resumed(live, 300)


@pytest.mark.parametrize("count", [20])
def test_one_of_many_writers_wins(live: Live, count: int) -> None:
    """All of them at the same offset at the same moment: one 204, the rest 409, and one dataset."""
    content = b"text,label\n" + b"x" * 2_000_000
    with live.client() as client:
        path = made(client, content)
        ready = threading.Barrier(count)

        def write(_: int) -> int:
            with live.client() as writer:
                writer.get("/healthz")
                ready.wait()
                return patch(writer, path, 0, content).status_code

        with ThreadPoolExecutor(count) as pool:
            answers = sorted(pool.map(write, range(count)))
        assert answers == [204] + [409] * (count - 1)
        assert client.get(path).json()["status"] == "complete"
        assert len(client.get("/v1/datasets").json()["data"]) == 1


def test_two_api_processes_share_uploads(live: Live) -> None:
    """Each goes on with what the other began; while one writes, the other has to wait; a restart forgets nothing."""
    with serve(live.world.settings) as second, live.client() as one, second.client() as two:
        path = made(one, ROWS)
        assert patch(two, path, 0, ROWS[:1000]).status_code == 204
        host, port = live.url.removeprefix("http://").split(":")
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: {host}:{port}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 1000\r\n"
            f"Content-Type: {OCTETS}\r\nContent-Length: 1000\r\n\r\n"
        )
        with ExitStack() as stack:
            busy = None
            while busy is None or busy.status_code == 204:  # the other has not begun, or met ours and was refused
                address = (host, int(port))
                stack.enter_context(socket.create_connection(address, timeout=20)).sendall(head.encode())
                time.sleep(0.3)
                busy = patch(two, path, 1000, b"")
            problem(busy, 409, "upload_busy")
            assert busy.headers["retry-after"]
        with serve(live.world.settings) as third, third.client() as client:
            resume(client, path, ROWS)
            assert client.get(path).json()["status"] == "complete"
