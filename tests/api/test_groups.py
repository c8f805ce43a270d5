"""Groups, direct channels, their members, and erasing: over HTTP, by several people at once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from tests.api.conftest import SharedApi, StartApi
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.services import People, Person


class Town:
    """Ada, Bob, Cid and Dan, who call one service or several."""

    def __init__(self, people: People, *https: Http) -> None:
        self.people = people
        self.https = https
        self.ada, self.bob, self.cid, self.dan = (
            people.person(name) for name in ("Ada", "Bob", "Cid", "Dan")
        )

    def call(self, who: Person, method: str, path: str, *body: Any, at: int = 0) -> Answer:
        return self.https[at].call(method, path, *body, token=self.people.access_token(who))

    def group(self, owner: Person, *others: Person) -> int:
        answer = self.call(owner, "POST", "/chat/channels", {"name": "Friends"})
        assert answer.status == 201
        group: int = answer.json["id"]
        for other in others:
            assert self.add(owner, group, other).status == 201
        return group

    def add(self, who: Person, group: int, other: Person, *, at: int = 0) -> Answer:
        body = {"user_id": other.user_id}
        return self.call(who, "POST", f"/chat/channels/{group}/members", body, at=at)

    def remove(self, who: Person, group: int, other: Person, *, at: int = 0) -> Answer:
        path = f"/chat/channels/{group}/members/{other.user_id}"
        return self.call(who, "DELETE", path, at=at)

    def members(self, who: Person, group: int) -> list[tuple[int, str]]:
        answer = self.call(who, "GET", f"/chat/channels/{group}/members")
        assert answer.status == 200
        return [(member["user_id"], member["role"]) for member in answer.json["members"]]

    def say(self, who: Person, channel: int, content: str = "hi", *, at: int = 0) -> Answer:
        body = {"client_msg_id": str(uuid.uuid4()), "content": content}
        return self.call(who, "POST", f"/chat/channels/{channel}/messages", body, at=at)

    def erase(self, who: Person, channel: int, seq: int, *, at: int = 0) -> Answer:
        return self.call(who, "DELETE", f"/chat/channels/{channel}/messages/{seq}", at=at)

    def log(self, channel: int) -> list[tuple[int, str, int | None, int | None]]:
        """(seq, kind, who, target) of every entry, as a person with psql sees it."""
        return self.people.owner.execute(
            "SELECT seq, kind, sender_id, target_seq FROM chat_messages"
            " WHERE channel_id = %s ORDER BY seq",
            [channel],
        ).fetchall()


@pytest.fixture
def town(shared: SharedApi) -> Town:
    return Town(shared.people, shared.http)


@pytest.fixture
def two_services(database: Database, start_api: StartApi) -> Any:
    with People(database) as people:
        yield Town(people, *(start_api(database)[1] for _ in range(2)))


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    """The answers, in the order of the calls."""
    barrier = Barrier(len(calls))

    def together(call: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(together, calls))


class TestGroups:
    def test_whoever_makes_it_owns_it_and_the_log_begins_with_that(self, town: Town) -> None:
        answer = town.call(town.ada, "POST", "/chat/channels", {"name": "Früh & spät 🌞"})
        shown = answer.json
        assert (shown["kind"], shown["name"], shown["role"]) == ("group", "Früh & spät 🌞", "owner")
        assert shown["last_seq"] == 1
        assert town.log(shown["id"]) == [(1, "joined", town.ada.user_id, None)]
        assert shown in town.call(town.ada, "GET", "/chat/channels").json["channels"]
        theirs = town.call(town.bob, "GET", "/chat/channels").json["channels"]
        assert shown["id"] not in [channel["id"] for channel in theirs]

    @pytest.mark.parametrize("name", ["", " ", "x" * 81, "a\u0000b", "a\nb", "\u202ename", 7, None])
    def test_a_name_that_is_none_makes_no_group(self, town: Town, name: Any) -> None:
        before = town.people.one("SELECT count(*) FROM chat_channels")
        answer = town.call(town.ada, "POST", "/chat/channels", {"name": name})
        assert answer.status in (400, 422)
        assert town.people.one("SELECT count(*) FROM chat_channels") == before

    def test_who_is_added_reads_it_all_and_writes(self, town: Town) -> None:
        group = town.group(town.ada)
        town.say(town.ada, group, "before")
        assert town.say(town.bob, group).status == 404
        assert town.add(town.ada, group, town.bob).status == 201
        history = town.call(town.bob, "GET", f"/chat/channels/{group}/messages").json
        assert [entry["type"] for entry in history["entries"]] == ["joined", "message", "joined"]
        assert town.say(town.bob, group).status == 201
        assert town.members(town.bob, group) == [
            (town.ada.user_id, "owner"),
            (town.bob.user_id, "member"),
        ]

    def test_adding_twice_adds_once(self, town: Town) -> None:
        group = town.group(town.ada)
        answers = at_once(*[partial(town.add, town.ada, group, town.bob)] * 8)
        assert Counter(answer.status for answer in answers) == {201: 1, 200: 7}
        assert [kind for _, kind, *_ in town.log(group)] == ["joined", "joined"]

    def test_only_the_owner_adds_and_removes(self, town: Town) -> None:
        group = town.group(town.ada, town.bob, town.cid)
        assert town.add(town.bob, group, town.dan).error["code"] == "forbidden"
        assert town.remove(town.bob, group, town.cid).error["code"] == "forbidden"
        assert town.remove(town.bob, group, town.ada).error["code"] == "forbidden"
        assert town.add(town.dan, group, town.dan).error["code"] == "not_found"
        assert town.remove(town.dan, group, town.cid).error["code"] == "not_found"
        assert len(town.members(town.ada, group)) == 3

    def test_who_is_removed_is_a_stranger_again(self, town: Town) -> None:
        group = town.group(town.ada, town.bob)
        assert town.remove(town.ada, group, town.bob).status == 204
        assert town.remove(town.ada, group, town.bob).error["code"] == "not_found"
        path = f"/chat/channels/{group}"
        for method, target in (
            ("GET", f"{path}/messages"),
            ("GET", f"{path}/members"),
            ("DELETE", f"{path}/messages/1"),
            ("DELETE", f"{path}/members/{town.bob.user_id}"),
        ):
            assert town.call(town.bob, method, target).error["code"] == "not_found", target
        assert town.say(town.bob, group).error["code"] == "not_found"
        assert town.log(group)[-1] == (3, "left", town.bob.user_id, None)

    def test_an_owner_who_leaves_is_followed_by_who_has_been_there_longest(
        self, town: Town
    ) -> None:
        group = town.group(town.ada, town.cid, town.bob)
        assert town.remove(town.ada, group, town.ada).status == 204
        assert town.members(town.bob, group) == [
            (town.cid.user_id, "owner"),
            (town.bob.user_id, "member"),
        ]
        assert town.add(town.cid, group, town.dan).status == 201

    def test_the_last_one_may_leave(self, town: Town) -> None:
        group = town.group(town.ada)
        assert town.remove(town.ada, group, town.ada).status == 204
        assert town.call(town.ada, "GET", f"/chat/channels/{group}/messages").status == 404

    def test_nobody_is_added_who_does_not_exist_or_is_disabled(self, town: Town) -> None:
        group = town.group(town.ada)
        gone = town.people.person("Gone")
        town.people.owner.execute(
            "UPDATE users SET disabled_at = now() WHERE id = %s", [gone.user_id]
        )
        nobody = Person(2**40, 0, "Nobody")
        for other in (gone, nobody):
            assert town.add(town.ada, group, other).error["code"] == "not_found"
        assert town.members(town.ada, group) == [(town.ada.user_id, "owner")]

    def test_the_channel_of_everybody_has_no_members_to_change(self, town: Town) -> None:
        assert town.members(town.ada, 1) == []
        assert town.add(town.ada, 1, town.bob).error["code"] == "forbidden"
        assert town.remove(town.ada, 1, town.ada).error["code"] == "forbidden"

    @pytest.mark.parametrize("channel", ["0", "-1", "01", "1.0", "x", "9" * 17, str(2**50)])
    def test_a_channel_that_is_none_is_not_found(self, town: Town, channel: str) -> None:
        path = f"/chat/channels/{channel}/members"
        assert town.call(town.ada, "GET", path).error["code"] == "not_found"
        body = {"user_id": town.bob.user_id}
        assert town.call(town.ada, "POST", path, body).error["code"] == "not_found"


class TestTwoServices:
    """What two of them decide at the same moment."""

    def test_owners_who_leave_while_others_are_added_leave_one_owner(
        self, two_services: Town
    ) -> None:
        town = two_services
        for _ in range(10):
            group = town.group(town.ada, town.bob)
            at_once(
                partial(town.remove, town.ada, group, town.ada, at=0),
                partial(town.add, town.ada, group, town.cid, at=1),
                partial(town.remove, town.bob, group, town.bob, at=1),
            )
            roles = Counter(
                role
                for (role,) in town.people.owner.execute(
                    "SELECT role FROM chat_members WHERE channel_id = %s", [group]
                )
            )
            assert roles["owner"] == (1 if roles else 0)
            seqs = [seq for seq, *_ in town.log(group)]
            assert seqs == list(range(1, len(seqs) + 1))

    def test_of_fifty_who_open_a_direct_channel_one_makes_it(self, two_services: Town) -> None:
        town = two_services

        def opens(number: int) -> Callable[[], Answer]:
            me, other = (town.ada, town.bob) if number % 2 else (town.bob, town.ada)
            body = {"user_id": other.user_id}
            return lambda: town.call(me, "POST", "/chat/channels/direct", body, at=number // 2 % 2)

        answers = at_once(*(opens(number) for number in range(50)))
        assert Counter(answer.status for answer in answers) == {201: 1, 200: 49}
        assert len({answer.json["id"] for answer in answers}) == 1
        assert town.people.one("SELECT count(*) FROM chat_channels WHERE kind = 'direct'") == 1

    def test_nothing_lands_after_the_departure_that_the_log_names(self, two_services: Town) -> None:
        town = two_services
        group = town.group(town.ada, town.bob)

        def talk(at: int) -> Answer:
            for _ in range(200):
                if (answer := town.say(town.bob, group, at=at)).status != 201:
                    return answer
            raise AssertionError("nobody was removed")

        def remove() -> Answer:
            while town.people.one("SELECT last_seq FROM chat_channels WHERE id = %s", group) < 8:
                pass
            return town.remove(town.ada, group, town.bob, at=1)

        *refused, removed = at_once(lambda: talk(0), lambda: talk(1), remove)
        assert removed.status == 204
        assert [answer.error["code"] for answer in refused] == ["not_found"] * 2
        entries = town.log(group)
        assert [seq for seq, *_ in entries] == list(range(1, len(entries) + 1))
        assert entries[-1][1] == "left"

    def test_a_message_is_erased_once(self, two_services: Town) -> None:
        town = two_services
        group = town.group(town.ada, town.bob)
        seq = town.say(town.bob, group, "regretted").json["seq"]
        answers = at_once(
            *(
                partial(town.erase, who, group, seq, at=at)
                for who in (town.ada, town.bob)
                for at in (0, 1)
            )
        )
        assert [answer.status for answer in answers] == [204] * 4
        assert [entry[1] for entry in town.log(group)].count("deleted") == 1


class TestDirect:
    def test_each_sees_the_other_at_its_end(self, town: Town) -> None:
        made = town.call(
            town.ada, "POST", "/chat/channels/direct", {"user_id": town.bob.user_id}
        ).json
        assert made["peer"] == {"id": town.bob.user_id, "display_name": "Bob"}
        assert (made["kind"], made["name"], made["last_seq"]) == ("direct", None, 0)
        (theirs,) = [
            channel
            for channel in town.call(town.bob, "GET", "/chat/channels").json["channels"]
            if channel["id"] == made["id"]
        ]
        assert theirs["peer"] == {"id": town.ada.user_id, "display_name": "Ada"}
        assert town.say(town.bob, made["id"]).status == 201
        assert town.say(town.cid, made["id"]).status == 404

    def test_with_oneself_with_nobody_and_with_a_disabled_account_there_is_none(
        self, town: Town
    ) -> None:
        town.people.owner.execute(
            "UPDATE users SET disabled_at = now() WHERE id = %s", [town.dan.user_id]
        )
        for user_id, code in (
            (town.ada.user_id, "validation_failed"),
            (town.dan.user_id, "not_found"),
            (2**40, "not_found"),
        ):
            answer = town.call(town.ada, "POST", "/chat/channels/direct", {"user_id": user_id})
            assert answer.error["code"] == code
        mine = town.call(town.ada, "GET", "/chat/channels").json["channels"]
        assert [channel["kind"] for channel in mine] == ["global"]

    def test_it_has_two_members_for_good(self, town: Town) -> None:
        body = {"user_id": town.bob.user_id}
        direct = town.call(town.ada, "POST", "/chat/channels/direct", body).json["id"]
        assert town.add(town.ada, direct, town.cid).error["code"] == "forbidden"
        assert town.remove(town.ada, direct, town.ada).error["code"] == "forbidden"
        assert town.remove(town.ada, direct, town.bob).error["code"] == "forbidden"


class TestNewChannels:
    """Three hundred an hour and account; the test database is told that most are made already."""

    def has_made(self, town: Town, count: int) -> None:
        town.group(town.ada)
        town.people.owner.execute(
            "UPDATE rate_limits SET reserved[11] = %s WHERE key = %s",
            (count, f"channel:account:{town.ada.user_id}"),
        )

    def counted(self, town: Town) -> int:
        count: int = town.people.one(
            "SELECT sum_of_slices(reserved) FROM rate_limits WHERE key = %s",
            f"channel:account:{town.ada.user_id}",
        )
        return count

    def direct(self, town: Town, other: Person, *, at: int = 0) -> Answer:
        body = {"user_id": other.user_id}
        return town.call(town.ada, "POST", "/chat/channels/direct", body, at=at)

    def test_groups_and_direct_ones_count_together(self, town: Town) -> None:
        self.has_made(town, 298)
        assert town.call(town.ada, "POST", "/chat/channels", {"name": "One"}).status == 201
        assert self.direct(town, town.bob).status == 201
        for refused in (
            town.call(town.ada, "POST", "/chat/channels", {"name": "One too many"}),
            self.direct(town, town.cid),
        ):
            assert refused.error["code"] == "rate_limited"
            assert int(refused.headers["Retry-After"]) > 0

    def test_a_direct_channel_that_exists_is_found_whatever_the_limit_says(
        self, town: Town
    ) -> None:
        assert self.direct(town, town.bob).status == 201
        body = {"user_id": town.ada.user_id}
        assert town.call(town.cid, "POST", "/chat/channels/direct", body).status == 201
        self.has_made(town, 300)
        assert [self.direct(town, other).status for other in (town.bob, town.cid)] == [200, 200]

    def test_what_makes_no_channel_counts_for_nothing(self, town: Town) -> None:
        assert self.direct(town, town.bob).status == 201
        self.has_made(town, 7)
        body = {"user_id": 2**40}
        assert town.call(town.ada, "POST", "/chat/channels/direct", body).status == 404
        assert self.direct(town, town.bob).status == 200
        assert self.counted(town) == 7

    def test_all_who_open_the_last_one_at_once_get_it(self, two_services: Town) -> None:
        town = two_services
        self.has_made(town, 299)
        calls = [partial(self.direct, town, town.bob, at=number % 2) for number in range(16)]
        answers = at_once(*calls)
        assert Counter(answer.status for answer in answers) == {201: 1, 200: 15}
        assert self.counted(town) == 300


class TestErasing:
    def test_the_content_goes_and_the_log_says_so(self, town: Town) -> None:
        group = town.group(town.ada, town.bob)
        body = {"client_msg_id": str(uuid.uuid4()), "content": "regretted"}
        path = f"/chat/channels/{group}/messages"
        seq = town.call(town.bob, "POST", path, body).json["seq"]
        assert town.erase(town.bob, group, seq).status == 204
        entries = town.call(town.ada, "GET", path).json["entries"]
        assert entries[seq - 1]["content"] is None
        assert (
            entries[-1].items()
            >= {
                "type": "deleted",
                "target_seq": seq,
                "by_user_id": town.bob.user_id,
            }.items()
        )
        stored = town.people.one(
            "SELECT count(*) FROM chat_messages m WHERE m::text LIKE '%%regretted%%'"
        )
        assert stored == 0
        # A repeat of the send, however late, finds its place in the log.
        again = town.call(town.bob, "POST", path, body)
        assert (again.status, again.json["seq"]) == (200, seq)

    def test_the_owner_erases_what_others_said_and_members_only_their_own(self, town: Town) -> None:
        group = town.group(town.ada, town.bob, town.cid)
        seq = town.say(town.bob, group).json["seq"]
        assert town.erase(town.cid, group, seq).error["code"] == "forbidden"
        assert town.erase(town.dan, group, seq).error["code"] == "not_found"
        assert town.erase(town.ada, group, seq).status == 204

    def test_in_the_channel_of_everybody_only_ones_own(self, town: Town) -> None:
        seq = town.say(town.bob, 1).json["seq"]
        assert town.erase(town.ada, 1, seq).error["code"] == "forbidden"
        assert town.erase(town.bob, 1, seq).status == 204

    def test_what_is_no_message_is_not_found(self, town: Town) -> None:
        group = town.group(town.ada)
        for seq in (1, 2, 2**40):  # a joining, and nothing
            assert town.erase(town.ada, group, seq).error["code"] == "not_found"


class TestPeople:
    def test_a_name_finds_everybody_who_is_called_so(self, town: Town) -> None:
        name = f"Eve {uuid.uuid4().hex[:8]}"
        eves = [town.people.person(name) for _ in range(2)]
        town.people.person(name.lower())
        path = f"/users?display_name={name.replace(' ', '%20')}"
        found = town.call(town.ada, "GET", path).json
        assert found == {"users": [{"id": eve.user_id, "display_name": name} for eve in eves]}

    def test_a_disabled_account_is_nobody(self, town: Town) -> None:
        name = f"Gone {uuid.uuid4().hex[:8]}"
        gone = town.people.person(name)
        assert town.call(town.ada, "GET", f"/users/{gone.user_id}").json == {
            "id": gone.user_id,
            "display_name": name,
        }
        town.people.owner.execute(
            "UPDATE users SET disabled_at = now() WHERE id = %s", [gone.user_id]
        )
        assert town.call(town.ada, "GET", f"/users/{gone.user_id}").status == 404
        path = f"/users?display_name={name.replace(' ', '%20')}"
        assert town.call(town.ada, "GET", path).json == {"users": []}

    def test_at_most_twenty_are_listed(self, town: Town) -> None:
        name = f"Many {uuid.uuid4().hex[:8]}"
        for _ in range(21):
            town.people.person(name)
        path = f"/users?display_name={name.replace(' ', '%20')}"
        assert len(town.call(town.ada, "GET", path).json["users"]) == 20

    def test_nobody_copies_the_list_of_all_accounts(self, town: Town) -> None:
        paths = [f"/users/{town.bob.user_id}", "/users?display_name=Bob"] * 60
        assert {town.call(town.ada, "GET", path).status for path in paths} == {200}
        for path in paths[:2]:
            refused = town.call(town.ada, "GET", path)
            assert refused.error["code"] == "rate_limited"
            assert int(refused.headers["Retry-After"]) > 0
        nobody = {"user_id": 2**50}  # a 404 would tell that there is none
        group = town.group(town.ada)
        for path in ("/chat/channels/direct", f"/chat/channels/{group}/members"):
            refused = town.call(town.ada, "POST", path, nobody)
            assert refused.error["code"] == "rate_limited"
        assert town.call(town.bob, "GET", paths[0]).status == 200

    @pytest.mark.parametrize("query", ["", "?display_name=", "?display_name=%00", "?name=Ada"])
    def test_a_search_without_a_name_is_refused(self, town: Town, query: str) -> None:
        assert town.call(town.ada, "GET", f"/users{query}").error["code"] in (
            "validation_failed",
            "invalid_request",
        )
