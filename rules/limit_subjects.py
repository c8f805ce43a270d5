"""Who a limit is about: the keys of rate_limits.

An IPv6 client owns a whole /64 and an IPv4 neighbourhood shares a /24, so that is what counts as
one network. Addresses of people enter as hashes: the table tells nobody's e-mail.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, ip_network

from rules.client_address import Address, Network

LOGIN_FROM_IP = "login:ip:"


def source(address: Address | None) -> str:
    """What counts as one IP: an IPv4 address, an IPv6 /64; all of a unix socket are one."""
    if address is None:
        return "local"
    return str(address if isinstance(address, IPv4Address) else network(address))


def network(address: Address) -> Network:
    """The neighbourhood of an address: IPv4 /24, IPv6 /64."""
    return ip_network((address, 24 if isinstance(address, IPv4Address) else 64), strict=False)


def login_from_ip(address: Address | None) -> str:
    return LOGIN_FROM_IP + source(address)


def login_to_account_from_network(email_key: str, address: Address | None) -> str:
    where = network(address) if address is not None else "local"
    return f"login:account:{_hash(email_key)}@{where}"


def login_to_account(email_key: str) -> str:
    return f"login:account:{_hash(email_key)}"


def registration_from_ip(address: Address | None) -> str:
    return f"register:ip:{source(address)}"


def chat_from_address(address: Address | None) -> str:
    return f"chat:ip:{source(address)}"


def chat_of_account(user_id: int) -> str:
    """As append_messages makes it, which alone knows whose session it is."""
    return f"chat:account:{user_id}"


def channels_of_account(user_id: int) -> str:
    return f"channel:account:{user_id}"


def lookups_of_account(user_id: int) -> str:
    return f"people:account:{user_id}"


def calls_of_operator(actor: str) -> str:
    return f"ops:actor:{actor}"


def tickets_of_session(session_id: int) -> str:
    return f"ticket:session:{session_id}"


def refreshes_of_session(session_id: int) -> str:
    return f"refresh:session:{session_id}"


def _hash(email_key: str) -> str:
    return hashlib.sha256(email_key.encode("utf-8")).hexdigest()[:32]
