"""Numbers that follow from where the service runs."""

from __future__ import annotations

import resource

import pytest

from api.http_limits import HttpLimits, limits_for


def test_a_proxy_closes_idle_connections_before_we_do() -> None:
    assert limits_for(0).idle_seconds == 75
    assert limits_for(1).idle_seconds > 600


@pytest.mark.parametrize(
    ("files", "connections"),
    [(resource.RLIM_INFINITY, 1000), (65_536, 1000), (1024, 896), (256, 128), (64, 16)],
)
def test_connections_leave_room_for_other_files(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert limits_for(0).max_connections == connections


def test_deadlines_are_looked_at_often_enough() -> None:
    assert HttpLimits().sweep_seconds <= 1
    assert HttpLimits(receive_seconds=0.4).sweep_seconds <= 0.1
