"""Postgres goes away and comes back; the service is told to stop while it works."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from scripts.embedded_postgres import EmbeddedPostgres
from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer
from tests.support.own_database import migrated
from tests.support.ports import is_listening
from tests.support.processes import wait_until
from tests.support.services import People


def test_while_postgres_is_gone_everything_is_503_and_it_recovers_without_a_restart(
    own_postgres: EmbeddedPostgres, start_api: StartApi
) -> None:
    database = migrated(own_postgres)
    api, http = start_api(database)
    account = {"email": new_email(), "password": PASSWORD}
    session = http.post("/auth/register", {**account, "display_name": "Ada"}).json
    token = session["access_token"]
    posted = {"client_msg_id": str(uuid.uuid4()), "content": "kept"}
    assert http.post("/chat/channels/1/messages", posted, token=token).status == 201
    for _ in range(2):  # not once by luck
        own_postgres.kill()
        calls: list[Callable[[], Answer]] = [
            lambda: http.get("/health/ready"),
            lambda: http.get("/auth/me", token=token),
            lambda: http.post("/auth/login", account),
            lambda: http.post("/auth/refresh", {"refresh_token": session["refresh_token"]}),
            lambda: http.post("/chat/channels/1/messages", posted, token=token),
        ]
        with ThreadPoolExecutor(len(calls)) as threads:
            for answer in threads.map(lambda call: call(), calls):
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
        assert http.get("/health/live").status == 200
        own_postgres.start()
        wait_until(lambda: http.get("/health/ready").status == 200, "it is ready again", 20)
        assert http.get("/auth/me", token=token).status == 200
        repeat = http.post("/chat/channels/1/messages", posted, token=token)
        assert (repeat.status, repeat.json["seq"], repeat.json["duplicate"]) == (200, 1, True)
    # The refused refreshes have spent nothing.
    renewed = http.post("/auth/refresh", {"refresh_token": session["refresh_token"]})
    assert renewed.status == 200
    assert api.stop() == 0


def test_connections_that_postgres_has_cut_are_noticed_by_nobody(
    database: Database, start_api: StartApi
) -> None:
    _, http = start_api(database)
    with People(database) as people:
        token = people.access_token(people.person())
        for _ in range(2):
            assert http.get("/auth/me", token=token).status == 200
            people.one(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'gatehouse-api'"
            )


class TestSigterm:
    def test_a_request_in_flight_is_finished_and_the_exit_code_is_0(
        self, database: Database, start_api: StartApi
    ) -> None:
        api, http = start_api(database)
        with People(database) as people, ThreadPoolExecutor(1) as thread:
            ada = people.person()
            people.owner.execute(
                """
                CREATE FUNCTION take_a_second() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    PERFORM pg_sleep(1);
                    RETURN NEW;
                END $$
                """
            )
            people.owner.execute(
                "CREATE TRIGGER take_a_second BEFORE INSERT ON chat_messages"
                " FOR EACH ROW EXECUTE FUNCTION take_a_second()"
            )
            posting = thread.submit(
                http.post,
                "/chat/channels/1/messages",
                {"client_msg_id": str(uuid.uuid4()), "content": "in flight"},
                token=people.access_token(ada),
            )
            wait_until(
                lambda: people.one(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event = 'PgSleep'"
                ),
                "the request is being worked on",
            )
            api.send_signal(signal.SIGTERM)
            assert posting.result(15).status == 201
            assert api.wait(10) == 0
            assert [content for _, content in people.stored(1)] == ["in flight"]
        assert not is_listening(http.port)
        assert "Traceback" not in api.output

    def test_an_idle_service_stops_at_once_on_either_signal(
        self, database: Database, start_api: StartApi
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            api, http = start_api(database)
            assert http.get("/health/ready").status == 200
            api.send_signal(number)
            assert api.wait(10) == 0


def test_a_killed_service_leaves_no_account_half_made(
    database: Database, start_api: StartApi
) -> None:
    """Registrations in a storm while it is killed: an account that exists can log in."""
    api, http = start_api(database)
    emails = [new_email() for _ in range(60)]

    def register(email: str) -> int:
        body = {"email": email, "password": PASSWORD, "display_name": "Ada"}
        try:
            return http.post("/auth/register", body).status
        except (OSError, HTTPException):
            return 0

    with People(database) as people, ThreadPoolExecutor(8) as threads:
        registering = [threads.submit(register, email) for email in emails]
        wait_until(lambda: people.one("SELECT count(*) FROM users") >= 10, "the storm has begun")
        api.kill()
        statuses = [future.result(30) for future in registering]
        _, again = start_api(database)
        existing = {row[0] for row in people.owner.execute("SELECT email FROM users")}
        assert {e for e, status in zip(emails, statuses, strict=True) if status == 201} <= existing
        for email in existing:
            account = {"email": email, "password": PASSWORD}
            assert again.post("/auth/login", account).status == 200


def test_what_a_conflict_in_postgres_has_undone_is_done_again(
    database: Database, start_api: StartApi
) -> None:
    _, http = start_api(database)
    with People(database) as people, database.connect() as owner:
        token = people.access_token(people.person())
        # What a sequence has given out, it does not take back: so the two that fail stay counted.
        owner.execute(
            """
            CREATE SEQUENCE attempts;
            CREATE FUNCTION conflict_twice() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                CASE nextval('attempts')
                    WHEN 1 THEN RAISE deadlock_detected;
                    WHEN 2 THEN RAISE serialization_failure;
                    ELSE RETURN NEW;
                END CASE;
            END $$;
            CREATE TRIGGER conflicting BEFORE INSERT ON chat_messages
            FOR EACH ROW EXECUTE FUNCTION conflict_twice();
            """
        )
        body = {"client_msg_id": str(uuid.uuid4()), "content": "hi"}
        posted = http.post("/chat/channels/1/messages", body, token=token)
        assert (posted.status, posted.json["duplicate"]) == (201, False)
        owner.execute("ALTER SEQUENCE attempts RESTART")
        erased = http.call("DELETE", "/chat/channels/1/messages/1", token=token)
        assert erased.status == 204
