"""Whose signature counts: the keys in a file, or those of a service, pinned as ssh pins a host's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ladapress.client import Client
from ladapress.download import SIGNATURE
from ladapress.errors import LadapressError
from ladapress.folder import Finding, refusal
from ladapress.keys import Keys, PublicKey, chain, read_key_file
from ladapress.known_keys import KnownKeys

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


def _unknown(code: str, expected: str, kid: str, why: str = "A key that is not trusted signed it") -> LadapressError:
    return refusal(code, Finding(code, SIGNATURE, f"a signature by {expected}", f"one by key {kid}"), why=why)


def _names(keys: Keys) -> str:
    return f"key {' or '.join(sorted(keys))}" if keys else "no key at all"
