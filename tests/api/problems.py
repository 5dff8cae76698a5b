"""What every refusal looks like."""

from __future__ import annotations

import json
from typing import Any

from httpx2 import Response

from jobs.problem import CODES, Problem


def problem(response: Response, status: int | None = None, code: str | None = None) -> dict[str, Any]:
    """Check that a response is a problem of one shape, and return it."""
    shown = f"{response.request.method} {response.request.url} -> {response.status_code} {response.text[:300]!r}"
    assert response.status_code >= 400, shown
    assert response.headers["content-type"] == "application/problem+json", shown
    assert response.headers["x-content-type-options"] == "nosniff", shown
    if response.request.method == "HEAD":
        return {}
    body: dict[str, Any] = response.json()
    assert Problem.model_validate(body).as_dict() == body, shown
    assert (body["status"], body["title"]) == (response.status_code, CODES[body["code"]][1]), shown
    assert body["type"] == f"urn:ladapress:problem:{body['code']}", shown
    assert body["request_id"] == response.headers["x-request-id"], shown
    assert body["detail"], shown
    assert "\x00" not in body["detail"] + "".join(one["detail"] for one in body["errors"]), shown
    assert "Traceback" not in json.dumps(body, ensure_ascii=False).encode("utf-8").decode(), shown
    if status is not None:
        assert body["status"] == status, shown
    if code is not None:
        assert body["code"] == code, shown
    return body
