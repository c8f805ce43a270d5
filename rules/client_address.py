"""Which address a request comes from, and whether by HTTPS, when proxies stand in front.

Each trusted proxy appends the peer it saw to X-Forwarded-For, so with N trusted proxies the client
is the Nth entry from the right; whatever stands further left was written by the client itself. A
chain that is too short, or an entry that is no address, falls back to the peer.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_MAPPED_BITS = 96  # of ::ffff:192.0.2.1, before the IPv4 address (RFC 4291, 2.5.5.2)


def client_address(peer: str, forwarded_for: str | None, trusted_hops: int) -> Address | None:
    """None only where not even the peer is an IP address (a unix socket)."""
    chain = [part.strip() for part in (forwarded_for or "").split(",")]
    if trusted_hops > 0 and len(chain) >= trusted_hops:
        claimed = _parse(chain[-trusted_hops])
        if claimed is not None:
            return claimed
    return _parse(peer)


def came_by_https(forwarded_proto: str | None, trusted_hops: int) -> bool:
    """Proxies set this header or append to it; where one of them says http, it was not HTTPS."""
    if trusted_hops == 0 or forwarded_proto is None:
        return False
    return all(entry.strip().lower() == "https" for entry in forwarded_proto.split(","))


def read_network(text: str) -> Network:
    """An address, or a network in CIDR form; IPv4 written as IPv6 becomes IPv4, as addresses do.

    Raises ValueError.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # Behind a dual-stack listener an IPv4 client looks like ::ffff:192.0.2.1. A scope (%eth0)
        # has a meaning on one machine only, and Postgres's inet has no place for it.
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        return IPv6Address(int(address))
    return address
