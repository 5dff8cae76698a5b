"""Where webhooks may go: no spelling of an inner address gets through, and honest ones do."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.settings import Settings
from jobs.webhooks.addresses import NEVER, Blocked, Guard, public

PLAIN = Guard.of(Settings())
OPEN = Guard.of(Settings(webhook_http=True, webhook_ports=(80, 443)))
# IANA's registries of addresses that are not for everybody, and where clouds keep their secrets.
INNER = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
            *("::/8", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7"),
            *("fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b:1::/48"),
        ),
    )
)
INSIDE4 = [network for network in INNER if network.version == 4]


@st.composite
def inner(draw: st.DrawFn, networks: Any = INNER) -> Any:
    network = draw(st.sampled_from(networks))
    return network[draw(st.integers(0, network.num_addresses - 1))]


def carried(address: IPv4Address) -> list[IPv6Address]:
    """The IPv6 addresses that mean an IPv4 one: mapped, compatible, translated, NAT64, 6to4, Teredo."""
    number = int(address)
    spelt = [
        0xFFFF << 32 | number,
        number,
        0xFFFF << 48 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
    ]
    teredo = 0x20010000 << 96 | number << 64 | (number ^ 0xFFFFFFFF)
    return [IPv6Address(each) for each in (*spelt, teredo)]


def spellings(address: IPv4Address) -> list[str]:
    """What `inet_aton` and browsers take for it."""
    number, (a, b, c, d) = int(address), address.packed
    return [
        str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{c << 8 | d}",
        f"0{a:o}.{b}.{c}.{d}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"{a}.{b}.{c}.{d}.", f"{a:03}.{b}.{c}.{d}",
    ]  # fmt: skip


@given(inner())
@example(IPv4Address("169.254.169.254"))
@example(IPv4Address("100.100.100.200"))
@example(IPv4Address("192.0.0.192"))
@example(IPv6Address("fd00:ec2::254"))
def test_no_inner_address_is_permitted(address: Any) -> None:
    assert not PLAIN.permits("hooks.example", address)
    host = f"[{address}]" if address.version == 6 else str(address)
    with pytest.raises(Blocked):
        PLAIN.check(f"https://{host}/")


@given(inner(INSIDE4))
def test_no_disguise_of_an_inner_address_is_permitted(address: Any) -> None:
    """Neither as an address, nor spelt in a URL."""
    for disguise in carried(address):
        assert not PLAIN.permits("hooks.example", disguise), disguise
        with pytest.raises(Blocked):
            PLAIN.check(f"https://[{disguise}]/")
    for spelt in spellings(address):
        with pytest.raises(Blocked):
            PLAIN.check(f"https://{spelt}/")


@given(st.ip_addresses())
def test_a_public_address_is_so_by_both_tables(address: Any) -> None:
    """Ours only takes away from Python's; every network of IANA's list is out."""
    if public(address):
        assert address.is_global
        assert not any(address in network for network in (*INNER, *NEVER) if network.version == address.version)


@given(st.ip_addresses(v=4).filter(public))
def test_an_address_of_the_internet_is_permitted_also_behind_nat64(address: Any) -> None:
    assert PLAIN.permits("hooks.example", address)
    assert PLAIN.check(f"https://{address}/x").host == str(address)
    assert PLAIN.permits("hooks.example", IPv6Address(0x64FF9B << 96 | int(address)))
    assert PLAIN.permits("hooks.example", IPv6Address(0xFFFF << 32 | int(address)))


@pytest.mark.parametrize(
    "url",
    [
        *("", "https://", "https:///x", "//hooks.example/", "https:hooks.example", "https:/\\hooks.example/"),
        *("http://hooks.example/", "ftp://hooks.example/", "file:///etc/passwd", "javascript:alert(1)"),
        *("https://user@hooks.example/", "https://user:word@hooks.example/", "https://hooks.example@10.0.0.1/"),
        *("https://10.0.0.1@hooks.example/", "https://hooks.example%40evil/", "https://hooks.example\\@10.0.0.1/"),
        *("https://hooks.example#@10.0.0.1/", "https://hooks.example/#x", "https://hooks.example /"),
        *(" https://hooks.example/", "https://hooks.example/\r\nX: y", "https://hooks.example/\x00"),
        *("https://hooks.example\t/", "https://höoks.example/", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/"),
        *("https://localhost/", "https://intranet/", "https://hooks..example/", "https://-x.example/"),
        *("https://x-.example/", "https://x_y.example/", "https://hooks.example./", "https://.example/"),
        *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/", "https://[::1", "https://::1/"),
        *("https://[127.0.0.1]/", "https://[hooks.example]/", "https://127.1/", "https://0/", "https://0x7f.1/"),
        *("https://1.2.3/", "https://a.b.0x7f/", "https://hooks.example.127/", "https://hooks.example:22/"),
        *("https://hooks.example:0/", "https://hooks.example:65536/", "https://hooks.example:443:443/"),
        *("https://hooks.example:/", "https://hooks.example:+443/", "https://hooks.example:4٣/"),
        *(f"https://{64 * 'a'}.example/", f"https://{130 * 'a.'}b/"),
    ],
)
def test_what_has_no_legal_form_is_refused(url: str) -> None:
    with pytest.raises(Blocked):
        PLAIN.check(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example", "hooks.example", 443, "/"),
        ("HTTPS://Hooks.Example:8443/a/b;c?d=e&f=%20", "hooks.example", 8443, "/a/b;c?d=e&f=%20"),
        ("https://hooks.example?x", "hooks.example", 443, "/?x"),
        ("https://xn--hks-sna.example/~u", "xn--hks-sna.example", 443, "/~u"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "/"),
        ("https://3com.example/@path", "3com.example", 443, "/@path"),
    ],
)
def test_honest_urls_are_taken_apart(url: str, host: str, port: int, path: str) -> None:
    found = PLAIN.check(url)
    assert (found.scheme, found.host, found.port, found.path) == ("https", host, port, path)


def test_the_operator_may_open_and_close() -> None:
    """A network, a name; what is denied is denied also where a name is allowed."""
    allow, deny = ("10.1.0.0/16", "intranet", "fd00::/8"), ("10.1.9.0/24", "8.8.8.0/24")
    guard = Guard.of(Settings(webhook_http=True, webhook_allow=allow, webhook_deny=deny))
    assert guard.check("http://10.1.2.3:8080/").port == 8080
    assert guard.check("http://intranet:9/x").netloc == "intranet:9"
    for url in (
        "http://10.2.0.1/",
        "http://10.1.9.1/",
        "https://8.8.8.8/",
        "http://10.1.2.3.example:8080/",
        "http://inner/",
    ):
        with pytest.raises(Blocked):
            guard.check(url)
    for text, legal in (
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("10.1.9.1", False),
        ("::ffff:10.1.2.3", True),
        ("fd12::1", True),
    ):
        assert guard.permits("hooks.example", ipaddress.ip_address(text)) is legal, text
    assert guard.permits("intranet", ipaddress.ip_address("192.168.0.1"))
    assert not guard.permits("intranet", ipaddress.ip_address("10.1.9.1"))


@pytest.mark.parametrize("field", ["webhook_allow", "webhook_deny"])
@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/33", "a b", "https://x", "300.1.1.1", ""])
def test_an_operators_slip_is_told_with_field_and_value(field: str, entry: str) -> None:
    with pytest.raises(ValueError, match=field):
        Guard.of(Settings(**{field: (entry,)}))


@pytest.mark.parametrize(
    ("addresses", "legal"),
    [
        (["93.184.216.34"], True),
        (["93.184.216.34", "2606:4700::1111"], True),
        (["93.184.216.34", "10.0.0.1"], False),
        (["10.0.0.1", "93.184.216.34"], False),
        (["fe80::1%eth0"], False),
        (["64:ff9b::7f00:1"], False),
    ],
)
def test_one_inner_address_spoils_a_name(addresses: list[str], legal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever comes first; and the refusal tells nobody the address."""
    answers = [(0, socket.SOCK_STREAM, 6, "", (text, 443)) for text in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    if legal:
        assert PLAIN.resolve("hooks.example", 443) == addresses
    else:
        with pytest.raises(Blocked) as blocked:
            PLAIN.resolve("hooks.example", 443)
        assert not any(text in str(blocked.value) for text in addresses)
