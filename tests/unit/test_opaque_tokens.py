"""Refresh tokens and tickets: 256 bits that nobody guesses, and successors that nobody derives."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from rules.opaque_tokens import hash_token, is_token, new_nonce, new_token, successor_of


class TestTheForm:
    def test_a_token_is_32_bytes_in_base64url(self) -> None:
        token = new_token()
        assert is_token(token)
        assert len(base64.urlsafe_b64decode(token + "=")) == 32

    def test_no_two_are_alike(self) -> None:
        assert len({new_token() for _ in range(1000)}) == 1000
        assert len({new_nonce() for _ in range(1000)}) == 1000

    @pytest.mark.parametrize(
        "candidate",
        ["", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "\n", "A" * 43 + "\n", "\uff21" * 43]
        + ["A" * 42 + mark for mark in "+/. \x00é"],
    )
    def test_anything_else_is_none(self, candidate: str) -> None:
        assert not is_token(candidate)

    def test_what_is_stored_is_a_hash_of_the_token(self) -> None:
        assert hash_token("A" * 43) == hashlib.sha256(b"A" * 43).digest()


class TestTheSuccessor:
    def test_it_is_a_token_like_any_other(self) -> None:
        assert is_token(successor_of(new_token(), new_nonce()))

    def test_the_same_token_and_nonce_give_the_same_one(self) -> None:
        token, nonce = new_token(), new_nonce()
        derived = hmac.digest(token.encode(), nonce, "sha256")
        assert base64.urlsafe_b64decode(successor_of(token, nonce) + "=") == derived
        assert successor_of(token, nonce) == successor_of(token, nonce)

    def test_neither_the_token_nor_the_nonce_alone_gives_it(self) -> None:
        token, nonce = new_token(), new_nonce()
        successor = successor_of(token, nonce)
        assert successor_of(token, new_nonce()) != successor
        assert successor_of(new_token(), nonce) != successor

    def test_what_the_database_holds_does_not_give_it(self) -> None:
        token, nonce = new_token(), new_nonce()
        stored = hash_token(token)
        derived = hmac.digest(stored, nonce, "sha256")
        assert base64.urlsafe_b64decode(successor_of(token, nonce) + "=") != derived
