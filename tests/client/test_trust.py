"""Whose signature counts: pinned on first use, handed on by endorsement, refused where the chain breaks."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ladapress import Client, LadapressError
from ladapress.keys import PublicKey, chain, key_set, read_key_file
from ladapress.known_keys import KnownKeys
from ladapress.trust import GivenKeys, ServiceKeys
from ladapress.verifier import verify

from jobs.signing import SigningKey, endorsement
from tests.client.artifacts import URL, absent, answering, artifact, jwk, publishing
from tests.client.command import Captured, call, compress
from tests.client.conftest import Inputs, Service
from tests.client.hand import KEY, SUCCEED

A, B, C, EVIL = (SigningKey.fresh() for _ in range(4))
RETIRED = {"retired_at": "2026-01-01T00:00:00Z"}


class User:
    """One person's pins, artifacts by any key, and what was said on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = KnownKeys(folder / "config" / "known-keys.json")
        self.said: list[str] = []

    def verifies(self, key: SigningKey, service: Client, *, anew: bool = False) -> str | None:
        """Check an artifact that `key` signed. None, or the code of the refusal; a refusal never changes the pins."""
        before = self.pins()
        made = artifact(self.folder / "artifact", key)
        try:
            verify(made, ServiceKeys(service, self.known, self.said.append, anew=anew))
        except LadapressError as error:
            assert self.pins() == before
            self.last = str(error)
            return error.code
        return None

    def pins(self) -> set[str]:
        return set(self.known.of(URL))


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def test_first_use_pins_what_the_service_publishes_and_says_so(user: User) -> None:
    """Every key of it, retired ones too; afterwards nobody needs to be asked. The file is its owner's."""
    assert user.verifies(B, publishing(jwk(A, **RETIRED), jwk(B))) is None
    assert user.pins() == {A.kid, B.kid}
    assert [word in user.said[1] for word in (B.kid, URL, "first use")] == [True] * 3
    assert stat.S_IMODE(user.known.path.stat().st_mode) == 0o600
    for key in (A, B):
        assert user.verifies(key, absent()) is None
    assert len(user.said) == 2


def test_first_use_trusts_no_key_that_the_service_does_not_publish(user: User) -> None:
    assert user.verifies(EVIL, publishing(jwk(A))) == "key_unknown"
    assert A.kid in user.last
    assert EVIL.kid in user.last
    assert user.verifies(EVIL, publishing()) == "key_unknown"
    assert user.pins() == set()


def test_a_changed_key_is_refused_until_it_is_trusted_by_hand(user: User) -> None:
    """As ssh refuses a changed host. --trust replaces what was pinned."""
    assert user.verifies(A, publishing(jwk(A))) is None
    changed = publishing(jwk(A), jwk(EVIL))
    assert user.verifies(EVIL, changed) == "key_changed"
    for part in ("HAS CHANGED", A.kid, EVIL.kid, URL, str(user.known.path), "--trust"):
        assert part in user.last
    assert user.verifies(A, changed) is None
    assert user.verifies(EVIL, publishing(jwk(EVIL)), anew=True) is None
    assert user.pins() == {EVIL.kid}
    assert user.verifies(A, publishing(jwk(EVIL))) == "key_changed"


def test_trusting_by_hand_trusts_only_what_the_service_publishes(user: User) -> None:
    assert user.verifies(A, publishing(jwk(A))) is None
    assert user.verifies(EVIL, publishing(jwk(A)), anew=True) == "key_unknown"


def test_a_rotated_key_is_accepted_by_its_endorsement_and_old_artifacts_stay_valid(user: User) -> None:
    assert user.verifies(A, publishing(jwk(A))) is None
    assert user.verifies(B, publishing(jwk(A, **RETIRED), jwk(B, by=A))) is None
    assert user.pins() == {A.kid, B.kid}
    assert "endorsed" in user.said[-1]
    for key in (A, B):
        assert user.verifies(key, absent()) is None


@pytest.mark.parametrize("first", [jwk(A, **RETIRED), None], ids=["published", "no longer published"])
def test_a_chain_of_endorsements_may_have_several_links(user: User, first: dict[str, Any] | None) -> None:
    assert user.verifies(A, publishing(jwk(A))) is None
    said = [jwk(B, by=A, **RETIRED), jwk(C, by=B), *([first] if first else [])]
    assert user.verifies(C, publishing(*said)) is None
    assert user.pins() == {A.kid, B.kid, C.kid}


BREAKS = {
    "no endorsement": [jwk(A), jwk(B), jwk(C, by=B)],
    "by itself": [jwk(A), jwk(B, by=B), jwk(C, by=B)],
    "in a ring": [jwk(A), jwk(B, by=C), jwk(C, by=B)],
    "by a stranger": [jwk(A), jwk(EVIL), jwk(B, by=EVIL), jwk(C, by=B)],
    "by a stranger in the name of a pinned key": [
        jwk(A),
        jwk(B, endorsed_by=A.kid, endorsement=EVIL.endorse(B.kid)),
        jwk(C, by=B),
    ],
    "by a stranger who calls himself a pinned key": [
        {**jwk(EVIL), "kid": A.kid},
        jwk(B, endorsed_by=A.kid, endorsement=EVIL.endorse(B.kid)),
        jwk(C, by=B),
    ],
    "of another key": [jwk(A), jwk(B, endorsed_by=A.kid, endorsement=A.endorse(EVIL.kid)), jwk(C, by=B)],
    "a link is missing": [jwk(A), jwk(C, by=B)],
    "the last one": [jwk(A), jwk(B, by=A), jwk(C, endorsed_by=B.kid, endorsement=None)],
    "with a spare bit": [jwk(A), jwk(B, by=A), jwk(C, endorsed_by=B.kid, endorsement=B.endorse(C.kid) + "A")],
    "of no text": [jwk(A), jwk(B, by=A), jwk(C, endorsed_by=[B.kid], endorsement={"a": 1})],
    "of another kind": [jwk(A), jwk(B, by=A), jwk(C, by=B, crv="X25519")],
}


@pytest.mark.parametrize("published", BREAKS.values(), ids=list(BREAKS))
def test_a_break_in_the_chain_is_refused(user: User, published: list[dict[str, Any]]) -> None:
    """Whatever the service says beside it."""
    assert user.verifies(A, publishing(jwk(A))) is None
    assert user.verifies(C, publishing(*published)) == "key_changed"


def test_a_signed_manifest_is_no_endorsement(user: User) -> None:
    """What a worker signs for a hostile child cannot hand the service over: the two messages never meet."""
    assert user.verifies(A, publishing(jwk(A))) is None
    manifest = (user.folder / "artifact" / "manifest.json").read_bytes()
    signature = json.loads((user.folder / "artifact" / "signature.json").read_bytes())["signature"]
    assert not manifest.startswith(endorsement("")[:10])
    assert user.verifies(B, publishing(jwk(A), jwk(B, endorsed_by=A.kid, endorsement=signature))) == "key_changed"


def test_an_absent_service_is_told_apart_from_a_bad_artifact(user: User) -> None:
    """Nothing pinned and nobody to ask: not verified, with what could be done."""
    assert user.verifies(A, absent()) == "unreachable"
    assert A.kid in user.last
    assert user.verifies(A, answering(lambda _: httpx2.Response(200, json=[]))) == "protocol"


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 2, "services": {}}', '{"version": 1, "services": []}']
)
def test_damaged_pins_are_no_first_use(user: User, content: str) -> None:
    """Otherwise damage would make any key welcome; the file stays for its owner to look at."""
    user.known.path.parent.mkdir()
    user.known.path.write_text(content)
    with pytest.raises(LadapressError) as error:
        verify(artifact(user.folder / "artifact", A), ServiceKeys(publishing(jwk(A)), user.known, user.said.append))
    assert error.value.code == "known_keys_invalid"
    assert user.known.path.read_text() == content


def test_pins_of_one_service_are_not_those_of_another(user: User) -> None:
    user.known.pin("http://other.example", key_set([jwk(EVIL)]).values())
    assert user.verifies(EVIL, publishing(jwk(A))) == "key_unknown"
    assert user.verifies(A, publishing(jwk(A))) is None
    assert set(user.known.of("http://other.example")) == {EVIL.kid}


def test_a_bad_signature_pins_nothing(user: User) -> None:
    """First use is over an artifact that holds, or not at all."""
    folder = artifact(user.folder / "artifact", EVIL)
    text = (folder / "signature.json").read_text().replace(EVIL.kid, A.kid)
    (folder / "signature.json").write_text(text)
    with pytest.raises(Exception, match="signature of key"):
        verify(folder, ServiceKeys(publishing(jwk(A)), user.known, user.said.append))
    assert (user.pins(), user.said) == (set(), [])


def test_both_sides_name_and_endorse_alike() -> None:
    """The client computes what the server computes; neither imports the other."""
    keys = key_set([jwk(A), jwk(B, by=A), {"kty": "RSA", "n": "x"}])
    assert set(keys) == {A.kid, B.kid}
    assert chain({A.kid: keys[A.kid]}, keys, B.kid) == [keys[B.kid]]


def pem(key: SigningKey) -> bytes:
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "content",
    [
        pem(A),
        json.dumps(jwk(A)).encode(),
        json.dumps({"keys": [jwk(B), jwk(A, kid="another name")]}).encode(),
    ],
)
def test_a_key_file_is_a_pem_a_jwk_or_a_jwk_set(tmp_path: Path, content: bytes) -> None:
    """No service is asked, nothing is pinned."""
    (tmp_path / "key").write_bytes(content)
    ring = GivenKeys.read(tmp_path / "key")
    _, trusted = verify(artifact(tmp_path / "a", A), ring)
    assert trusted.key.kid == A.kid
    with pytest.raises(LadapressError) as error:
        verify(artifact(tmp_path / "a", EVIL), ring)
    assert (error.value.code, str(tmp_path / "key") in str(error.value)) == ("key_unknown", True)


def elliptic() -> bytes:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"changeme",
        elliptic,
        lambda: A.pem().encode(),
        lambda: b'{"keys": []}',
        lambda: b'{"keys": 7}',
        lambda: json.dumps(jwk(A, x=A.x[:-1])).encode(),
        lambda: json.dumps(jwk(A, x=7)).encode(),
        lambda: json.dumps(jwk(A, d="private")).encode(),
        lambda: b"{" * 100_000,
    ],
)
def test_a_key_file_with_anything_else_is_a_wrong_command_line(tmp_path: Path, content: Callable[[], bytes]) -> None:
    """A private key too: it has no business on this side."""
    (tmp_path / "key").write_bytes(content())
    with pytest.raises(LadapressError) as error:
        read_key_file(tmp_path / "key")
    assert error.value.code == "usage"
    assert "as PEM, as JWK, or a JWK Set" in str(error.value)


def test_a_public_key_is_one_spelling(tmp_path: Path) -> None:
    """A second spelling of the same bytes would have a second name."""
    last = A.x[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sibling = A.x[:-1] + alphabet[alphabet.index(last) ^ 1]
    with pytest.raises(ValueError, match="base64url"):
        PublicKey.from_jwk(jwk(A, x=sibling))


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any pins."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_what_was_downloaded_is_verified_by_the_command(
    service: Service, inputs: Inputs, at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """A real service: pinned on the first use and told so; the first line says what is shown and what is not."""
    out = at_home / "out"
    assert call(monkeypatch, service.url, *compress(inputs, out, SUCCEED)) == 0
    capsys.readouterr()
    assert call(monkeypatch, service.url, "verify", out) == 0
    said = capsys.readouterr()
    first, second = said.out.splitlines()
    assert first.startswith(
        f"verified: these are the bytes that the holder of key {KEY.kid} signed; this does not show that"
    )
    assert f"published by {service.url}" in second
    assert f"key {KEY.kid} of {service.url} is trusted from now on (first use; {at_home}/config/" in said.err
    assert call(monkeypatch, service.url, "verify", out, "--json") == 0
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    verdict = json.loads(line)
    assert (verdict["status"], verdict["key_id"], verdict["error"]) == ("verified", KEY.kid, None)
    assert (verdict["trusted"], said.err) == (f"pinned for {service.url}", "")
    (out / "report.json").write_text("{}")
    assert call(monkeypatch, service.url, "verify", out, "--json") == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["code"], error["errors"][0]["file"]) == ("file_unlisted", "report.json")
    assert "ladapress: NOT verified (file_unlisted)" in said.err
    assert "'report.json': expected no file" in said.err


def test_an_artifact_without_a_signature_is_code_1(
    service: Service, at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = artifact(at_home / "a", A)
    (folder / "signature.json").unlink()
    assert call(monkeypatch, service.url, "verify", folder) == 1
    said = capsys.readouterr()
    assert (said.out, "not_signed" in said.err) == ("", True)


@pytest.mark.parametrize(
    ("arguments", "legal"),
    [
        (("nosuch",), "must be a folder"),
        (("a", "--key", "nosuch"), "PEM, as JWK, or a JWK Set"),
        (("a", "--key", "a/report.json"), "PEM, as JWK, or a JWK Set"),
        (("a", "--key", "a/report.json", "--trust"), "one of --key FILE and --trust"),
        (("a", "--text", "body"), "--eval FILE"),
        (("a", "--eval", "a/verify.py"), ".csv, .jsonl"),
        (("a", "--eval", "nosuch.csv"), "is not a file"),
    ],
)
def test_a_wrong_command_line_is_code_2(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: tuple[str, ...], legal: str
) -> None:
    artifact(at_home / "a", A)
    monkeypatch.chdir(at_home)
    assert call(monkeypatch, "http://127.0.0.1:9", "verify", *arguments) == 2
    assert legal in capsys.readouterr().err
    assert not (at_home / "config").exists()


def test_measuring_again_comes_after_a_good_verdict_only(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The runner gets folder, rows and columns; what it finds is in the verdict."""
    folder, key = artifact(at_home / "a", A), at_home / "key.json"
    key.write_text(json.dumps(jwk(A)))
    rows = at_home / "rows.csv"
    rows.write_text("body,label\na,0\n")
    asked: list[Any] = []

    def measure(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return {"accuracy": 0.5}

    monkeypatch.setattr("ladapress.verifier.measure", measure)
    arguments = ("verify", folder, "--key", key, "--eval", rows, "--text", "body", "--json")
    assert call(monkeypatch, URL, *arguments) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == {"accuracy": 0.5}
    assert asked == [(folder, rows, {"text": "body"})]
    (folder / "report.json").write_text("{}")
    assert call(monkeypatch, URL, *arguments) == 1
    assert len(asked) == 1
