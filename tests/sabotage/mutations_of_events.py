"""Ways to break the records: what is written down, how often, and what never is."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_EVENTS = "tests/api/test_security_events.py"
_NO_SECRETS = "tests/acceptance/test_logs_tell_no_secrets.py"

MUTATIONS_OF_EVENTS = (
    Mutation(
        "refusals-flood-the-table",
        "api/middleware/refused_requests.py",
        "            if not self._sampler.take(subject, time.monotonic()):\n",
        "            if False:\n",
        (_EVENTS,),
        "what a stranger can cause at will is written down now and then",
    ),
    Mutation(
        "sampler-without-bound",
        "rules/sampler.py",
        " or len(self._taken) >= room:",
        ":",
        ("tests/unit/test_sampler.py",),
        "a stranger with many addresses must not fill the table either",
    ),
    Mutation(
        "one-event-a-minute",
        "rules/sampler.py",
        "BURST = 20\n",
        "BURST = 1\n",
        (_EVENTS,),
        "a refused request is found by its id",
    ),
    Mutation(
        "the-loud-hide-the-others",
        "rules/sampler.py",
        "self.room // 2 if count else self.room",
        "self.room",
        ("tests/unit/test_sampler.py",),
        "a few addresses must not use up what is written down of all",
    ),
    Mutation(
        "an-address-for-each-event",
        "api/middleware/refused_requests.py",
        "(event, source(req.context.address))",
        "(event, req.context.address)",
        (_EVENTS,),
        "an IPv6 client owns a whole /64",
    ),
    Mutation(
        "event-insists-on-the-database",
        "api/middleware/refused_requests.py",
        "        except UNAVAILABLE as error:\n",
        "        except ZeroDivisionError as error:\n",
        (_EVENTS,),
        "a refusal stands without a database",
    ),
    Mutation(
        "strange-origin-unnoticed",
        "api/middleware/refused_requests.py",
        "        if origin is not None and origin not in self._allowed_origins:\n",
        "        if False:\n",
        (_EVENTS,),
        "a page that tries is an event",
    ),
    Mutation(
        "strange-origin-unnoticed-by-the-gateway",
        "wsgateway/handshake.py",
        "            self._events.note_from_stranger(Event.STRANGE_ORIGIN,"
        " address, _request_id(request))\n",
        "",
        ("tests/gateway/test_handshake.py",),
        "a page that tries is an event",
    ),
    Mutation(
        "logout-leaves-no-event",
        "api/resources/sessions.py",
        '                _record_end(connection, req, req.session.session_id, "logout")\n',
        "                pass\n",
        (_EVENTS,),
        "the end of a session is written down",
    ),
    Mutation(
        "nobodys-quota",
        "api/quotas.py",
        "            user_id=user_id,\n",
        "",
        (_EVENTS,),
        "GET /ops/users shows what its user ran into",
    ),
    Mutation(
        "broken-row-in-the-log",
        "db/terse_errors.py",
        "    if told.message_primary is not None:\n",
        "    if False:\n",
        (_NO_SECRETS,),
        "an error of the database names no data",
    ),
)
