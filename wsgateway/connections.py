"""Who is connected to this process, by session: so that an ended session ends its sockets."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from wsgateway.connection import Connection


class Connections:
    def __init__(self) -> None:
        self._by_session: dict[int, set[Connection]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        for connections in list(self._by_session.values()):
            yield from list(connections)

    def add(self, connection: Connection) -> None:
        self._by_session.setdefault(connection.session_id, set()).add(connection)
        self._count += 1

    def remove(self, connection: Connection) -> None:
        of_session = self._by_session[connection.session_id]
        of_session.remove(connection)
        self._count -= 1
        if not of_session:
            del self._by_session[connection.session_id]

    def of_session(self, session_id: int) -> Collection[Connection]:
        return tuple(self._by_session.get(session_id, ()))

    def session_ids(self) -> Collection[int]:
        return tuple(self._by_session)
