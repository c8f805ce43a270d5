"""Who is connected to this process: by session, so that an ended session ends its sockets, by
connection id, and counted by address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from wsgateway.connection import Connection


class Connections:
    def __init__(self) -> None:
        self._by_id: dict[int, Connection] = {}
        self._by_session: dict[int, set[Connection]] = {}
        self.slow_consumers_closed = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._by_id.values()))

    def add(self, connection: Connection) -> None:
        self._by_id[connection.id] = connection
        self._by_session.setdefault(connection.session_id, set()).add(connection)

    def remove(self, connection: Connection) -> None:
        del self._by_id[connection.id]
        of_session = self._by_session[connection.session_id]
        of_session.remove(connection)
        if not of_session:
            del self._by_session[connection.session_id]
        if connection.end_code == "slow_consumer":
            self.slow_consumers_closed += 1

    def with_id(self, connection_id: int) -> Connection | None:
        return self._by_id.get(connection_id)

    def of_session(self, session_id: int) -> Collection[Connection]:
        return tuple(self._by_session.get(session_id, ()))

    def session_ids(self) -> Collection[int]:
        return tuple(self._by_session)


class Places:
    """How many sockets the process and each address hold, from before their ticket is looked at."""

    def __init__(self, maximum: int, maximum_per_source: int) -> None:
        self._maximum = maximum
        self._maximum_per_source = maximum_per_source
        self._by_source: Counter[str] = Counter()
        self._total = 0

    def is_full(self) -> bool:
        return self._total >= self._maximum

    def is_full_for(self, source: str) -> bool:
        return self._by_source[source] >= self._maximum_per_source

    def take(self, source: str) -> bool:
        """False when there is no place; whoever got one gives it back."""
        if self.is_full() or self.is_full_for(source):
            return False
        self._total += 1
        self._by_source[source] += 1
        return True

    def give_back(self, source: str) -> None:
        self._total -= 1
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]
