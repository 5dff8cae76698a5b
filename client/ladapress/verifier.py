"""`ladapress verify`: are these the bytes that the holder of a trusted key signed? Runs no file of the artifact.

The folder is hostile until the last check has passed: whoever changed a model could have changed its `verify.py`, its
manifest and its signature, too. What he cannot change is the key that this side trusts: one given by the caller, or the
pinned ones of a service.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ladapress import outcome
from ladapress.client import Client
from ladapress.download import MANIFEST, SIGNATURE
from ladapress.errors import LadapressError, Problem
from ladapress.folder import Contents, Damaged, Finding, check, strict_json
from ladapress.keys import Keys, PublicKey, base64url, chain, read_key_file, unbase64url
from ladapress.known_keys import KnownKeys

LEGAL = '{"version": 1, "algorithm": "Ed25519", "key_id": ..., "signature": ...}, spelled as the service does'
NOT_SHOWN = (
    "not that the model is good, that the numbers in report.json are right, or that the key belongs to whom you think"
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Trusted:
    """A key, why it is trusted in words, and what is to be remembered once it has verified something."""

    key: PublicKey
    why: str
    remember: Callable[[], None] = lambda: None


class Trust(Protocol):
    """Who may sign."""

    def find(self, kid: str) -> Trusted:
        """The key of this name. Raises LadapressError: it is not trusted."""


@dataclass(frozen=True)
class GivenKeys:
    """The keys in a file that the caller names, and no service."""

    path: Path
    keys: Keys

    @classmethod
    def read(cls, path: Path) -> GivenKeys:
        """Raises LadapressError (usage)."""
        return cls(path, read_key_file(path))

    def find(self, kid: str) -> Trusted:
        """Raises LadapressError (key_unknown)."""
        if kid not in self.keys:
            raise _unknown("key_unknown", f"{_names(self.keys)} (from {self.path})", kid)
        return Trusted(self.keys[kid], f"in {self.path}")


@dataclass(frozen=True)
class ServiceKeys:
    """The pinned keys of a service, on first use all that it publishes; later ones by endorsement.

    Args:
        anew: forget what was pinned, once an artifact is verified by what the service publishes now.
        say: told whenever a key is pinned.
    """

    client: Client
    known: KnownKeys
    say: Say
    anew: bool = False

    def find(self, kid: str) -> Trusted:
        """Raises LadapressError (key_changed, key_unknown, known_keys_invalid, unreachable)."""
        url = self.client.url
        pinned = {} if self.anew else self.known.of(url)
        if kid in pinned:
            return Trusted(pinned[kid], f"pinned for {url}")
        try:
            published = self.client.signing_keys()
        except LadapressError as error:
            detail = f"{SIGNATURE}: key {kid} is not pinned here, and {url} could not be asked for its keys: {error}"
            raise LadapressError(error.problem.model_copy(update={"detail": detail})) from None
        if not pinned:
            if kid not in published:
                raise _unknown("key_unknown", f"{_names(published)} (published by {url})", kid)
            return Trusted(published[kid], f"published by {url}", lambda: self._pin(published, "first use"))
        new = chain(pinned, published, kid)
        if new is None:
            raise _unknown(
                "key_changed",
                f"{_names(pinned)} (pinned for {url} in {self.known.path})",
                kid,
                f"THE KEY OF {url} HAS CHANGED, and no trusted key endorses the new one. Somebody else may have signed "
                "this, or the service got a new key without its old one. If you expect it, run again with --trust",
            )
        grown = pinned | {key.kid: key for key in new}
        return Trusted(new[0], f"endorsed by a pinned key of {url}", lambda: self._pin(grown, "endorsed", new))

    def _pin(self, keys: Keys, why: str, new: list[PublicKey] | None = None) -> None:
        self.known.pin(self.client.url, keys.values())
        for key in keys.values() if new is None else new:
            self.say(f"key {key.kid} of {self.client.url} is trusted from now on ({why}; {self.known.path})")


def verify(folder: Path, trust: Trust) -> tuple[Contents, Trusted]:
    """Check every file of an artifact against its manifest, and the manifest's signature against a trusted key.

    Raises:
        Damaged: files, manifest or signature are not what they should be.
        LadapressError: not_signed, or the signer is not trusted.
    """
    contents = check(folder)
    if contents.signature is None:
        raise _because("not_signed", Finding("not_signed", SIGNATURE, "a signature of the manifest", "nothing"))
    kid, signature = _parsed(contents.signature)
    found = trust.find(kid)
    if not found.key.signed(signature, contents.manifest):
        expected = f"the signature of key {kid} over these bytes of {MANIFEST}"
        raise Damaged(Finding("signature_invalid", SIGNATURE, expected, "one over other bytes, or by another key"))
    found.remember()
    return contents, found


def measure(folder: Path, rows: Path, columns: Mapping[str, str]) -> dict[str, Any]:
    """Measure the verified model of `folder` on labelled rows again. Called after `verify` has passed.

    Args:
        rows: the evaluation file, .csv, .jsonl or .parquet.
        columns: text, text_pair, label -> column, where they have other names.

    Raises:
        LadapressError: cannot_measure.
    """
    raise LadapressError.local(
        "cannot_measure",
        f"{folder} is verified; this version of the client cannot measure it on {rows} {dict(columns)}",
    )


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
        problem = _because(damage.findings[0].code, *damage.findings).problem
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
        print(f"verified: {verdict['shows']}; {verdict['does_not_show']}")
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


def _unknown(code: str, expected: str, kid: str, why: str = "") -> LadapressError:
    return _because(code, Finding(code, SIGNATURE, f"a signature by {expected}", f"one by key {kid}"), why=why)


def _because(code: str, *findings: Finding, why: str = "") -> LadapressError:
    title = why or "The artifact is not what it should be"
    errors = tuple(finding.as_dict() for finding in findings)
    detail = "; ".join([title, *map(str, findings)])
    return LadapressError(Problem(title=title, detail=detail, code=code, errors=errors))


def _names(keys: Keys) -> str:
    return f"key {' or '.join(sorted(keys))}" if keys else "no key at all"
