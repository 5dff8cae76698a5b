"""API keys: `lp_<keyid>_<secret>`. The database holds the sha256 of the secret and nothing that could be replayed.

The secret has 256 random bits, so a fast hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from jobs.clock import db_now, now
from jobs.db import insert_once
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import DEFAULT_PROJECT, ROLES, SCOPES, Scope, audit, get
from jobs.secret_file import read_or_create
from jobs.settings import Settings
from jobs.tables import ApiKey

TOKEN = re.compile(r"lp_([0-9a-z]{26})_([A-Za-z0-9_-]{43})")
NOBODY = hashlib.sha256(b"").hexdigest()  # compared with where no key has the id, to take the same time
TOUCH_S = 60.0
QUIET = {"synchronize_session": False}


def create_key(
    s: Session, scope: Scope, name: str, scopes: Sequence[str] = ("read", "write"), expires_at: float | None = None
) -> tuple[ApiKey, str]:
    """A new key of the project, and its token. The token is shown this once.

    Args:
        expires_at: seconds since 1970; None = it does not expire.

    Raises:
        Refused: request_invalid, when a scope is not one of jobs.scope.SCOPES, or the key would be dead at once.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise refuse("request_invalid", f"scopes must be some of {', '.join(SCOPES)}, not {unknown}", param="/scopes")
    if expires_at is not None and expires_at <= now(s):
        raise refuse("request_invalid", "expires_at must lie in the future", param="/expires_at")
    token = new_token()
    _store(s, scope.project_id, name, token, sorted(set(scopes), key=SCOPES.index), expires_at)
    key = get(s, scope, ApiKey, _parse(token)[0])
    audit(s, scope, "key.create", key.id)
    return key, token


def authenticate(s: Session, token: str) -> Scope | None:
    """The scope of a token, or None: malformed, unknown, wrong, expired or revoked, all in the same time."""
    found = TOKEN.fullmatch(token)
    key_id, secret = (f"key_{found[1]}", found[2]) if found else ("", "")
    query = select(ApiKey, db_now()).where(ApiKey.id == key_id).execution_options(populate_existing=True)
    row = s.execute(query).one_or_none()
    key, time = (None, 0.0) if row is None else row
    hashed = _hash(secret)
    right = hmac.compare_digest(hashed, key.hash if key is not None else NOBODY)
    before = hmac.compare_digest(hashed, (key.previous_hash if key is not None else None) or NOBODY)
    if key is None or not found or not (right or (before and time < (key.previous_until or 0.0))) or ended(key, time):
        return None
    return Scope(key.project_id, who=key.id, scopes=frozenset(key.scopes))


def ended(key: ApiKey, time: float) -> bool:
    """Whether a key lets nobody in any more."""
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time)


def rotate_key(s: Session, scope: Scope, key_id: str, grace_s: float) -> tuple[ApiKey, str]:
    """A new secret for a key, and its token, shown this once. The secret of before is good for `grace_s` more seconds;
    the one before that is out.

    Raises:
        Refused: not_found; key_ended.
    """
    key = get(s, scope, ApiKey, key_id, lock=True)
    time = now(s)
    if ended(key, time):
        raise refuse("key_ended", "the key was revoked or has expired; create a new one")
    token = f"lp_{key_id.removeprefix('key_')}_{secrets.token_urlsafe(32)}"
    key.previous_hash, key.previous_until = (key.hash, time + grace_s) if grace_s > 0 else (None, None)
    key.hash = _parse(token)[1]
    audit(s, scope, "key.rotate", key_id)
    s.flush()
    return key, token


def touch(s: Session, key_id: str) -> None:
    """Note that a key is in use; at most one write a minute, however many processes serve it."""
    old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now() - TOUCH_S)
    s.execute(update(ApiKey).where(ApiKey.id == key_id, old).values(last_used_at=db_now()), execution_options=QUIET)


def revoke_key(s: Session, scope: Scope, key_id: str) -> ApiKey:
    """End a key for good, from the next request on. Again changes nothing. Raises Refused (not_found)."""
    key = get(s, scope, ApiKey, key_id, lock=True)
    if key.revoked_at is None:
        key.revoked_at = now(s)
        key.previous_hash = key.previous_until = None
        audit(s, scope, "key.revoke", key_id)
        s.flush()
    return key


def any_key(s: Session) -> bool:
    """Whether keys are in use. A revoked key counts: revoking the last one must not open the door."""
    return s.scalars(select(ApiKey.id).limit(1)).first() is not None


def is_loopback(host: str) -> bool:
    """Whether a name or address of `Host` or of a bind is this machine's own. Other names are not looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bootstrap(s: Session, settings: Settings) -> str | None:
    """Let the key in `bootstrap_key_file` in, as an admin of the default project. Returns its id.

    Where the file does not exist it is written (mode 0600) with a fresh key. Doing it again changes nothing; a key
    that was revoked stays revoked.

    Raises:
        ValueError: the file holds something else.
    """
    path = settings.bootstrap_key_file
    if path is None:
        return None
    token = read_or_create(path, lambda: new_token() + "\n").strip()
    if not TOKEN.fullmatch(token):
        raise ValueError(f"{path} must hold one line lp_<26 characters>_<43 characters>")
    _store(s, DEFAULT_PROJECT, "bootstrap", token, ROLES)
    return _parse(token)[0]


def new_token() -> str:
    """A fresh token, known to no database yet."""
    return f"lp_{new_id('key').removeprefix('key_')}_{secrets.token_urlsafe(32)}"


def _store(
    s: Session, project_id: str, name: str, token: str, scopes: Sequence[str], expires_at: float | None = None
) -> None:
    key_id, hash_ = _parse(token)
    insert_once(
        s,
        ApiKey,
        id=key_id,
        project_id=project_id,
        name=name,
        hash=hash_,
        scopes=list(scopes),
        expires_at=expires_at,
        created_at=db_now(),
    )


def _parse(token: str) -> tuple[str, str]:
    """(key id, hash of the secret) of a well-formed token."""
    _, key_id, secret = token.split("_", 2)
    return f"key_{key_id}", _hash(secret)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
