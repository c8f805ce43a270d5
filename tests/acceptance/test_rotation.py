"""Every secret rotates while people chat, and a leaked one is worth nothing at once.

The runbook's steps as docs/operators.md has them, with the scripts that a person would call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatehouse_client import ApiError, Client
from gatehouse_client.client import Ticket
from gatehouse_client.rest import Rest
from gatehouse_client.socket_link import Link
from rules.access_tokens import AccessTokens
from scripts.dev_env import write_dev_env
from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.databases import Database
from tests.support.own_database import OwnDatabase, migrated
from tests.support.processes import Processes
from tests.support.rotation import Chatter, Fleet
from tests.support.secret_manager import SecretManager
from tests.support.stack import PASSWORD, WIDE, run

FIRST_KEY = "the first key of more than thirty-two bytes"
FIRST_OPS_TOKEN = "the-first-token-of-the-operators"
# Short, so that "wait for the access lifetime" is short, and everybody refreshes all the time.
ACCESS_SECONDS = 2


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    with SecretManager() as started:
        yield started


def environments(
    database: Database | OwnDatabase, manager: SecretManager
) -> dict[str, dict[str, str]]:
    common = {
        **WIDE,
        "JWT_ACCESS_TTL_SECONDS": str(ACCESS_SECONDS),
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT": "100000",
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_IP": "100000",
        "WS_SHUTDOWN_SPREAD_SECONDS": "0",
        "SECRET_MANAGER_EMULATOR_HOST": manager.host,
    }
    api, gateway = database.environment("api"), database.environment("gateway")
    api["DB_PASSWORD_SECRET_REF"] = manager.add("db-api", api.pop("DB_PASSWORD"))
    gateway["DB_PASSWORD_SECRET_REF"] = manager.add("db-gateway", gateway.pop("DB_PASSWORD"))
    api["JWT_SECRET_SECRET_REF"] = manager.add("jwt", FIRST_KEY)
    api["OPS_API_TOKEN_SECRET_REF"] = manager.add("ops", f"ann:{FIRST_OPS_TOKEN}")
    return {"api": {**api, **common}, "wsgateway": {**gateway, **common}}


async def open_ticket(ticket: Ticket) -> str:
    """The first frame of a socket with this ticket."""
    link = await Link.open(ticket.websocket_url, ticket.subprotocols)
    try:
        return str((await link.receive())["type"])
    finally:
        await link.close()


async def opens_ops(fleet: Fleet, token: str) -> bool:
    try:
        await Rest(fleet.api_url, {"X-Ops-Token": token}).call("GET", "/ops/audit/verify")
    except ApiError as error:
        if error.code != "unauthorized":
            raise
        return False
    return True


def ops_tokens_in(payload: str) -> list[str]:
    return [line.partition(":")[2] for line in payload.splitlines()]


class Person:
    """Somebody with a session, and tokens of any key for it."""

    def __init__(self, client: Client, user_id: int, session_id: int) -> None:
        self.client = client
        self._ids = {"user_id": user_id, "session_id": session_id}

    @classmethod
    async def registered(cls, fleet: Fleet, name: str) -> Person:
        client = Client(fleet.api_url, websocket_url=fleet.ws_url)
        session = await client.register(f"{name}@example.org", PASSWORD, name)
        return cls(client, session["user"]["id"], session["session_id"])

    def token(self, key: str) -> str:
        """An access token as the API signs it, good for longer than the test."""
        tokens = AccessTokens([key.encode()], "gatehouse", "gatehouse-client", 900)
        return tokens.issue(**self._ids, now=time.time())

    async def is_known_by(self, token: str) -> bool:
        """Whether the API takes this token, and no client refreshes it away."""
        try:
            await self.client._rest.call("GET", "/auth/me", None, token)
        except ApiError as error:
            if error.code != "unauthorized":
                raise
            return False
        return True


async def check(fleet: Fleet, folder: Path) -> None:
    """Step 3, validation: what a person would run."""
    arguments = []
    for option, name in (("--api", "api"), ("--gateway", "wsgateway")):
        file = folder / f"{name}.env"
        write_dev_env(file, fleet.environments[name])
        arguments += [option, str(file)]
    checked = await fleet.run_script("scripts.check_deployment", *arguments)
    assert "NOT OK" not in checked
    await fleet.run_script("scripts.smoke", fleet.api_url, fleet.ws_url)
    fleet.note("validated: scripts/check-deployment, scripts/smoke")


async def rotate(fleet: Fleet, manager: SecretManager, *arguments: str) -> str:
    said = await fleet.run_script(
        "scripts.rotate_secret",
        *arguments,
        environment={"SECRET_MANAGER_EMULATOR_HOST": manager.host},
    )
    fleet.note(f"scripts/rotate-secret {' '.join(arguments)}")
    return said


class TestTheSigningKeyAndTheOpsToken:
    def test_they_are_rotated_and_nobody_notices(
        self,
        database: Database,
        processes: Processes,
        manager: SecretManager,
        tmp_path: Path,
    ) -> None:
        async def scenario() -> None:
            async with Fleet(processes, environments(database, manager)) as fleet:
                ann, bob = Chatter(fleet), await Person.registered(fleet, "bob")
                async with ann.chatting():
                    await ann.after(20)
                    fleet.note("people chat")
                    old = fleet.environments["api"]["JWT_SECRET_SECRET_REF"]
                    new = await rotate(
                        fleet, manager, "new", "JWT_SECRET", "projects/p/secrets/jwt"
                    )
                    assert new == old.replace("/1", "/2")
                    ops_old = fleet.environments["api"]["OPS_API_TOKEN_SECRET_REF"]
                    ops_new = await rotate(
                        *(fleet, manager, "new", "OPS_API_TOKEN", "projects/p/secrets/ops"),
                        *("--actors", "ann,bob"),
                    )
                    tokens, ops_tokens = [bob.token(FIRST_KEY)], [FIRST_OPS_TOKEN]

                    async def everything_is_good() -> None:
                        """Whatever was handed out, by whichever instance."""
                        ticket = await bob.client.ticket()  # bought before, spent afterwards
                        await bob.client.refresh()
                        for token in tokens * 2:  # on the one instance and on the other
                            assert await bob.is_known_by(token)
                        for token in ops_tokens * 2:
                            assert await opens_ops(fleet, token)
                        await ann.after(10)
                        assert await open_ticket(ticket) == "connected"

                    async with fleet.deploying("api", JWT_SECRET_SECRET_REF=f"{old},{new}"):
                        await everything_is_good()
                    tokens.append(bob.token(manager.value(new)))
                    await everything_is_good()
                    ticket = await bob.client.ticket()
                    async with fleet.deploying(
                        "api",
                        JWT_SECRET_SECRET_REF=f"{new},{old}",
                        OPS_API_TOKEN_SECRET_REF=f"{ops_new},{ops_old}",
                    ):
                        await everything_is_good()
                    ops_tokens += ops_tokens_in(manager.value(ops_new))
                    await everything_is_good()
                    await fleet.deploy("wsgateway")
                    assert await open_ticket(ticket) == "connected"
                    await everything_is_good()
                    await check(fleet, tmp_path)

                    signed_by_new = AccessTokens(
                        [manager.value(new).encode()], "gatehouse", "gatehouse-client", 1
                    )
                    await ann.until_token(signed_by_new.read)
                    fleet.note("the access lifetime is over: everybody has a token of the new key")
                    await fleet.deploy(
                        "api", JWT_SECRET_SECRET_REF=new, OPS_API_TOKEN_SECRET_REF=ops_new
                    )
                    for version in (old, ops_old):
                        await rotate(fleet, manager, "disable", version)
                        assert manager.state(version) == "DISABLED"
                    await fleet.deploy("api")  # a later start misses nothing
                    await ann.after(20)
                    assert [await bob.is_known_by(token) for token in tokens] == [False, True]
                    opened = [await opens_ops(fleet, token) for token in ops_tokens]
                    assert opened == [False, True, True]
                assert ann.troubles == []
                assert set(ann.offline_codes) <= {1012}
                assert ann.refreshes > 2
                fleet.note(
                    f"{ann.sent} messages, {ann.refreshes} refreshes, {len(ann.offline_codes)}"
                    " reconnects (1012), no error, no logout"
                )

        run(scenario())


class TestALeakedKey:
    def test_the_old_one_is_refused_at_once_and_people_stay(
        self, database: Database, processes: Processes, manager: SecretManager
    ) -> None:
        async def scenario() -> None:
            services = environments(database, manager)
            services["api"]["JWT_ACCESS_TTL_SECONDS"] = "900"
            async with Fleet(processes, services) as fleet:
                ann, bob = Chatter(fleet), await Person.registered(fleet, "bob")
                async with ann.chatting() as live:
                    stolen = bob.token(FIRST_KEY)
                    assert await bob.is_known_by(stolen)
                    await ann.after(10)
                    old = fleet.environments["api"]["JWT_SECRET_SECRET_REF"]
                    new = await rotate(
                        fleet, manager, "new", "JWT_SECRET", "projects/p/secrets/jwt"
                    )
                    assert await bob.is_known_by(stolen)
                    fleet.note("the new key is deployed alone")
                    ops_new = manager.add("ops", f"ann:{FIRST_OPS_TOKEN[::-1]}")
                    alone = {"JWT_SECRET_SECRET_REF": new, "OPS_API_TOKEN_SECRET_REF": ops_new}
                    assert await opens_ops(fleet, FIRST_OPS_TOKEN)
                    deploying = asyncio.create_task(fleet.deploy("api", **alone))
                    async with asyncio.timeout(30):
                        while await bob.is_known_by(stolen):
                            pass
                    fleet.note("the stolen token was refused for the first time")
                    # From the moment at which the traffic has moved, without exception.
                    assert not any([await bob.is_known_by(stolen) for _ in range(20)])
                    assert not await opens_ops(fleet, FIRST_OPS_TOKEN)
                    assert await opens_ops(fleet, FIRST_OPS_TOKEN[::-1])
                    await deploying
                    await rotate(fleet, manager, "disable", old)
                    await ann.after(20)  # refreshed by itself
                    assert ann.refreshes == 1
                    assert ann.offline_codes == []

                    # The runbook's second step, for those whose tokens were stolen with it.
                    with database.connect() as owner:
                        owner.execute("UPDATE user_sessions SET revoked_at = now()")
                    end = await ann.until_ended(live)
                    assert end.code == 4501
                    fleet.note("all sessions revoked: the sockets are closed with 4501")

        run(scenario())


class TestTheDatabasePassword:
    def test_it_is_rotated_in_either_order_and_nobody_notices(
        self,
        own_postgres: EmbeddedPostgres,
        processes: Processes,
        manager: SecretManager,
        tmp_path: Path,
    ) -> None:
        database = migrated(own_postgres)

        async def scenario() -> None:
            async with Fleet(processes, environments(database, manager)) as fleet:
                ann = Chatter(fleet)

                async def change(service: str, name: str, order: Callable[[str, str], str]) -> None:
                    old = fleet.environments[service]["DB_PASSWORD_SECRET_REF"]
                    secret = f"projects/p/secrets/db-{name}"
                    new = await rotate(fleet, manager, "new", "DB_PASSWORD", secret)
                    await fleet.deploy(service, DB_PASSWORD_SECRET_REF=order(old, new))
                    await ann.after(10)
                    said = await fleet.run_script(
                        "scripts.rotate_secret",
                        *("alter-role", f"gatehouse_{name}", new),
                        environment={
                            **database.environment("owner"),
                            "SECRET_MANAGER_EMULATOR_HOST": manager.host,
                        },
                    )
                    fleet.note(said)
                    await ann.after(10)
                    await fleet.deploy(service, DB_PASSWORD_SECRET_REF=new)
                    await rotate(fleet, manager, "disable", old)
                    assert manager.state(old) == "DISABLED"
                    assert manager.value(new) not in own_postgres.log_file.read_text()

                async with ann.chatting():
                    await ann.after(10)
                    # The new one first in one service, the old one first in the other.
                    await asyncio.gather(
                        change("api", "api", lambda old, new: f"{new},{old}"),
                        change("wsgateway", "gateway", lambda old, new: f"{old},{new}"),
                    )
                    await ann.after(20)
                    await check(fleet, tmp_path)
                assert ann.troubles == []
                assert set(ann.offline_codes) <= {1012}

        run(scenario())
