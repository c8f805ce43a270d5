"""Password hashes: scrypt, checked and told apart, with a cost that can be raised."""

from __future__ import annotations

import base64
import hashlib

import pytest

from rules import passwords
from rules.passwords import ScryptCost, hash_password, needs_rehash

CHEAP = ScryptCost(log2_n=4)
PASSWORD = "a horse of another colour"


def verify_password(password: str, stored: str, at_least: ScryptCost = CHEAP) -> bool:
    return passwords.verify_password(password, stored, at_least)


class TestVerifying:
    def test_the_password_fits_its_hash_and_no_other(self) -> None:
        stored = hash_password(PASSWORD, CHEAP)
        assert verify_password(PASSWORD, stored)
        for other in ("", PASSWORD + " ", PASSWORD.upper(), PASSWORD[:-1]):
            assert not verify_password(other, stored)

    def test_passwords_are_taken_as_sent_without_normalising(self) -> None:
        assert not verify_password("e\u0301", hash_password("\u00e9", CHEAP))

    def test_nothing_of_a_long_password_is_cut_off(self) -> None:
        assert not verify_password("x" * 127 + "y", hash_password("x" * 128, CHEAP))

    def test_the_same_password_has_another_hash_each_time(self) -> None:
        assert len({hash_password(PASSWORD, CHEAP) for _ in range(10)}) == 10

    def test_a_hash_is_checked_at_the_cost_that_it_was_made_with(self) -> None:
        stored = hash_password(PASSWORD, ScryptCost(log2_n=5, r=4, p=2))
        assert stored.startswith("scrypt$5$4$2$")
        assert verify_password(PASSWORD, stored)
        assert not verify_password(PASSWORD, stored.replace("$5$4$2$", "$4$4$2$"))

    @pytest.mark.parametrize("password", [PASSWORD, "a wild guess"])
    def test_an_older_cheaper_hash_takes_the_time_of_todays(
        self, password: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = hash_password(PASSWORD, CHEAP)
        spent: list[int] = []
        real = hashlib.scrypt

        def counted(*arguments: object, n: int, **options: object) -> bytes:
            spent.append(n)
            return real(*arguments, n=n, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(hashlib, "scrypt", counted)
        verify_password(password, stored, ScryptCost(log2_n=7))
        assert sum(spent) == 2**7
        spent.clear()
        verify_password(password, stored, ScryptCost(log2_n=3))
        assert spent == [2**4]

    def test_it_is_scrypt_of_rfc_7914(self) -> None:
        # RFC 7914, section 12: the vector with N=1024, r=8, p=16, cut to our 32 bytes.
        digest = hashlib.scrypt(b"password", salt=b"NaCl", n=1024, r=8, p=16, dklen=32)
        assert digest.hex().startswith("fdbabe1c9d3472007856e7190d01e9fe")
        salt, hashed = (base64.urlsafe_b64encode(part).decode() for part in (b"NaCl", digest))
        assert verify_password("password", f"scrypt$10$8$16${salt}${hashed}")

    def test_the_highest_cost_that_may_be_set_is_asked_for_as_hashlib_takes_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: dict[str, int] = {}

        def in_place_of_a_gibibyte(*_: object, **options: int) -> bytes:
            asked.update(options)
            return bytes(32)

        monkeypatch.setattr(hashlib, "scrypt", in_place_of_a_gibibyte)
        hash_password(PASSWORD, ScryptCost(log2_n=20))
        assert 128 * asked["r"] * asked["n"] < asked["maxmem"] < 2**31

    def test_production_cost_needs_no_setting_of_openssl(self) -> None:
        stored = hash_password(PASSWORD, ScryptCost())
        assert stored.startswith("scrypt$15$8$3$")
        assert verify_password(PASSWORD, stored)

    @pytest.mark.parametrize(
        "stored", ["", "x", "bcrypt$4$8$3$AAAA$AAAA", "scrypt$4$8$3$AAAA", "scrypt$a$8$3$AA==$AA=="]
    )
    def test_a_stored_value_that_is_no_hash_of_ours_is_an_error(self, stored: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            verify_password(PASSWORD, stored)


class TestRehashing:
    def test_a_hash_of_the_current_cost_stays(self) -> None:
        assert not needs_rehash(hash_password(PASSWORD, CHEAP), CHEAP)

    @pytest.mark.parametrize(
        "cost",
        [ScryptCost(log2_n=5), ScryptCost(log2_n=4, r=4), ScryptCost(log2_n=4, p=1)],
    )
    def test_a_hash_of_any_other_cost_is_made_anew(self, cost: ScryptCost) -> None:
        assert needs_rehash(hash_password(PASSWORD, CHEAP), cost)
