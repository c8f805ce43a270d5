"""Ways to break the drill: each makes it believe what it should have looked at."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_TESTS = "tests/acceptance/test_drill.py"
_STEPS = (f"{_TESTS}::TestBroken::test_a_step_that_does_nothing_is_found",)
_RESTARTS = (f"{_TESTS}::TestBroken::test_commands_that_restart_nothing_are_found",)
_OTHERS = (f"{_TESTS}::TestOthers::test_nobody_else_is_thrown_out_unless_that_is_allowed",)

MUTATIONS_OF_DRILLS = (
    Mutation(
        "drill-does-not-wait-for-the-sockets",
        "scripts/drills/stage.py",
        'if not report.check(not left, f"all {len(ends)} sockets end", f"{len(left)} live on"):',
        "if left:",
        _STEPS,
        "a revocation that ends no socket is found",
    ),
    Mutation(
        "drill-spares-nobody",
        "scripts/drills/stage.py",
        "        if self.permissions.disturb_others:\n",
        "        if True:\n",
        _OTHERS,
        "sessions of others are not ended by a drill",
    ),
    Mutation(
        "drill-takes-its-own-for-others",
        "scripts/drills/stage.py",
        'if session["user_id"] not in self.cast.user_ids and is_hit(session)',
        "if is_hit(session)",
        (f"{_TESTS}::TestHealthy::test_the_incidents_pass_and_leave_nobody_logged_in",),
        "a drill is not in its own way",
    ),
    Mutation(
        "drill-believes-the-audit",
        "scripts/drills/operator.py",
        "                len(found) == act.rows,\n",
        "                len(found) <= act.rows,\n",
        (f"{_TESTS}::TestBroken::test_an_act_that_leaves_no_row_in_the_audit_trail_is_found",),
        "an act without its row is found",
    ),
    Mutation(
        "drill-does-not-listen-for-erasures",
        "scripts/drills/spam.py",
        "    missing = set(seqs)\n",
        "    missing: set[int] = set()\n",
        _STEPS,
        "an erasure that nobody sees is found",
    ),
    Mutation(
        "drill-believes-in-the-mute",
        "scripts/drills/spam.py",
        'report.check(answer.get("code") == "muted", "muted on the socket", answer)',
        'report.check(answer["type"] == "error", "muted on the socket", answer)',
        _STEPS,
        "a mute that does nothing is found, though the limits refuse too",
    ),
    Mutation(
        "drill-guesses-for-ever",
        "scripts/drills/compromise.py",
        "        not open_ones,\n",
        "        bool(looked_at),\n",
        (f"{_TESTS}::TestBroken::test_a_stack_without_limits_is_found",),
        "accounts that nothing locks are found",
    ),
    Mutation(
        "drill-believes-in-the-gateway's-restart",
        "scripts/drills/outage.py",
        'report.check(bool(seen.offline), "a socket was lost and came back"',
        'report.check(True, "a socket was lost and came back"',
        _RESTARTS,
        "a restart that restarts nothing is found",
    ),
    Mutation(
        "drill-believes-in-the-new-key",
        "scripts/drills/leak.py",
        'refusal == "401 unauthorized", "a token of the old key is refused"',
        'bool(refusal), "a token of the old key is refused"',
        _RESTARTS,
        "a rotation that rotates nothing is found",
    ),
    Mutation(
        "drill-leaves-its-people-logged-in",
        "scripts/drill.py",
        "        await stage.cast.leave()\n",
        "        pass\n",
        (f"{_TESTS}::TestHealthy::test_the_incidents_pass_and_leave_nobody_logged_in",),
        "a drill ends the sessions that it began",
    ),
    Mutation(
        "drill-fails-with-0",
        "scripts/drill.py",
        "    bad = {Verdict.FAILED, Verdict.REFUSED}",
        "    bad = {Verdict.REFUSED}",
        _STEPS,
        "a failed drill is seen by who called it",
    ),
    Mutation(
        "dry-run-of-the-drill-acts",
        "scripts/drill.py",
        "play = incident.preview if preview else incident.rehearse",
        "play = incident.rehearse",
        (f"{_TESTS}::TestOthers::test_a_dry_run_counts_and_changes_nothing",),
        "a dry run changes nothing",
    ),
    Mutation(
        "runbook-without-a-reason",
        "docs/runbook.md",
        'psql -v actor="$WHO" -v reason="$WHY" -v user="$USER_ID"',
        'psql -v actor="$WHO" -v user="$USER_ID"',
        ("tests/acceptance/test_runbook.py::test_every_block_succeeds_as_it_stands",),
        "what the runbook says works as it stands",
    ),
)
