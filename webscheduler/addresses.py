# SPDX-License-Identifier: LGPL-3.0-or-later
"""Client addresses: which one a request came from, and whether a list of networks holds it. A leaf.

The rule: an address is believed only as far as it can be proven. The peer of the connection is known; what
X-Forwarded-For says is believed from right to left, and only as long as each hop is a proxy that the settings trust.
What is no address is in no network. `ipaddress` costs 5 ms to import, so this module is loaded only where an
allow-list or a trusted proxy is set.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# What of the registries of special addresses (IANA, RFC 6890) nobody has on the internet. `ipaddress` has such a list,
# but each version of Python another.
INSIDE = tuple(map(ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "2001::/23", "2001:db8::/32", "3fff::/20")))
UNICAST = IPv6Network("2000::/3")  # all of IPv6 that is given to anybody (RFC 4291)
NAT64, SIX_TO_FOUR = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")  # RFC 6052, RFC 3056: IPv4 in IPv6
MOST_FORWARDED = 4000  # characters: the last ones, since trusted proxies append, and what is before them is not read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Union

    Address = Union[IPv4Address, IPv6Address]
    Network = Union[IPv4Network, IPv6Network]


def address(text: str) -> Address | None:
    """The address in `text`, with or without a port; IPv4-mapped IPv6 (RFC 4291, 2.5.5.2) becomes IPv4."""
    text = text.strip()

    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]

    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None

    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def is_public(text: str) -> bool:
    """Whether the address in `text` is one of the internet, and no loopback, private, link-local, multicast or reserved
    one. An IPv4 address inside an IPv6 one counts, since a gateway may send there what is sent to the other."""
    found = address(text)

    if found is not None and found in NAT64:
        found = IPv4Address(int(found) & 0xFFFFFFFF)
    elif found is not None and found in SIX_TO_FOUR:
        found = IPv4Address(int(found) >> 80 & 0xFFFFFFFF)

    return found is not None and (found.version == 4 or found in UNICAST) and not any(found in net for net in INSIDE)


def network(text: str) -> Network | None:
    """The network in `text` (an address alone is a network of one), or None; bits below the prefix must be zero."""
    try:
        found = ip_network(text)
    except ValueError:
        return None

    if isinstance(found, IPv6Network) and found.prefixlen >= 96 and found.network_address.ipv4_mapped:
        return IPv4Network((found.network_address.ipv4_mapped, found.prefixlen - 96))

    return found


def allowed(text: str, networks: Sequence[str]) -> bool:
    """Whether the address in `text` lies in one of the networks; `unix` stands for a peer without an address."""
    if not text:
        return "unix" in networks

    found = address(text)
    return found is not None and any(found in net for net in map(network, networks) if net is not None)


def client(peer: str, forwarded: str, trusted: Sequence[str]) -> str:
    """The client's address: the peer's, or the first from the right of X-Forwarded-For that is no trusted proxy."""
    hops = [hop.strip() for hop in forwarded[-MOST_FORWARDED:].split(",")] if forwarded.strip() else []
    current = peer

    while hops and allowed(current, trusted):
        current = hops.pop()

        if address(current) is None:
            return current[:64]  # not an address: in no allow-list, but worth showing

    found = address(current)
    return str(found) if found is not None else current[:64]


def by_https(environ: dict[str, Any], trusted: Sequence[str]) -> bool:
    """Whether the request came by https: to this server, or to a trusted proxy that says so."""
    forwarded = str(environ.get("HTTP_X_FORWARDED_PROTO", "")).strip().lower() == "https"
    return environ.get("wsgi.url_scheme") == "https" or (
        forwarded and allowed(str(environ.get("REMOTE_ADDR", "")), trusted))
