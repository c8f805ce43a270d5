"""How much of the server one client may hold, and for how long.

The values are for a service behind Cloud Run's proxy or on a laptop; tests pass smaller ones.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

# Beside connections: the pool's sockets, large bodies in temporary files, the log, modules.
_OTHER_FILES = 128
# A load balancer keeps its connections to us for 600 s (cloud.google.com/load-balancing/docs/https,
# "Timeouts and retries"): were ours shorter, it could send a request into a connection that we are
# just closing, and its client would see a 502.
_IDLE_SECONDS_BEHIND_A_PROXY = 620.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    max_header_bytes: int = 16_384

    # From the first byte of a request to its last, however regularly they come. The largest body
    # by default, 64 KB, needs 2 KB/s.
    receive_seconds: float = 30.0
    # For a client to take an answer from us. The largest, a full page of history, is below 3 MB.
    answer_seconds: float = 30.0
    # A connection on which no request has begun.
    idle_seconds: float = 75.0

    # What is still read after a refusal, so that the client gets to see it: see HttpChannel.
    linger_seconds: float = 2.0
    linger_bytes: int = 1_048_576

    # At this many the one that has kept us waiting longest makes room: see HttpServer.
    max_connections: int = 1000

    drain_seconds: float = 8.0  # Cloud Run kills ten seconds after SIGTERM
    # A connection opened (or answered) just before the stop may still bring its request.
    drain_idle_seconds: float = 0.5

    @property
    def sweep_seconds(self) -> float:
        """How often deadlines are looked at: often enough that none is missed by far."""
        return min(
            1.0,
            min(self.receive_seconds, self.answer_seconds, self.idle_seconds, self.linger_seconds)
            / 4,
        )


def limits_for(trusted_proxy_hops: int) -> HttpLimits:
    limits = HttpLimits()
    if trusted_proxy_hops:
        limits = replace(limits, idle_seconds=_IDLE_SECONDS_BEHIND_A_PROXY)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        # accept() without a free descriptor would fail again and again, at full speed.
        most = max(16, min(limits.max_connections, files - _OTHER_FILES))
        limits = replace(limits, max_connections=most)
    return limits
