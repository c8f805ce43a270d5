"""Which address a request comes from, and whether by HTTPS, when proxies stand in front.

Each trusted proxy appends the peer it saw to X-Forwarded-For, so with N trusted proxies the client
is the Nth entry from the right; whatever stands further left was written by the client itself. A
chain that is too short, or an entry that is no address, falls back to the peer.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address


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
