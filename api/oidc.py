"""Bearer tokens of one OpenID Connect issuer (RFC 9068, 7519), as callers of projects.

Signatures are checked by PyJWT against the issuer's own keys. Nothing in a token says where keys come from or which
algorithm is right: the settings do. Keys are fetched from the issuer alone, without redirects, kept for an hour, and
asked for again at most every half minute, whatever arrives.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWKSetError

from jobs.problem import refuse
from jobs.scope import PROJECT_HEADER, SCOPES, Scope
from jobs.settings import Settings

KEEP_S = 3600.0  # keys that the issuer has withdrawn are believed for so long
PAUSE_S = 30.0  # between two fetches, good or bad
ANSWER_S = 5.0  # longest wait for the issuer
SKEW_S = 30.0  # that clocks may differ by
NAME = re.compile(r"[\x21-\x7e]{1,128}")  # a `sub` that may stand in the audit log
SHAPE = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class Issuer:
    """The configured issuer. Opens no connection until the first token comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = _Keys(str(settings.oidc_issuer), settings.oidc_jwks_url)

    def admit(self, token: str, wanted: str | None = None) -> Scope | None:
        """Who a token speaks for; None where it is not a good one. `wanted`: one of several projects.

        Raises:
            Refused: forbidden (a good token, but for no project or no scope here), unavailable (no keys).
        """
        claims = self._claims(token)
        subject = claims.get("sub") if claims is not None else None
        if claims is None or not isinstance(subject, str) or not NAME.fullmatch(subject):
            return None
        return Scope(self._project(claims, wanted), who=f"oidc:{subject}", scopes=self._scopes(claims))

    def _claims(self, token: str) -> dict[str, Any] | None:
        if not SHAPE.fullmatch(token):
            return None
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if not isinstance(kid, str):
                return None
            return jwt.decode(
                token,
                self._keys.get_signing_key(kid),
                algorithms=list(self._settings.oidc_algorithms),
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (PyJWKClientConnectionError, PyJWKSetError) as error:
            raise refuse("unavailable", "the issuer of tokens does not give its keys", retryable=True) from error
        except (jwt.PyJWTError, PyJWKClientError, ValueError):
            return None

    def _project(self, claims: dict[str, Any], wanted: str | None) -> str:
        name, known = self._settings.oidc_project_claim, self._settings.oidc_projects
        values = _words(claims.get(name))
        found = sorted({known[value] for value in values if value in known} if known else values)
        if wanted is not None:
            found = [one for one in found if one == wanted]
        if len(found) > 1:
            raise refuse("forbidden", f"the token is of several projects; name one in the header {PROJECT_HEADER}")
        if not found:
            of = "" if wanted is None else f" {wanted[:64]!r}"
            raise refuse("forbidden", f"the claim {name!r} of the token names no project{of} of this service")
        return found[0]

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        name = self._settings.oidc_scopes_claim
        given = self._settings.oidc_scopes if name is None else _words(claims.get(name), split=True)
        scopes = frozenset(given) & frozenset(SCOPES)
        if not scopes:
            raise refuse("forbidden", f"the claim {name!r} of the token holds no scope of this service")
        return scopes


class _Keys(jwt.PyJWKClient):
    """PyJWT's client, which keeps keys and caps its fetches for unknown names; this adds discovery, and a pause after
    a failed fetch too, so that an issuer that hangs does not hang us."""

    def __init__(self, issuer: str, url: str | None) -> None:
        super().__init__(url or issuer, lifespan=KEEP_S, timeout=ANSWER_S, cooldown_duration=PAUSE_S)
        self._issuer, self._url = issuer, url
        self._quiet_until = 0.0

    def fetch_data(self) -> Any:
        if time.monotonic() < self._quiet_until:
            raise PyJWKClientConnectionError("the issuer did not answer a moment ago")
        try:
            self.uri = self._url or _discovered(self._issuer)
            return super().fetch_data()
        except (PyJWKClientError, PyJWKSetError, httpx2.HTTPError, ValueError) as error:
            self._quiet_until = time.monotonic() + PAUSE_S
            raise PyJWKClientConnectionError(f"no keys of {self._issuer}: {error}") from error


def _discovered(issuer: str) -> str:
    """The address of the issuer's keys. Raises ValueError: the answer is not the issuer's, or leads elsewhere."""
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    found = httpx2.get(address, timeout=ANSWER_S, follow_redirects=False).raise_for_status().json()
    if not isinstance(found, dict) or found.get("issuer") != issuer:
        raise ValueError(f"{address} does not speak for {issuer}")
    url = str(found.get("jwks_uri"))
    if urlsplit(url)[:2] != urlsplit(issuer)[:2]:
        raise ValueError(f"its keys are at {url}, another host; if that is right, set LADAPRESS_OIDC_JWKS_URL")
    return url


def _words(value: object, *, split: bool = False) -> list[str]:
    """The strings of a claim: one, a list of them, or (scopes) several with spaces between."""
    given = value.split() if split and isinstance(value, str) else value if isinstance(value, list) else [value]
    return [one for one in given if isinstance(one, str)]
