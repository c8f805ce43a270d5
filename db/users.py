"""Accounts: who exists, under which address, with which password hash."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from db import queries
from rules.fields import email_key

_SQL = queries.load("users")
_INSERT = _SQL["insert_user"]
_BY_EMAIL = _SQL["find_user_by_email_key"]
_BY_ID = _SQL["find_user_by_id"]
_FIND_PERSON = _SQL["find_person"]
_PEOPLE_NAMED = _SQL["list_people_named"]
_HAS_RESET = _SQL["has_password_reset"]
_REDEEM_RESET = _SQL["redeem_password_reset"]
_REPLACE_PASSWORD = _SQL["replace_password_hash"]
_UPDATE_DISPLAY_NAME = _SQL["update_display_name"]


@dataclass(frozen=True, slots=True)
class User:
    id: int
    email: str
    display_name: str
    is_admin: bool
    password_hash: str = field(repr=False)
    disabled: bool


@dataclass(frozen=True, slots=True)
class Person:
    """What people may know of each other."""

    id: int
    display_name: str


def insert_user(
    connection: Connection, *, email: str, password_hash: str, display_name: str
) -> User | None:
    """None when the address is taken."""
    values = {
        "email": email,
        "email_key": email_key(email),
        "password_hash": password_hash,
        "display_name": display_name,
    }
    with connection.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(_INSERT, values).fetchone()


def find_user_by_email(connection: Connection, email: str) -> User | None:
    with connection.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(_BY_EMAIL, (email_key(email),)).fetchone()


def find_user(connection: Connection, user_id: int) -> User | None:
    with connection.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(_BY_ID, (user_id,)).fetchone()


def replace_password_hash(
    connection: Connection, user_id: int, *, checked_hash: str, new_hash: str
) -> bool:
    """False when the stored hash is no longer the one that was checked."""
    values = {"user_id": user_id, "checked_hash": checked_hash, "new_hash": new_hash}
    return connection.execute(_REPLACE_PASSWORD, values).rowcount == 1


def has_password_reset(connection: Connection, token_hash: bytes) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(_HAS_RESET, (token_hash,)).fetchone())


def redeem_password_reset(
    connection: Connection, token_hash: bytes, password_hash: str
) -> int | None:
    """Sets the password and ends all sessions; whose it was, or None where it is none any more."""
    values = {"token_hash": token_hash, "password_hash": password_hash}
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(_REDEEM_RESET, values).fetchone()


def update_display_name(connection: Connection, user_id: int, display_name: str) -> None:
    values = {"user_id": user_id, "display_name": display_name}
    connection.execute(_UPDATE_DISPLAY_NAME, values)


def find_person(connection: Connection, user_id: int) -> Person | None:
    """None for a disabled account too: nobody answers there."""
    with connection.cursor(row_factory=class_row(Person)) as cursor:
        return cursor.execute(_FIND_PERSON, (user_id,)).fetchone()


def list_people_named(connection: Connection, display_name: str, limit: int) -> list[Person]:
    """Those who are called exactly this, the longest-standing first."""
    values = {"display_name": display_name, "limit": limit}
    with connection.cursor(row_factory=class_row(Person)) as cursor:
        return cursor.execute(_PEOPLE_NAMED, values).fetchall()
