"""`ladapress verify`: are these the bytes that the holder of a trusted key signed? Runs no file of the artifact.

The folder is hostile until the last check has passed: whoever changed a model could have changed its `verify.py`, its
manifest and its signature, too. What he cannot change is the key that this side trusts: one given by the caller, or the
pinned ones of a service.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladapress import outcome
from ladapress.download import MANIFEST, SIGNATURE
from ladapress.errors import LadapressError, Problem
from ladapress.folder import Contents, Damaged, Finding, check, refusal, strict_json
from ladapress.keys import base64url, unbase64url
from ladapress.measure import measure
from ladapress.trust import Trust, Trusted

LEGAL = '{"version": 1, "algorithm": "Ed25519", "key_id": ..., "signature": ...}, spelled as the service does'
NOT_SHOWN = (
    "that the model is good, that the numbers in report.json are right, or that the key belongs to whom you think"
)


def verify(folder: Path, trust: Trust) -> tuple[Contents, Trusted]:
    """Check every file of an artifact against its manifest, and the manifest's signature against a trusted key.

    Raises:
        Damaged: files, manifest or signature are not what they should be.
        LadapressError: not_signed, or the signer is not trusted.
    """
    contents = check(folder)
    if contents.signature is None:
        raise refusal("not_signed", Finding("not_signed", SIGNATURE, "a signature of the manifest", "nothing"))
    kid, signature = _parsed(contents.signature)
    found = trust.find(kid)
    if not found.key.signed(signature, contents.manifest):
        expected = f"the signature of key {kid} over these bytes of {MANIFEST}"
        raise Damaged(Finding("signature_invalid", SIGNATURE, expected, "one over other bytes, or by another key"))
    found.remember()
    return contents, found


def run(
    folder: Path, trust: Trust, rows: Path | None = None, columns: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Verify, and measure where rows are given. Returns the exit code and the verdict as `--json` prints it."""
    kid, why, files, measured, problem = None, None, {}, None, None
    try:
        contents, found = verify(folder, trust)
        kid, why, files = found.key.kid, found.why, contents.files
        measured = None if rows is None else measure(folder, rows, columns or {})
    except Damaged as damage:
        problem = refusal(damage.findings[0].code, *damage.findings).problem
    except LadapressError as error:
        if error.code == "usage":
            raise
        problem = error.problem
    except OSError as error:
        problem = LadapressError.local("unreadable", f"{error.filename!a}: {error.strerror}").problem
    verdict = {
        "status": "failed" if problem else "verified",
        "artifact_dir": str(folder),
        "key_id": kid,
        "trusted": why,
        "files": len(files),
        "bytes": sum(files.values()),
        "shows": kid and shown(kid),
        "does_not_show": NOT_SHOWN,
        "measured": measured,
        "error": problem.model_dump(mode="json") if problem else None,
    }
    return outcome.FAILED if problem else outcome.DONE, verdict


def tell(verdict: Mapping[str, Any], *, as_json: bool) -> None:
    """The verdict for people, or as one line for programs; what is wrong goes to stderr, a line for each finding."""
    if verdict["error"] is not None:
        problem = Problem.model_validate(verdict["error"])
        found = [f"  {one['code']}: {one['detail']}" for one in problem.errors]
        warn("\n".join([f"NOT verified ({problem.code}): {problem.title if found else problem.detail}", *found]))
    if as_json:
        print(outcome.line(dict(verdict)), flush=True)
    elif verdict["error"] is None:
        print(f"verified: {verdict['shows']}; this does not show {verdict['does_not_show']}")
        print(f"{verdict['files']} files, {verdict['bytes']} bytes; the key is {verdict['trusted']}")
        for name, value in (verdict["measured"] or {}).items():
            print(f"{name}: {value}")


def warn(line: str) -> None:
    """Progress and errors go to stderr."""
    print(f"ladapress: {line}", file=sys.stderr, flush=True)


def shown(kid: str) -> str:
    """What a good verdict says."""
    return f"these are the bytes that the holder of key {kid} signed"


def _parsed(content: bytes) -> tuple[str, bytes]:
    """Key id and signature. One spelling only is legal, so that no byte of the file could be another."""
    fields = strict_json(content, SIGNATURE, LEGAL)
    body = {"version": 1, "algorithm": "Ed25519", "key_id": None, "signature": None}
    try:
        kid, signature = (unbase64url(fields.get(name), size) for name, size in (("key_id", 32), ("signature", 64)))
    except ValueError as error:
        raise Damaged(Finding("signature_invalid", SIGNATURE, LEGAL, str(error))) from None
    body |= {"key_id": base64url(kid), "signature": base64url(signature)}
    if content != (json.dumps(body, indent=1) + "\n").encode():
        raise Damaged(Finding("signature_invalid", SIGNATURE, LEGAL, f"{content[:300]!a}"))
    return base64url(kid), signature
