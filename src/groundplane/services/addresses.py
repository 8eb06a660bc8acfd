"""Addresses that strangers may not have the control plane ask: of its host alone, or of its cloud's own services."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_OF_THE_HOST = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this host
            "255.255.255.255/32",
            "100.100.100.200/32",  # Alibaba's instance metadata
            "168.63.129.16/32",  # Azure's
            "fd00:ec2::/32",  # Amazon's, with its name and time servers
            "fd20:ce::/32",  # Google's
            "fd00:c1::/32",  # Oracle's
            "fd00:42::/32",  # Scaleway's
        ),
    )
)
"""What no address's kind tells: the clouds' own services answer each host as itself, with its keys."""
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
"""IPv6 for an IPv4 address that stands in the last four bytes."""


def is_own(text: str) -> bool:
    """Whether the numeric address, however it is written, is one of loopback, of the link, of many hosts at once, or of
    a cloud's services for the host itself. Raises ValueError for what is no address."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    return any(map(_is_own, (ip, *_inside(ip))))


def _is_own(ip: Address) -> bool:
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return True
    return any(ip in network for network in _OF_THE_HOST if network.version == ip.version)


def _inside(ip: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if any(ip in network for network in _TRANSLATED) else None
    return [each for each in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ()), last) if each is not None]
