"""What is promised, a line each: DESIGN's numbers to reach, and where in the figures they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.recording import Recording, Spread

SATURATION = ("stored_per_second", "delivered_per_member_per_second")
PEERS = {"ws-pg": "Node ws + pg", "socketio-pg": "socket.io + pg", "ejabberd": "ejabberd"}


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` at `paths` (the lowest of them), divided by `peer` at the same ones where there is
    one, is to be `bound`, or more or less."""

    what: str
    figure: str
    paths: tuple[str, ...]
    sense: Literal["at least", "at most"]
    bound: float
    unit: str = "times"
    peer: str | None = None
    unit_of_both: str = ""

    def measured(self, recording: Recording) -> Spread | None:
        """In `unit`."""
        ours = recording.spread(self.figure, *self.paths)
        if self.peer is None or ours is None:
            return ours
        theirs = recording.spread(self.peer, *self.paths)
        # A peer that got nothing done has no ratio.
        return ours.over(theirs) if theirs is not None and theirs.low > 0 else None

    def is_reached(self, measured: Spread) -> bool:
        """By the median, as it was measured and not as it is printed."""
        if self.sense == "at least":
            return measured.median >= self.bound
        return measured.median <= self.bound


def _saturation(peer: str, times: float) -> Goal:
    return Goal(
        f"stored and delivered at saturation, 100 members, 10 senders, against {PEERS[peer]}",
        "saturation",
        SATURATION,
        "at least",
        times,
        peer=f"saturation-of-{peer}",
        unit_of_both="messages/s",
    )


def _send_to_ack(peer: str) -> Goal:
    return Goal(
        f"send to ack, 20 messages a second, p50, against {PEERS[peer]}",
        "send-to-ack",
        ("ack_ms.p50",),
        "at most",
        1.5,
        peer=f"send-to-ack-of-{peer}",
        unit_of_both="ms",
    )


GOALS = (
    _saturation("ws-pg", 4),
    _saturation("socketio-pg", 4),
    _saturation("ejabberd", 15),
    Goal(
        "the same with two gateway processes, against one",
        "saturation-of-two-processes",
        SATURATION,
        "at least",
        1,
        peer="saturation",
        unit_of_both="messages/s",
    ),
    _send_to_ack("ws-pg"),
    Goal(
        "send to delivery on another instance, p50, against the same instance",
        "send-to-ack",
        ("other_to_same_p50",),
        "at most",
        2,
    ),
    Goal(
        "admissions with ticket, against the same server without a ticket check",
        "admissions",
        ("ratio_to_same_server",),
        "at least",
        0.8,
    ),
    Goal(
        "bearer GET, which reads the session in Postgres, against FastAPI + SQLAlchemy",
        "bearer-get",
        ("per_second",),
        "at least",
        2.5,
        peer="bearer-get-of-fastapi",
        unit_of_both="calls/s",
    ),
    Goal(
        "memory of an idle subscribed socket",
        "memory-of-a-socket",
        ("kilobytes_a_socket",),
        "at most",
        20,
        unit="KB",
    ),
    Goal(
        "from a revocation to the closed socket, 2 000 on two instances all at once, p99",
        "revocation",
        ("all_at_once.close_ms.p99",),
        "at most",
        250,
        unit="ms",
    ),
    Goal(
        "the same, one alone",
        "revocation",
        ("one_alone.close_ms.p99",),
        "at most",
        250,
        unit="ms",
    ),
    Goal(
        "send to ack with 5 million stored messages, p50, against 10 thousand",
        "growth",
        ("ratio_p50",),
        "at most",
        1.2,
    ),
    Goal(
        "other bearer calls beside 20 parallel guesses, p99, against none",
        "login-flood",
        ("ratio_p99",),
        "at most",
        3,
    ),
    Goal(
        "of 31 messages in a row, acknowledged under the default limits",
        "default-limits",
        ("acknowledged",),
        "at most",
        30,
        unit="messages",
    ),
)
