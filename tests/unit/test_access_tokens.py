"""Access tokens: what PyJWT reads, and what of all forgeries is believed: none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.access_tokens import MAX_TOKEN_CHARS, AccessClaims, AccessTokens, key_id
from rules.errors import Refusal
from tests.support.fuzz import FEW

NOW = 1_790_000_000
KEY, NEXT_KEY, OTHER_KEY = (bytes([n]) * 16 + b"0123456789abcdef" for n in range(3))
HEADER = {"alg": "HS256", "kid": key_id(KEY), "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "aud": "gatehouse-client",
    "exp": NOW + 900,
    "iat": NOW,
    "iss": "gatehouse",
    "jti": "0" * 32,
    "sid": "12",
    "sub": "7",
}


def tokens(*keys: bytes) -> AccessTokens:
    return AccessTokens(keys or (KEY,), "gatehouse", "gatehouse-client", 900)


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def forge(
    claims: Any = CLAIMS, header: Any = HEADER, key: bytes = KEY, *, digest: str = "sha256"
) -> str:
    """A token with a right signature over whatever is wanted."""
    signed = f"{segment(compact(header))}.{segment(compact(claims))}"
    return f"{signed}.{segment(hmac.digest(key, signed.encode(), digest))}"


def assert_refused(token: str, reader: AccessTokens | None = None) -> None:
    with pytest.raises(Refusal) as caught:
        (reader or tokens()).read(token)
    assert caught.value.code == "unauthorized"
    assert caught.value.message == "Valid credentials are required."


class TestIssuing:
    def test_pyjwt_reads_what_we_write(self) -> None:
        token = tokens().issue(user_id=7, session_id=12, now=NOW + 0.9)
        claims = jwt.decode(
            token,
            KEY,
            algorithms=["HS256"],
            audience="gatehouse-client",
            issuer="gatehouse",
            options={
                "require": ["iss", "aud", "sub", "iat", "exp", "jti"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
        assert len(claims.pop("jti")) == 32
        assert claims == {name: value for name, value in CLAIMS.items() if name != "jti"}
        assert jwt.get_unverified_header(token) == HEADER

    def test_what_was_issued_is_read_back(self) -> None:
        token = tokens().issue(user_id=7, session_id=12, now=NOW)
        assert tokens().read(token) == AccessClaims(user_id=7, session_id=12, expires_at=NOW + 900)

    def test_a_token_of_pyjwt_with_our_header_is_one_of_ours(self) -> None:
        header = {"kid": key_id(KEY)}
        theirs = jwt.encode(CLAIMS, KEY, algorithm="HS256", headers=header, sort_headers=True)
        assert tokens().read(theirs).session_id == 12

    def test_two_tokens_of_the_same_second_differ(self) -> None:
        assert len({tokens().issue(user_id=7, session_id=12, now=NOW) for _ in range(10)}) == 10

    def test_the_largest_ids_are_read_back(self) -> None:
        token = tokens().issue(user_id=2**53 - 1, session_id=2**53 - 1, now=NOW)
        assert len(token) < 500
        assert tokens().read(token).user_id == 2**53 - 1

    def test_a_signer_without_keys_cannot_be_made(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            AccessTokens((), "gatehouse", "gatehouse-client", 900)

    def test_the_name_of_a_key_is_no_plain_hash_of_it(self) -> None:
        assert key_id(KEY) not in hashlib.sha256(KEY).hexdigest()
        assert key_id(KEY) != key_id(OTHER_KEY)


class TestForgeries:
    def test_the_forge_makes_good_tokens_too(self) -> None:
        assert tokens().read(forge()) == AccessClaims(7, 12, NOW + 900)

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
    def test_a_token_that_says_it_needs_no_signature(self, algorithm: str) -> None:
        head = segment(compact({**HEADER, "alg": algorithm}))
        body = segment(compact(CLAIMS))
        assert_refused(f"{head}.{body}.")
        assert_refused(f"{segment(compact(HEADER))}.{body}.")
        assert_refused(forge(header={**HEADER, "alg": algorithm}))

    @pytest.mark.parametrize("digest", ["sha384", "sha512"])
    def test_another_algorithm_of_the_same_key(self, digest: str) -> None:
        header = {**HEADER, "alg": digest.replace("sha", "HS")}
        assert_refused(forge(header=header, digest=digest))
        assert_refused(forge(digest=digest))

    def test_another_key(self) -> None:
        assert_refused(forge(key=OTHER_KEY))
        assert_refused(forge(header={**HEADER, "kid": key_id(OTHER_KEY)}, key=OTHER_KEY))

    @pytest.mark.parametrize(
        "header",
        [
            {**HEADER, "kid": key_id(OTHER_KEY)},
            {**HEADER, "kid": "../../dev/null"},
            {"alg": "HS256", "typ": "JWT"},
            {**HEADER, "alg": "RS256"},
            {**HEADER, "alg": "hs256"},
            {**HEADER, "typ": "at+jwt"},
            {**HEADER, "jku": "https://keys.example.org"},
            {**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}},
            {**HEADER, "crit": ["exp"]},
            {**HEADER, "b64": False},
            [],
            "HS256",
            None,
        ],
    )
    def test_another_header_though_it_is_signed_with_our_key(self, header: Any) -> None:
        assert_refused(forge(header=header))

    def test_our_header_written_in_another_order(self) -> None:
        head = segment(json.dumps(dict(reversed(HEADER.items()))).encode())
        signed = f"{head}.{segment(compact(CLAIMS))}"
        assert_refused(f"{signed}.{segment(hmac.digest(KEY, signed.encode(), 'sha256'))}")

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "gatehouse "},
            {"iss": None},
            {"aud": "another-client"},
            {"aud": ["gatehouse-client"]},
            {"exp": str(NOW + 900)},
            {"exp": NOW + 900.5},
            {"exp": True},
            {"exp": None},
            {"iat": "now"},
            {"sub": 7},
            {"sub": ""},
            {"sub": "-7"},
            {"sub": "7.0"},
            {"sub": "9" * 17},
            {"sid": 12},
            {"sid": "12 OR 1=1"},
            {"sid": None},
        ],
    )
    def test_a_claim_with_a_wrong_value_though_it_is_signed_with_our_key(
        self, changes: dict[str, Any]
    ) -> None:
        assert_refused(forge({**CLAIMS, **changes}))

    @pytest.mark.parametrize("missing", ["iss", "aud", "exp", "iat", "sub", "sid"])
    def test_a_claim_is_missing(self, missing: str) -> None:
        assert_refused(forge({name: value for name, value in CLAIMS.items() if name != missing}))

    @pytest.mark.parametrize("claims", [[], "claims", 1, None, [["iss", "gatehouse"]]])
    def test_claims_that_are_no_object(self, claims: Any) -> None:
        assert_refused(forge(claims))

    def test_a_body_that_is_no_json(self) -> None:
        for data in (b"", b"{", b"\xff", b"\x00", b"[" * 500):
            signed = f"{segment(compact(HEADER))}.{segment(data)}"
            assert_refused(f"{signed}.{segment(hmac.digest(KEY, signed.encode(), 'sha256'))}")

    def test_a_token_for_another_installation(self) -> None:
        token = tokens().issue(user_id=7, session_id=12, now=NOW)
        assert_refused(token, AccessTokens([KEY], "staging", "gatehouse-client", 900))
        assert_refused(token, AccessTokens([KEY], "gatehouse", "staging-client", 900))


class TestOneSpelling:
    """base64 has several spellings of the same bytes; a token has one."""

    def test_the_last_character_cannot_be_varied(self) -> None:
        # Of the last of 43 characters only four bits count: three more spell the same bytes.
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        token = forge()
        last = alphabet.index(token[-1])
        same_bytes = [alphabet[last & ~3 | low] for low in range(4)]
        assert token[-1] in same_bytes
        for character in same_bytes:
            if character != token[-1]:
                assert_refused(token[:-1] + character)

    @pytest.mark.parametrize(
        "respell",
        [
            lambda token: token + "=",
            lambda token: token + "==",
            lambda token: token + "\n",
            lambda token: " " + token,
            lambda token: token[:-3] + "\n" + token[-3:],
            lambda token: token + ".",
            lambda token: "." + token,
            lambda token: token.replace(".", "..", 1),
            lambda token: token.replace(".", ""),
            lambda token: token.rpartition(".")[0],
            lambda token: token + "\u0660",
            lambda token: token.replace(".", "\u2024"),
            lambda token: "",
            lambda token: "..",
            lambda token: "." * 5000,
            lambda token: token + "A" * MAX_TOKEN_CHARS,
        ],
    )
    def test_nothing_may_be_added_or_left_out(self, respell: Callable[[str], str]) -> None:
        assert_refused(respell(forge()))

    def test_the_alphabet_of_plain_base64_is_another_spelling(self) -> None:
        for number in range(100):
            token = forge({**CLAIMS, "jti": f"{number:032}"})
            if "-" in token or "_" in token:
                assert_refused(token.replace("-", "+").replace("_", "/"))
                return
        pytest.fail("no token held a character that the alphabets do not share")

    @FEW
    @given(position=st.integers(0, 1000), character=st.characters(codec=None))
    def test_no_character_can_be_exchanged(self, position: int, character: str) -> None:
        token = forge()
        position %= len(token)
        if token[position] != character:
            assert_refused(token[:position] + character + token[position + 1 :])

    @FEW
    @given(text=st.text(st.characters(codec=None) | st.sampled_from("..eyJ0-_="), max_size=300))
    def test_no_text_is_anything_but_refused(self, text: str) -> None:
        assert_refused(text)


class TestRotation:
    def test_a_key_is_added_then_moved_up_then_dropped(self) -> None:
        before, added, moved, dropped = (
            tokens(KEY),
            tokens(KEY, NEXT_KEY),
            tokens(NEXT_KEY, KEY),
            tokens(NEXT_KEY),
        )
        old = before.issue(user_id=7, session_id=12, now=NOW)
        still_old = added.issue(user_id=7, session_id=12, now=NOW)
        new = moved.issue(user_id=7, session_id=12, now=NOW)
        # Each step and the one before it run side by side during a deployment.
        for one, other in ((before, added), (added, moved), (moved, dropped)):
            for issuer, reader in ((one, other), (other, one)):
                token = issuer.issue(user_id=7, session_id=12, now=NOW)
                assert reader.read(token).session_id == 12
        assert moved.read(old) == moved.read(still_old) == moved.read(new)
        assert dropped.read(new).session_id == 12
        assert_refused(old, dropped)
        assert_refused(still_old, dropped)

    def test_after_a_leak_the_new_key_stands_alone(self) -> None:
        leaked = tokens(KEY).issue(user_id=7, session_id=12, now=NOW)
        assert_refused(leaked, tokens(NEXT_KEY))
