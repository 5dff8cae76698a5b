"""`ladapress mcp` as a language model's program sees it: the mcp package's own client, a process, a real service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from ladapress import Client
from ladapress.mcp_server import serve
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.client.command import run
from tests.client.conftest import Service, Uploaded
from tests.client.hand import FAIL, LAST, SUCCEED

Talk = Callable[[McpClient], Coroutine[Any, Any, None]]


def talk(url: str, what: Talk) -> None:
    """Start the command, say `what`, end it."""
    environment = {**os.environ, "LADAPRESS_URL": url}
    command = StdioServerParameters(command=sys.executable, args=["-m", "ladapress", "mcp"], env=environment)

    async def talking() -> None:
        with anyio.fail_after(60):
            async with McpClient(stdio_client(command)) as client:
                await what(client)

    anyio.run(talking)


async def call(client: McpClient, tool: str, **fields: Any) -> Any:
    """The structured answer of a tool that must not fail."""
    answer = await client.call_tool(tool, fields)
    assert not answer.is_error, answer.content
    found = answer.structured_content or {}
    return found["result"] if set(found) == {"result"} else found


async def refused(client: McpClient, tool: str, **fields: Any) -> str:
    answer = await client.call_tool(tool, fields)
    assert answer.is_error
    text = str(answer.content[0].text)  # type: ignore[union-attr]
    return text.removeprefix(f"Error executing tool {tool}: ")  # the package's own words


async def ended(client: McpClient, job_id: str) -> dict[str, Any]:
    while (job := await call(client, "status", job_id=job_id))["status"] in ("queued", "running", "cancelling"):
        await anyio.sleep(0.1)
    found: dict[str, Any] = job
    return found


def test_a_model_can_submit_follow_compare_and_cancel(service: Service, uploaded: Uploaded) -> None:
    """Over standard input and output, in one sitting; a refusal names its code and the field."""
    given = {"model": uploaded.model, "train": uploaded.train, "eval": uploaded.eval}

    async def what(client: McpClient) -> None:
        uploads = await call(client, "list_uploads")
        assert uploaded.model in [one["id"] for one in uploads["models"]]
        presets = {one["name"]: one["about"] for one in await call(client, "list_presets")}
        assert "parameter_ratio" in presets["ladabert-1"]
        jobs = {}
        for seed in (SUCCEED, FAIL, LAST):
            job = await call(client, "submit", **given, preset="ladabert-1", seed=seed, name=f"mcp {seed}")
            jobs[seed] = job["job_id"]
            if seed != LAST:
                await ended(client, job["job_id"])
        assert jobs[LAST] in [one["job_id"] for one in await call(client, "list_jobs", limit=5)]
        await call(client, "cancel", job_id=jobs[LAST])
        assert (await ended(client, jobs[LAST]))["status"] == "cancelled"
        found = await call(client, "compare", job_ids=list(jobs.values()))
        assert [(one["job_id"], one["retention"]) for one in found["results"]] == [(jobs[SUCCEED], 0.9)]
        failed = next(one for one in found["without_result"] if one["job_id"] == jobs[FAIL])
        assert failed["error"].startswith("training_diverged: ")
        planned = await call(client, "plan", **given, recipe={"steps": [{"method": "int8"}]})
        assert planned["status"] in ("done", "inspecting", "profiling")
        assert (await refused(client, "status", job_id="job_nobody")).partition(":")[0] == "not_found"
        wrong = await refused(client, "submit", **{**given, "train": "data_nobody"}, preset="ladabert-1")
        assert wrong.startswith("not_found at /data/train: ")
        wrong = await refused(client, "submit", **given, preset="ladabert-1", target={"bytes_ratio": 0.5})
        assert "bytes_ratio" in wrong
        assert "'no' " not in await refused(client, "list_methods", name="no")

    talk(service.url, what)


def test_every_tool_has_a_schema_and_says_what_it_does(client: Client) -> None:
    """Each field typed; what only looks says so; none of them names a file."""

    async def what() -> None:
        async with McpClient(serve(client)) as connected:
            tools = {tool.name: tool for tool in (await connected.list_tools()).tools}
        assert {"submit", "status", "plan", "compare", "list_presets", "list_methods", "cancel"} <= set(tools)
        for tool in tools.values():
            assert tool.description
            assert tool.annotations is not None
            for field in tool.input_schema.get("properties", {}).values():
                assert {"type", "anyOf", "$ref"} & set(field), tool.name
        looks = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
        assert looks == set(tools) - {"submit", "plan", "cancel"}
        assert "Recipe" not in str(tools["submit"].input_schema.get("$defs")), (
            "the answer would cost thousands of words"
        )

    anyio.run(what)


def test_a_service_that_is_away_is_an_error_and_not_an_end() -> None:
    """The program goes on; what is asked later may be answered."""

    async def what() -> None:
        with Client("http://127.0.0.1:9", patience_s=0.1) as away:
            async with McpClient(serve(away)) as connected:
                for _ in range(2):
                    assert (await refused(connected, "list_uploads")).startswith("unreachable")

    anyio.run(what)


def test_without_the_package_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install ladapress` alone has no mcp."""
    from ladapress import mcp_command
    from ladapress.errors import LadapressError

    monkeypatch.setattr(mcp_command, "find_spec", lambda _name: None)
    with pytest.raises(LadapressError, match=r"ladapress\[mcp\]"):
        mcp_command.mcp()
    assert "mcp" in run("http://127.0.0.1:9", "--help").stdout
