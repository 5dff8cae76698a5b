"""The keys that this user trusts, by service: one file in the configuration folder, as ssh keeps its known hosts."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

from ladapress.errors import LadapressError
from ladapress.keys import Keys, PublicKey, key_set


class KnownKeys:
    """`{"version": 1, "services": {URL: [JWK, ...]}}`; read and written anew at every call.

    Args:
        path: the file; `known-keys.json` in the user's configuration folder where None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or platformdirs.user_config_path("ladapress") / "known-keys.json"

    def of(self, url: str) -> Keys:
        """The pinned keys of a service; none where it was never met.

        Raises:
            LadapressError: `known_keys_invalid`. A file that cannot be read must not look like a first meeting.
        """
        return key_set(self._services().get(url, ()))

    def pin(self, url: str, keys: Iterable[PublicKey]) -> None:
        """Trust these keys of a service and no others."""
        services = self._services()
        services[url] = [{"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid} for key in keys]
        text = json.dumps({"version": 1, "services": services}, indent=1) + "\n"
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            draft.replace(self.path)
        except OSError as error:
            raise self._invalid(f"cannot be written: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)

    def _services(self) -> dict[str, list[dict[str, Any]]]:
        try:
            found = json.loads(self.path.read_bytes())
            services = {str(url): [dict(jwk) for jwk in jwks] for url, jwks in found["services"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._invalid(f"cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._invalid('must hold {"version": 1, "services": {URL: [JWK, ...]}}') from None
        if found.get("version") != 1 or any(len(key_set(jwks)) != len(jwks) for jwks in services.values()):
            raise self._invalid("must be of version 1 and hold Ed25519 keys, each once")
        return services

    def _invalid(self, detail: str) -> LadapressError:
        return LadapressError.local("known_keys_invalid", f"{self.path} {detail}; it says which services are trusted")
