"""The ten thousand commonest passwords, refused at registration and change (NIST SP 800-63B).

Data: the first 10 000 entries, commonest first, of the password frequency list that the zxcvbn
password estimator ships (Dropbox, MIT licence); it was counted over published leaks. One a line.
"""

from __future__ import annotations

from pathlib import Path

from rules import fields
from rules.errors import invalid_field

_COMMON = frozenset(
    (Path(__file__).parent / "common_passwords.txt").read_text("utf-8").splitlines()
)


def new_password(name: str, value: object) -> str:
    """fields.new_password, and not one that everybody guesses first, however capitalised."""
    password = fields.new_password(name, value)
    if password.lower() in _COMMON:
        raise invalid_field(name, "is one of the commonest passwords: choose another")
    return password
