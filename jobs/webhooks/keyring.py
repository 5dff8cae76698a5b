"""The secrets of webhook endpoints: made here, and encrypted where they are stored (docs/decisions/0016).

A dump of the database, or a backup, lets nobody sign in our name: the key lies in a file of its own. Fernet says at
once where a row was written with another key; a wrong secret would show only as signatures that receivers refuse.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from jobs.secret_file import read_or_create

SECRET_BYTES = 32  # Standard Webhooks: 24 to 64


def fresh_secret() -> str:
    """`whsec_` and base64, as the libraries of Standard Webhooks take it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


@dataclass(frozen=True)
class Keyring:
    """Fernet keys, one a line: the first one encrypts, each may decrypt. Its text shows none."""

    keys: MultiFernet = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Keyring:
        """The keys in a file.

        Raises:
            ValueError: the file holds something else.
            OSError: it cannot be read.
        """
        return cls._parse(path.read_text(encoding="ascii"), path)

    @classmethod
    def load_or_create(cls, path: Path) -> Keyring:
        """As `load`; where the file does not exist, a fresh key is written to it (mode 0600)."""
        return cls._parse(read_or_create(path, lambda: Fernet.generate_key().decode() + "\n"), path)

    @classmethod
    def _parse(cls, text: str, path: Path) -> Keyring:
        try:
            return cls(MultiFernet([Fernet(line) for line in text.split()]))
        except ValueError:
            raise ValueError(f"{path} must hold Fernet keys (32 bytes in base64url), one a line") from None

    def seal(self, secret: str) -> str:
        """A secret as it is stored."""
        return self.keys.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises ValueError where none of the keys has sealed it."""
        try:
            return self.keys.decrypt(sealed).decode()
        except InvalidToken:
            raise ValueError("a webhook secret was sealed with a key that is not in webhook_key_file") from None
