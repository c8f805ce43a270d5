"""What a launcher asks before anything else: is there a newer version, and must it be?"""

from __future__ import annotations

from api.context import Request, Response
from api.services import Services
from db.releases import find_notes, find_policy
from rules.versions import version_status


class Summary:
    """GET /release/summary -> {version_status, notes, update_url}, for the version headers."""

    public_methods = frozenset({"GET"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        client = req.client()
        with self._services.pool.connection() as connection, connection.transaction():
            found = find_policy(connection)
            notes = find_notes(connection)
        status = version_status(found.policy, client.version, client.content_version, found.now)
        answer = {
            "version_status": status,
            "notes": notes,
            "update_url": found.policy.update_url,
        }
        resp.send_json(200, answer)
