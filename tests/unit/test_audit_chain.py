"""The audit trail's chain, verified without a database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from rules.audit_chain import GENESIS, Checked, Link, NotALink, check, hash_of, read_lines


def link(number: int, before: bytes, said: str = "x") -> Link:
    unhashed = Link(number, json.dumps({"id": number, "said": said}), before, b"")
    return replace(unhashed, hash=hash_of(unhashed))


def chain(length: int) -> list[Link]:
    links: list[Link] = []
    for number in range(1, length + 1):
        links.append(link(number, links[-1].hash if links else GENESIS))
    return links


def remade_from(links: list[Link], position: int) -> list[Link]:
    """What somebody does who has noticed that the hashes must fit."""
    before = links[position - 1].hash if position else GENESIS
    made = links[:position]
    for one in links[position:]:
        unhashed = replace(one, prev_hash=before)
        made.append(replace(unhashed, hash=hash_of(unhashed)))
        before = made[-1].hash
    return made


class TestAWholeChain:
    def test_it_is_intact_and_has_its_last_hash_as_head(self) -> None:
        links = chain(5)
        assert check(links) == Checked(5, 5, links[-1].hash, None)

    def test_an_empty_one_is_intact(self) -> None:
        assert check([]) == Checked(0, 0, GENESIS, None)

    def test_a_part_of_one_is_checked_from_where_it_begins(self) -> None:
        links = chain(5)
        assert check(links[2:]) == Checked(3, 5, links[-1].hash, None)

    def test_it_survives_being_written_down(self) -> None:
        links = chain(3)
        assert list(read_lines(one.as_line() for one in links)) == links


Damage = Callable[[list[Link]], list[Link]]


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "first_broken_id"),
        [
            (lambda c: [*c[:2], replace(c[2], canonical=c[2].canonical + " "), *c[3:]], 3),
            (lambda c: [*c[:2], replace(c[2], hash=bytes(32)), *c[3:]], 3),
            (lambda c: [*c[:2], *c[3:]], 3),
            (lambda c: c[1:2] + c[:1] + c[2:], 1),
            (lambda c: [*c[:3], c[2], *c[3:]], 4),
            (lambda c: [*c[:2], link(3, c[1].hash, "put in"), *c[3:]], 4),
            (lambda c: [*c[:2], link(7, c[1].hash), *c[3:]], 3),
            (lambda c: [link(1, b"x" * 32), *c[1:]], 1),
        ],
    )
    def test_the_first_broken_row_is_named(self, damage: Damage, first_broken_id: int) -> None:
        damaged = damage(chain(5))
        if damaged[0].id == 2:  # a chain that begins later is believed about its beginning
            damaged = damaged[1:]
            first_broken_id = 2
        assert check(damaged).first_broken_id == first_broken_id

    def test_a_chain_that_was_made_anew_has_another_head(self) -> None:
        links = chain(5)
        changed = replace(links[2], canonical=json.dumps({"id": 3, "said": "nothing"}))
        forged = remade_from([*links[:2], changed, *links[3:]], 2)
        assert check(forged).first_broken_id is None
        assert check(forged).head != links[-1].hash

    def test_a_tail_that_was_cut_off_has_another_head(self) -> None:
        links = chain(5)
        assert check(links[:3]).head == links[2].hash != links[-1].hash

    def test_a_row_that_calls_itself_otherwise_is_broken(self) -> None:
        links = chain(2)
        lying = Link(3, json.dumps({"id": 9}), links[-1].hash, b"")
        assert check([*links, replace(lying, hash=hash_of(lying))]).first_broken_id == 3

    @pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"id": "x"}', '{"id": 1}', "null"])
    def test_a_line_that_is_no_row_is_said(self, line: str) -> None:
        with pytest.raises(NotALink, match="line 1"):
            list(read_lines([line]))
