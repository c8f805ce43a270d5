"""Ways to break deployment, perimeter, security gates, and the rights that services have."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_PLANS = "tests/unit/test_cloud_plans.py"
_CONFIG = "tests/unit/test_cloud_config.py"
_SCRIPTS = "tests/acceptance/test_cloud_scripts.py"
_SCAN = "tests/acceptance/test_security_scan.py"
_SECRETS = "tests/unit/test_security_secrets.py"
_USED = "tests/db/test_rights_are_used.py"
_CHECK = "tests/acceptance/test_check_deployment.py"
_RUNBOOK = "tests/acceptance/test_runbook.py"
_TABLE = "tests/unit/test_settings_table.py"
_OPERATORS = "docs/operators.md"
_ROLES = "db/sql/roles.sql"
_DEPLOY = "scripts/cloud/deploy.py"
_PERIMETER = "scripts/cloud/perimeter.py"
_RUNNER = "scripts/cloud/runner.py"
_GATES = "scripts/security/tool_gates.py"

MUTATIONS_OF_DEPLOYMENT = (
    # Rights
    Mutation(
        "gateway-reads-addresses",
        _ROLES,
        "(id, display_name, disabled_at, is_admin) ON users TO gatehouse_gateway;\n",
        "(id, display_name, disabled_at, is_admin, email) ON users TO gatehouse_gateway;\n",
        (f"{_USED}::test_no_right_of_a_service_is_unused",),
        "no right that nothing uses",
    ),
    Mutation(
        "function-that-nobody-calls",
        _ROLES,
        "GRANT EXECUTE ON FUNCTION reserve_attempt TO gatehouse_api;\n",
        "GRANT EXECUTE ON FUNCTION reserve_attempt TO gatehouse_api, gatehouse_gateway;\n",
        (f"{_USED}::test_no_right_of_a_service_is_unused",),
        "no right that nothing uses",
    ),
    Mutation(
        "right-missing",
        _ROLES,
        "GRANT SELECT (ticket_hash) ON ws_tickets TO gatehouse_gateway;\n",
        "",
        (f"{_USED}::test_a_service_may_run_its_statements", _USED),
        "every right that is used is there",
    ),
    # Plans
    Mutation(
        "ingress-opened",
        _DEPLOY,
        '"--ingress=internal-and-cloud-load-balancing"',
        '"--ingress=all"',
        (_PLANS,),
        "TRUSTED_PROXY_HOPS=2 is safe only behind the load balancer",
    ),
    Mutation(
        "role-too-many",
        "scripts/cloud/provision.py",
        '    names.API: ("roles/cloudsql.client",),\n',
        '    names.API: ("roles/cloudsql.client", "roles/editor"),\n',
        (_PLANS,),
        "accounts have exactly the roles they need",
    ),
    Mutation(
        "secret-read-by-the-other-service",
        "scripts/cloud/provision.py",
        "    names.JWT_SECRET: (names.API,),\n",
        "    names.JWT_SECRET: (names.API, names.GATEWAY),\n",
        (_PLANS,),
        "a service reads its own secrets",
    ),
    Mutation(
        "gateway-throttled",
        _DEPLOY,
        '            "--no-cpu-throttling",\n',
        '            "--cpu-throttling",\n',
        (_PLANS,),
        "the gateway works between requests",
    ),
    Mutation(
        "migration-not-awaited",
        _DEPLOY,
        '"execute", name, region, "--wait"',
        '"execute", name, region, "--async"',
        (_PLANS,),
        "migrations have run before new code takes traffic",
    ),
    Mutation(
        "one-revision-counted",
        "scripts/cloud/capacity.py",
        "REVISIONS = 2\n",
        "REVISIONS = 1\n",
        (_CONFIG,),
        "old and new revision together fit into Postgres",
    ),
    Mutation(
        "ops-open-when-nobody-is-named",
        "scripts/cloud/environments.py",
        ' or "192.0.2.0/32"',
        "",
        (_CONFIG,),
        "no network named means no network",
    ),
    # Before a deployment
    Mutation(
        "lockouts-not-compared",
        "scripts/check_deployment.py",
        '    "AUTH_RATE_LIMIT_",\n',
        "",
        (f"{_CHECK}::TestTheConfiguration",),
        "what both services act on must be the same in both",
    ),
    Mutation(
        "everything-compared",
        "scripts/check_deployment.py",
        '        if (variable := item.metadata["variable"]).startswith(SHARED)\n',
        '        if (variable := item.metadata["variable"])\n',
        (f"{_CHECK}::TestTheConfiguration",),
        "what one service alone acts on may differ",
    ),
    # Documents
    Mutation(
        "dev-env-is-not-enough",
        "scripts/stack_plan.py",
        '        "APP_ENV": base["APP_ENV"],\n',
        "",
        (f"{_RUNBOOK}::test_every_block_succeeds_as_it_stands",),
        "a change can be checked with the file that scripts/run writes",
    ),
    Mutation(
        "variable-in-no-document",
        _OPERATORS,
        "| `WS_FIRST_FRAME_SECONDS` | `30` |",
        "| `WS_FIRST_SECONDS` | `30` |",
        (_TABLE,),
        "every variable stands in operators.md",
    ),
    Mutation(
        "default-changed-on-the-quiet",
        _OPERATORS,
        "| `CHAT_HISTORY_PAGE_MAX` | `200` |",
        "| `CHAT_HISTORY_PAGE_MAX` | `100` |",
        (_TABLE,),
        "the defaults in operators.md are those of the program",
    ),
    Mutation(
        "bounds-changed-on-the-quiet",
        _OPERATORS,
        "| `API_THREADS` | `16` | 1 to 200 |",
        "| `API_THREADS` | `16` | 1 to 400 |",
        (_TABLE,),
        "the bounds in operators.md are those of the program",
    ),
    # Perimeter
    Mutation(
        "ops-closed-too-late",
        _PERIMETER,
        'Rule(200, "ops from anywhere else"',
        'Rule(4000, "ops from anywhere else"',
        (_PLANS,),
        "a rate's allow ends the evaluation",
    ),
    Mutation(
        "struck-network-still-let-in",
        _PERIMETER,
        "        if priority not in used:\n",
        "        if priority < 0:\n",
        (_PLANS,),
        "/ops is closed to all but named networks",
    ),
    Mutation(
        "ops-with-two-slashes",
        _PERIMETER,
        "'(?i)^/+ops(/|$)'",
        "'^/ops/'",
        (_PLANS,),
        "/ops in any spelling",
    ),
    # Runner
    Mutation(
        "goes-on-after-an-error",
        _RUNNER,
        "    if done.returncode != 0:\n        said",
        "    if done.returncode < 0:\n        said",
        (_SCRIPTS,),
        "stops at the first error",
    ),
    Mutation(
        "password-on-the-command-line",
        _RUNNER,
        'f"--flags-file={path}"',
        'f"--flags-file={path}", f"--password={password}"',
        (_SCRIPTS,),
        "no command line holds a secret",
    ),
    Mutation(
        "passwords-exchanged",
        "db/set_passwords.py",
        "change_password(connection, role, password)",
        'change_password(connection, "gatehouse_api", password)',
        ("tests/db/test_set_passwords.py",),
        "each role gets its own password",
    ),
    # Image
    Mutation(
        "image-runs-as-root",
        "Dockerfile",
        "USER 65532:65532\n",
        "",
        ("tests/acceptance/test_image.py",),
        "non-root",
    ),
    Mutation(
        "image-with-everything",
        "Dockerfile",
        "COPY wsgateway/ wsgateway/\n",
        "COPY wsgateway/ wsgateway/\nCOPY tests/ tests/\n",
        ("tests/acceptance/test_image.py",),
        "nothing that is not needed at run time",
    ),
    # Gates
    Mutation(
        "blindness-passes",
        "scripts/security/__main__.py",
        "        return INCOMPLETE\n",
        "        return PASSED\n",
        (_SCAN,),
        "what could not look is incomplete, never passed",
    ),
    Mutation(
        "skipped-package-passes",
        _GATES,
        '        if "skip_reason" in package:\n',
        '        if "skipped" in package:\n',
        (_SCAN,),
        "a package that was not looked up was not audited",
    ),
    Mutation(
        "silenced-without-a-reason",
        _GATES,
        '(?P<reason> - \\S)?")',
        '(?P<reason>)")',
        (_SCAN,),
        "an exception carries its reason",
    ),
    Mutation(
        "accepted-for-ever",
        "scripts/security/accepted.py",
        "        if not today <= one.until <= today + LONGEST:\n",
        "        if one.until < one.until:\n",
        (_SCAN,),
        "an acceptance ends",
    ),
    Mutation(
        "secret-shown",
        "scripts/security/secrets_gate.py",
        '"this looks like a secret"',
        "line",
        (_SECRETS,),
        "a report shows no secret",
    ),
)
