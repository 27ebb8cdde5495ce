"""Which IP addresses are public: those that an image may be fetched from unless a spec allows others.

Stricter than `ipaddress.is_global`, which calls multicast, 6to4 and some reserved blocks global
(https://www.iana.org/assignments/iana-ipv4-special-registry, and the IPv6 one).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_PRIVATE_V4 = tuple(
    IPv4Network(block)
    for block in (
        "100.64.0.0/10",  # carriers' NAT, and a cloud's metadata service
        "168.63.129.16/32",  # Azure's metadata service: a public number that only machines there see
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_PRIVATE_V6 = tuple(
    IPv6Network(block) for block in ("2001:2::/48", "2001:db8::/32", "2001:10::/28", "3fff::/20")
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = {0x00005EFE, 0x02005EFE}
"""Second half of an interface identifier's first half: RFC 5214."""


def is_public(address: Address) -> bool:
    """Whether it is an address of the Internet; so must be an IPv4 address that an IPv6 one has in it."""
    if isinstance(address, IPv4Address):
        outside = any(address in block for block in _PRIVATE_V4)
        return address.is_global and not (address.is_multicast or address.is_reserved or outside)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address not in _GLOBAL_V6 and address not in _NAT64:
        return False
    if any(address in block for block in _PRIVATE_V6):
        return False
    return all(map(is_public, _embedded(address)))


def address_of(host: str) -> Address | None:
    """The address that a host is written as, or None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def looks_numeric(host: str) -> bool:
    """Whether system libraries may read the host as a number: 2130706433, 0x7f.1, 0177.0.0.1.

    The rule of browsers (https://url.spec.whatwg.org/#ends-in-a-number-checker).
    """
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or (
        last.startswith("0x") and all(digit in "0123456789abcdef" for digit in last[2:])
    )


def _embedded(address: IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that routers may take out of an IPv6 one."""
    found = list(address.teredo or ())
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found
