"""Ways to break what the gateway does beside talking: departures, typing, old rows, deadlines."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_HOUSEKEEPING = "db/sql/migrations/0005_housekeeping.sql"
_TYPING_SQL = "db/sql/migrations/0006_typing.sql"
_LISTENER = "wsgateway/listener.py"
_GATEWAY = "wsgateway/gateway.py"
_REMOVAL = "tests/gateway/test_removal.py"
_TYPING = "tests/gateway/test_typing.py"
_HOUSE = "tests/db/test_housekeeping.py"
_FRAMES = "tests/gateway/test_frames.py"
_SHUTDOWN = "tests/gateway/test_shutdown.py"
_TURNS = "tests/gateway/test_turns.py"
_HEALTH = "tests/gateway/test_health.py"
_PROMISES = "tests/gateway/test_promises.py"
_DEAF = (
    "tests/gateway/test_database_failures.py"
    "::test_a_listening_connection_that_hears_nothing_any_more_is_noticed_and_replaced"
)
_LOCKED = (
    "tests/gateway/test_database_failures.py"
    "::test_a_channel_that_somebody_keeps_locked_holds_up_no_other_channel_for_good"
)

MUTATIONS_OF_THE_GATEWAY = (
    # Departures
    Mutation(
        "departure-cuts-nothing",
        "wsgateway/feed.py",
        "            until = _departure(departures, subscriber.user_id, after)\n",
        "            until = None\n",
        (_REMOVAL,),
        "nothing committed after a removal reaches who was removed",
    ),
    Mutation(
        "removal-during-a-subscribe-overlooked",
        "wsgateway/fanout.py",
        "                if may_have_left:\n",
        "                if False:\n",
        (f"{_REMOVAL}::test_a_removal_between_the_check_and_the_joining_is_found_at_once",),
        "a removal cannot slip between the check and the joining",
    ),
    Mutation(
        "memberships-not-swept",
        _LISTENER,
        "            self._members.sweep,\n",
        "",
        (_REMOVAL,),
        "a removal that nobody was told of is found",
    ),
    Mutation(
        "removed-not-told",
        "wsgateway/fanout.py",
        '        subscriber.send({"type": "removed", "channel_id": channel_id})\n',
        "",
        (_REMOVAL,),
        "who was removed is told",
    ),
    # Typing
    Mutation(
        "typing-without-a-pace",
        "rules/typing_pace.py",
        "        if user_id in self._said_at:\n",
        "        if False:\n",
        ("tests/unit/test_typing_pace.py",),
        "once in three seconds",
    ),
    Mutation(
        "typing-counted-on-each-instance",
        "wsgateway/typists.py",
        "            if self._heard.take(user_id, time.monotonic()):\n",
        "            if True:\n",
        (_TYPING,),
        "once in three seconds, over all instances",
    ),
    Mutation(
        "typing-counted-for-each-channel",
        "wsgateway/typists.py",
        "            if self._heard.take(user_id, time.monotonic()):\n",
        "            if self._heard.take((user_id, channel_id), time.monotonic()):\n",
        (_TYPING,),
        "once in three seconds, over all channels",
    ),
    Mutation(
        "typing-of-the-muted",
        _TYPING_SQL,
        "    WHERE (s.muted_until > clock_timestamp()) IS NOT TRUE\n",
        "    WHERE true\n",
        (_TYPING,),
        "who is muted is not seen typing",
    ),
    Mutation(
        "typing-of-strangers",
        _TYPING_SQL,
        "      AND (c.kind = 'global' OR EXISTS (\n",
        "      AND (true OR EXISTS (\n",
        (_TYPING,),
        "only members are seen typing",
    ),
    Mutation(
        "typing-shown-to-the-typist",
        "wsgateway/fanout.py",
        "            if subscriber.user_id != typing_user_id:\n",
        "            if True:\n",
        (_TYPING,),
        "others see it",
    ),
    Mutation(
        "typing-floods-notify",
        "wsgateway/typists.py",
        "            await asyncio.sleep(NOTIFY_EVERY_SECONDS)\n",
        "",
        (_TYPING,),
        "a few notifications a second, however many type",
    ),
    # Housekeeping
    Mutation(
        "tickets-forgotten-too-soon",
        _HOUSEKEEPING,
        "make_interval(secs => greatest(p_age_seconds, 0))",
        "make_interval(secs => 0)",
        (_HOUSE,),
        "a ticket that comes twice is told from one that was never issued",
    ),
    Mutation(
        "nonces-forgotten-within-the-grace",
        _HOUSEKEEPING,
        "make_interval(secs => greatest(p_grace_seconds, 0))",
        "make_interval(secs => 0)",
        (_HOUSE,),
        "a client whose answer was lost gets the same successor",
    ),
    Mutation(
        "sessions-before-their-tokens",
        _HOUSEKEEPING,
        "          AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = s.id)\n",
        "",
        (_HOUSE,),
        "a step stays as small as it looks",
    ),
    Mutation(
        "lockouts-forgotten",
        _HOUSEKEEPING,
        "          AND (r.locked_until IS NULL OR r.locked_until < v_before)\n",
        "",
        (_HOUSE,),
        "a lockout is remembered",
    ),
    Mutation(
        "traces-wiped-away",
        _HOUSEKEEPING,
        "        WHERE e.created_at < clock_timestamp()"
        " - make_interval(days => greatest(p_age_days, 1))\n",
        "        WHERE e.created_at < clock_timestamp() - make_interval(days => p_age_days)\n",
        (_HOUSE,),
        "a stolen gateway cannot wipe its traces away",
    ),
    Mutation(
        "retention-leaves-holes",
        _HOUSEKEEPING,
        " AND (s.seq IS NULL OR e.seq < s.seq)",
        "",
        (_HOUSE,),
        "entries go from the beginning of the log",
    ),
    Mutation(
        "retention-waits-for-erasures",
        _HOUSEKEEPING,
        "        ORDER BY e.seq\n        FOR UPDATE SKIP LOCKED\n",
        "        ORDER BY e.seq\n        FOR UPDATE\n",
        (_HOUSE,),
        "housekeeping waits for nobody",
    ),
    Mutation(
        "everybody-keeps-house",
        _HOUSEKEEPING,
        "    SELECT pg_try_advisory_xact_lock(72013003)\n",
        "    SELECT true\n",
        (_HOUSE,),
        "one at a time",
    ),
    Mutation(
        "retention-though-none-is-asked-for",
        "wsgateway/housekeeping.py",
        "        if self._chat_days:\n",
        "        if True:\n",
        ("tests/gateway/test_housekeeping.py",),
        "without retention no message goes",
    ),
    Mutation(
        "retention-looks-at-all-channels-at-once",
        _HOUSEKEEPING,
        "    OFFSET 999 LIMIT 1;\n",
        "    OFFSET 99999 LIMIT 1;\n",
        (_HOUSE,),
        "a step is bounded, however many channels there are",
    ),
    Mutation(
        "one-failure-ends-the-round",
        "wsgateway/housekeeping.py",
        "    except (FAILED, *UNAVAILABLE) as error:\n        logger.warning(",
        "    except (FAILED, *UNAVAILABLE) as error:\n        raise Busy from error\n"
        "        logger.warning(",
        ("tests/gateway/test_housekeeping.py",),
        "what cannot be forgotten leaves the rest its turn",
    ),
    Mutation(
        "backlog-left",
        "wsgateway/housekeeping.py",
        "            if forgotten < STEP_ROWS:\n",
        "            if True:\n",
        ("tests/gateway/test_housekeeping.py",),
        "a backlog is worked off",
    ),
    # The pool's connections
    Mutation(
        "crowd-takes-the-pool",
        "wsgateway/fanout.py",
        "            async with self._turns.turn():\n",
        "            if True:\n",
        (f"{_TURNS}::test_a_revocation_does_not_wait_for_a_crowd_that_subscribes",),
        "a crowd that subscribes leaves connections for the gateway's own work",
    ),
    Mutation(
        "admissions-take-the-pool",
        "wsgateway/session_watch.py",
        "        async with self._turns.turn():\n",
        "        if True:\n",
        (f"{_TURNS}::test_what_is_asked_for_each_admission_leaves_a_connection_for_others",),
        "those who come back all at once leave connections for the gateway's own work",
    ),
    Mutation(
        "each-probe-looks",
        "wsgateway/readiness.py",
        "            if self._clock() - self._looked_at >= GOOD_FOR_SECONDS:\n",
        "            if True:\n",
        (_HEALTH,),
        "a flood of probes costs one connection",
    ),
    Mutation(
        "ready-for-good",
        "wsgateway/readiness.py",
        "            if self._clock() - self._looked_at >= GOOD_FOR_SECONDS:\n",
        "            if self._looked_at == -math.inf:\n",
        (_HEALTH,),
        "readiness is of this moment",
    ),
    # What the tables do not have
    Mutation(
        "just-committed-taken-for-lost",
        "wsgateway/fanout.py",
        "self._give_up(last_seqs, await self._deliver_after(connection, stuck))",
        "self._give_up(last_seqs, stuck)",
        (
            f"{_PROMISES}::test_what_is_committed_between_two_looks_at_the_tables_is_delivered_not"
            "_taken_for_lost",
        ),
        "nobody is sent back for an entry that is there",
    ),
    Mutation(
        "lost-entries-waited-for",
        "wsgateway/fanout.py",
        "            if feed is None or last_seqs.get(channel_id, 0) <= feed.delivered_seq:\n",
        "            if True:\n",
        (f"{_PROMISES}::test_subscribers_of_a_log_that_has_lost_an_entry_are_sent_back_to_resume",),
        "nothing is skipped silently",
    ),
    # Deadlines and bounds
    Mutation(
        "late-outcome-thrown-away",
        "wsgateway/batching.py",
        "        if outcome.cancelled():\n",
        "        if True:\n",
        ("tests/unit/test_batching.py::TestAnOutcome",),
        "a ticket that was spent in time lets in",
    ),
    Mutation(
        "silent-sockets-stay",
        _GATEWAY,
        '            lambda: connection.close(Refusal("policy", "No frame came.")),\n',
        "            lambda: None,\n",
        (_FRAMES,),
        "a socket that sends nothing is closed",
    ),
    Mutation(
        "talking-sockets-go-too",
        _GATEWAY,
        "                silence.cancel()\n",
        "",
        (_FRAMES,),
        "one frame is enough",
    ),
    Mutation(
        "pings-not-counted",
        "wsgateway/guarded_socket.py",
        "        if is_counted_here and not self._lower_frames",
        "        if False and not self._lower_frames",
        (_FRAMES,),
        "frames that are no messages are counted too",
    ),
    Mutation(
        "flood-goes-on-after-its-gap",
        "wsgateway/guarded_socket.py",
        "            self._has_flooded = True\n",
        "",
        (f"{_FRAMES}::TestFlood::test_what_comes_after_too_many_pieces_is_not_put_together",),
        "what has lost a piece is no message",
    ),
    Mutation(
        "idle-connections-hold-up-the-exit",
        _GATEWAY,
        "        self._guard.cut_handshakes()  # whoever has only connected would hold us up to the"
        " end\n",
        "",
        (f"{_SHUTDOWN}::test_a_stuck_client_does_not_hold_up_the_exit",),
        "whoever has only connected holds up nobody",
    ),
    Mutation(
        "dead-peers-kept-while-much-is-unsent",
        _GATEWAY,
        "                    write_limit=self._most_unsent_bytes,\n",
        "",
        (
            "tests/gateway/test_slow_consumers.py"
            "::test_one_whose_network_is_gone_is_found_by_the_ping_though_much_waits_to_be_sent",
        ),
        "a dead peer is found by the ping, whatever waits for it",
    ),
    Mutation(
        "locked-channel-tried-again-and-again",
        "wsgateway/writer.py",
        "                    self._locked_until[channel_id] = time.monotonic()"
        " + RETRY_AFTER_SECONDS\n",
        "                    self._locked_until[channel_id] = 0.0\n",
        (_LOCKED,),
        "a locked channel is left alone for a while",
    ),
    Mutation(
        "all-sockets-closed-at-once",
        _GATEWAY,
        "self._settings.socket.shutdown_spread_seconds / max(1, len(open_sockets))",
        "0.0",
        (f"{_SHUTDOWN}::test_sockets_are_closed_one_after_the_other_not_all_at_once",),
        "clients do not come back all at once",
    ),
    Mutation(
        "lifetimes-end-together",
        _GATEWAY,
        "            lifetime * random.uniform(0.9, 1.0),  # noqa: S311 - not a secret\n",
        "            lifetime,\n",
        (f"{_SHUTDOWN}::test_lifetimes_end_one_after_the_other_too",),
        "clients do not come back all at once",
    ),
    Mutation(
        "notifications-wait-for-all-looks",
        _LISTENER,
        "            await self._receive_for(connection, 0.0)\n",
        "",
        (
            "tests/gateway/test_revocation.py"
            "::test_a_revocation_does_not_wait_for_the_end_of_a_sweep",
        ),
        "a long sweep keeps nobody in",
    ),
    Mutation(
        "deaf-line-kept",
        _LISTENER,
        "                if self._beat is not None:\n",
        "                if False:\n",
        (_DEAF,),
        "a line that hears nothing is replaced",
    ),
    Mutation(
        "frozen-line-waited-for",
        _LISTENER,
        "    deadline = call_later(ANSWER_WITHIN_SECONDS, cut, connection)\n",
        "    deadline = call_later(600, cut, connection)\n",
        (_DEAF,),
        "a line that stands still is cut",
    ),
    Mutation(
        "cancelled-only-once",
        "wsgateway/background.py",
        "    while remaining:\n",
        "    if remaining:\n",
        (
            "tests/gateway/test_background.py"
            "::test_a_part_that_forgets_a_cancellation_is_cancelled_again",
        ),
        "a stopping gateway ends, whatever its parts wait for",
    ),
    Mutation(
        "two-first-reports-collide",
        "db/sql/migrations/0003_presence.sql",
        " VALUES (p_instance_id) ON CONFLICT DO NOTHING;",
        " VALUES (p_instance_id);",
        (
            "tests/gateway/test_presence.py"
            "::test_two_connections_of_an_instance_may_be_the_first_at_once",
        ),
        "a gateway may report twice at once",
    ),
    Mutation(
        "health-probes-without-a-line",
        "wsgateway/handshake.py",
        "            self._note_access(request, HTTPStatus.OK)\n",
        "",
        ("tests/gateway/test_admission.py::test_every_request_has_a_line",),
        "an access line a request",
    ),
)
