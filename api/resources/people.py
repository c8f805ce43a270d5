"""How one finds whom to write to: by id, or by the exact name."""

from __future__ import annotations

from typing import Any

from api import quotas
from api.context import Request, Response
from api.request_input import Query
from api.services import Services
from db.users import Person, find_person, list_people_named
from rules import fields, limit_subjects
from rules.errors import Refusal

# Names are not unique; whoever is called like so many others is found by the id.
MOST_PEOPLE = 20
# Enough for everybody one meets, too little to copy the list of all accounts.
LOOKUPS_A_MINUTE = 120


class People:
    """GET /users?display_name= -> {users: [{id, display_name}]}, the longest-standing first."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        display_name = Query(req, "display_name").required("display_name", fields.display_name)
        count_lookup(self._services, req)
        with self._services.pool.connection() as connection:
            people = list_people_named(connection, display_name, MOST_PEOPLE)
        resp.send_json(200, {"users": [_shown(person) for person in people]})


class OnePerson:
    """GET /users/{user_id} -> {id, display_name}."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response, user_id: int) -> None:
        count_lookup(self._services, req)
        with self._services.pool.connection() as connection:
            person = find_person(connection, user_id)
        if person is None:
            raise Refusal("not_found")
        resp.send_json(200, _shown(person))


def count_lookup(services: Services, req: Request) -> None:
    """Whatever tells whether an account exists counts as looking it up."""
    quotas.spend(
        services.pool,
        lambda connection: quotas.take_of_caller(
            connection,
            req,
            limit_subjects.lookups_of_account(req.session.user_id),
            maximum=LOOKUPS_A_MINUTE,
            window_seconds=quotas.MINUTE,
        ),
    )


def _shown(person: Person) -> dict[str, Any]:
    return {"id": person.id, "display_name": person.display_name}
