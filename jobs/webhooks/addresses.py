"""Where a webhook may go: the form of its URL, and the addresses that its host may have.

Users choose the URL and we connect to it, so it must not lead to where only we can go. The form is checked when an
endpoint is made and again at each attempt; the addresses at each attempt, and the connection goes to the very ones
that were checked (`worker.sender`). What remains for other parsers is nothing: a URL leaves here in parts.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from jobs.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LEGAL = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")  # RFC 3986 without the fragment's #
FORM = re.compile(r"(https?)://([^/?]*)(/[^?]*)?(\?.*)?", re.IGNORECASE)
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::([0-9]{1,5}))?")
NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # what some resolvers read as an IPv4 address in disguise
DEFAULT_PORT = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST6 = ipaddress.ip_network("2000::/3")  # all that IANA has given out
# Beyond `is_global` of the ipaddress module, whose table grows with Python's versions and passes over some of these.
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",  # shared (RFC 6598); a cloud's metadata lies in it
        "168.63.129.16/32",  # a cloud's host, behind a public address
        "192.0.0.0/24",  # IETF; a cloud's metadata lies in it
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # IETF: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # examples
        "2002::/16",  # 6to4: an IPv4 address inside, and no honest receiver behind it any more
        "3fff::/20",  # examples
    )
)


class Blocked(ValueError):
    """A URL or an address that webhooks do not go to. The text is for the endpoint's owner: it tells no address."""


@dataclass(frozen=True)
class Target:
    """A checked URL. `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Guard:
    """The operator's policy."""

    http: bool
    ports: frozenset[int]
    hosts: frozenset[str]
    allowed: tuple[Network, ...]
    denied: tuple[Network, ...]

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """Raises ValueError where an entry of webhook_allow or webhook_deny is neither network nor name."""
        allowed, hosts = _entries(settings.webhook_allow, "webhook_allow")
        denied, names = _entries(settings.webhook_deny, "webhook_deny")
        if names:
            raise ValueError(f"webhook_deny: {names[0]!r}; legal: addresses and networks")
        return cls(settings.webhook_http, frozenset(settings.webhook_ports), frozenset(hosts), allowed, denied)

    def check(self, url: str) -> Target:
        """The parts of a URL that has a legal form. Looks nothing up.

        Raises:
            Blocked: the text says what would be legal.
        """
        schemes = "https://" if not self.http else "https:// or http://"
        form = FORM.fullmatch(url) if LEGAL.fullmatch(url) else None
        if form is None:
            raise Blocked(f"legal: {schemes}HOST[:PORT][/PATH][?QUERY] in plain ASCII, without a fragment")
        scheme, authority = form[1].lower(), form[2]
        if scheme == "http" and not self.http:
            raise Blocked("legal: https://")
        if "@" in authority:
            raise Blocked("a user name or password does not belong into the URL; messages are signed")
        parts = AUTHORITY.fullmatch(authority)
        if parts is None:
            raise Blocked("legal: HOST or HOST:PORT, a name in ASCII (IDNA) or an address")
        host = parts[1] or parts[2].lower()
        literal = _literal(host)
        if literal is None and not (NAME.fullmatch(host) and ("." in host or host in self.hosts)):
            raise Blocked("legal: a full domain name, or an address in its plain spelling")
        port = int(parts[3]) if parts[3] else DEFAULT_PORT[scheme]
        vouched = host in self.hosts or (literal is not None and _within(_bare(literal), self.allowed))
        if not 0 < port < 65_536 or (port not in self.ports and not vouched):
            raise Blocked(f"port {port}; legal: {', '.join(map(str, sorted(self.ports)))}")
        if literal is not None and not self.permits(host, literal):
            raise Blocked("the address is not a public one")
        return Target(scheme, host if literal is None else str(literal), port, (form[3] or "/") + (form[4] or ""))

    def permits(self, host: str, address: Address) -> bool:
        """Whether a host of this name may be connected to at this address."""
        inner = _bare(address)
        if _within(address, self.denied) or _within(inner, self.denied):
            return False
        return host in self.hosts or _within(inner, self.allowed) or public(inner)

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, each of them permitted; one that is not spoils all.

        Raises:
            Blocked: some address is not permitted.
            OSError: the name has none.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise Blocked("the name cannot be looked up") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for text in addresses:
            if "%" in text or not self.permits(host, ipaddress.ip_address(text)):
                raise Blocked("the host has an address that is not a public one")
        return addresses


def public(address: Address) -> bool:
    """Whether an address belongs to the internet: to one machine there, and to nobody's inside."""
    if address.version == 6 and address not in UNICAST6:
        return False
    odd = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not odd and not _within(address, NEVER)


def _bare(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, NAT64), else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _literal(host: str) -> Address | None:
    """The address that a host is; None of a name. Raises Blocked for other spellings of addresses."""
    if ":" not in host and not NUMERIC.fullmatch(host):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise Blocked("legal: a full domain name, or an address in its plain spelling") from None


def _entries(texts: Sequence[str], field: str) -> tuple[tuple[Network, ...], list[str]]:
    networks: list[Network] = []
    names = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            if not NAME.fullmatch(text) or NUMERIC.fullmatch(text):
                raise ValueError(f"{field}: {text!r} is neither a network nor a host name ({error})") from None
            names.append(text)
    return tuple(networks), names
