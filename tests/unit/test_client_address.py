"""Which address a request comes from, and what counts as one subject of a limit."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import limit_subjects
from rules.client_address import came_by_https, client_address, read_network
from tests.support.fuzz import FEW

PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("hops", "forwarded_proto", "secure"),
    [
        (0, "https", False),  # what a client has made up
        (1, "https", True),
        (1, "HTTPS", True),
        (2, "https, https", True),
        (2, "https,http", False),
        (2, "http, https", False),
        (1, "", False),
        (1, None, False),
    ],
)
def test_it_was_https_where_every_proxy_says_so(
    hops: int, forwarded_proto: str | None, secure: bool
) -> None:
    assert came_by_https(forwarded_proto, hops) is secure


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_a_network_is_written_as_its_addresses_are(written: str, meant: str) -> None:
    assert str(read_network(written)) == meant


class TestForwardedFor:
    @pytest.mark.parametrize(
        ("hops", "forwarded_for", "client"),
        [
            # Without proxies the header is what a client has made up.
            (0, None, PEER),
            (0, "203.0.113.9", PEER),
            (0, "203.0.113.9, 198.51.100.7", PEER),
            # One proxy appends the peer it saw; whatever is further left is made up.
            (1, "203.0.113.9", "203.0.113.9"),
            (1, "127.0.0.1, 203.0.113.9", "203.0.113.9"),
            (1, "1.1.1.1,2.2.2.2 ,\t203.0.113.9 ", "203.0.113.9"),
            # Two: the client is what the first of them saw.
            (2, "203.0.113.9, 198.51.100.7", "203.0.113.9"),
            (2, "6.6.6.6, 203.0.113.9, 198.51.100.7", "203.0.113.9"),
            # A chain that is too short has not come through all proxies.
            (1, None, PEER),
            (1, "", PEER),
            (2, "203.0.113.9", PEER),
            (3, "203.0.113.9, 198.51.100.7", PEER),
            # An entry that is no address.
            (1, "unknown", PEER),
            (1, "203.0.113.9, ", PEER),
            (1, "203.0.113.9, _hidden", PEER),
            (1, "203.0.113.256", PEER),
            (1, "203.0.113.9:4711", PEER),
            (1, "0203.0.113.9", PEER),
            (1, "203.0.113", PEER),
            (2, "unknown, 198.51.100.7", PEER),
            (2, "203.0.113.9, unknown", "203.0.113.9"),
            # IPv6, in any spelling.
            (1, "2001:DB8:0::1", "2001:db8::1"),
            (1, "[2001:db8::1]", PEER),
            (1, "fe80::1%eth0", "fe80::1"),
            (1, "::ffff:203.0.113.9", "203.0.113.9"),
        ],
    )
    def test_the_client_is_the_entry_that_many_from_the_right(
        self, hops: int, forwarded_for: str | None, client: str
    ) -> None:
        assert client_address(PEER, forwarded_for, hops) == ip_address(client)

    def test_a_peer_behind_a_dual_stack_listener_is_an_ipv4_client(self) -> None:
        assert client_address("::ffff:192.0.2.1", None, 0) == ip_address("192.0.2.1")

    @pytest.mark.parametrize("peer", ["", "localhost", "/run/gatehouse.sock"])
    def test_a_unix_socket_has_no_address(self, peer: str) -> None:
        assert client_address(peer, None, 1) is None

    @FEW
    @given(header=st.text(max_size=100), hops=st.integers(0, 3))
    def test_no_header_is_anything_but_an_address_or_passed_over(
        self, header: str, hops: int
    ) -> None:
        assert client_address(PEER, header, hops) is not None

    @FEW
    @given(
        made_up=st.text(st.sampled_from("0123456789., :abcdef"), max_size=60),
        seen=st.ip_addresses(v=4),
    )
    def test_whatever_a_client_writes_the_proxys_word_counts(self, made_up: str, seen: str) -> None:
        assert client_address(PEER, f"{made_up}, {seen}", 1) == seen


class TestSubjects:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
        ],
    )
    def test_an_ipv6_client_is_its_64_and_an_ipv4_client_its_address(
        self, one: str, other: str, same: bool
    ) -> None:
        first, second = ip_address(one), ip_address(other)
        for subject in (
            limit_subjects.source,
            limit_subjects.login_from_ip,
            limit_subjects.registration_from_ip,
            limit_subjects.chat_from_address,
        ):
            assert (subject(first) == subject(second)) is same

    def test_an_ipv4_network_is_a_24(self) -> None:
        assert str(limit_subjects.network(ip_address("192.0.2.77"))) == "192.0.2.0/24"

    def test_all_of_a_unix_socket_are_one(self) -> None:
        assert limit_subjects.source(None) == "local"
        assert limit_subjects.login_to_account_from_network("ann", None).endswith("@local")

    def test_no_two_kinds_of_subject_share_a_key(self) -> None:
        address = ip_address("192.0.2.1")
        keys = [
            limit_subjects.login_from_ip(address),
            limit_subjects.login_to_account_from_network("ann", address),
            limit_subjects.login_to_account("ann"),
            limit_subjects.registration_from_ip(address),
            limit_subjects.chat_from_address(address),
            limit_subjects.tickets_of_session(1),
            limit_subjects.refreshes_of_session(1),
        ]
        assert len(set(keys)) == len(keys)

    def test_no_key_tells_an_address_of_a_person(self) -> None:
        key = limit_subjects.login_to_account("ann@example.org")
        assert "ann" not in key
        assert key != limit_subjects.login_to_account("bob@example.org")
