"""Ways to break secret references, rotation, and the encrypted way to Postgres."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_SETTINGS = "rules/settings.py"
_SECRET_MANAGER = "db/secret_manager.py"
_CONNECTIONS = "db/connections.py"
_PLAN = "scripts/rotation_plan.py"
_CHECK = "scripts/check_deployment.py"
_SETTINGS_TESTS = "tests/unit/test_settings.py"
_SECRET_MANAGER_TESTS = "tests/db/test_secret_manager.py"
_CONNECTION_TESTS = "tests/db/test_connections.py"
_TLS_TESTS = "tests/db/test_tls.py"
_ROTATE_TESTS = "tests/acceptance/test_rotate_secret.py"
_ROTATION_TESTS = "tests/acceptance/test_rotation.py"
_CHECK_TESTS = "tests/acceptance/test_check_deployment.py"

MUTATIONS_OF_SECRETS = (
    # Configuration
    Mutation(
        "ticket-in-the-clear-in-production",
        _SETTINGS,
        '.startswith("ws:"),\n',
        '.startswith("http:"),\n',
        (_SETTINGS_TESTS,),
        "production sends nobody to ws://",
    ),
    Mutation(
        "emulator-in-production",
        _SETTINGS,
        "            settings.service.secret_manager_emulator is not None,\n",
        "            False,\n",
        (_SETTINGS_TESTS,),
        "production reads secrets from Google alone",
    ),
    Mutation(
        "no-origins-means-those-of-cors",
        _SETTINGS,
        "        return self.service.cors_allowed_origins if explicit is None else explicit\n",
        "        return explicit or self.service.cors_allowed_origins\n",
        (_SETTINGS_TESTS,),
        "an empty list of origins is an empty list",
    ),
    Mutation(
        "verification-without-an-authority",
        _SETTINGS,
        "            and settings.database.sslrootcert is None,\n",
        "            and False,\n",
        (_SETTINGS_TESTS,),
        "verify-full needs to know whom to trust",
    ),
    Mutation(
        "weak-secrets-told-later",
        _SETTINGS,
        "        problems += _weak_values(settings, service)\n",
        "",
        (_SETTINGS_TESTS,),
        "every problem of a start is told at once",
    ),
    Mutation(
        "empty-secret-accepted",
        "rules/secret_values.py",
        "        if payloads and not values:\n",
        "        if False:\n",
        ("tests/unit/test_secret_values.py",),
        "a secret that was stored empty is told by its name",
    ),
    # Secret Manager
    Mutation(
        "checksum-not-compared",
        _SECRET_MANAGER,
        " or int(payload.data_crc32c) != crc32c(payload.data):\n",
        ":\n",
        (_SECRET_MANAGER_TESTS,),
        "the library leaves the checksum to its caller",
    ),
    Mutation(
        "secret-manager-not-asked-again",
        _SECRET_MANAGER,
        "            time.sleep(PAUSE_SECONDS)\n",
        "            raise SecretUnreadable(_TOO_LATE) from None\n",
        (_SECRET_MANAGER_TESTS,),
        "a hiccup of Secret Manager stops no start",
    ),
    Mutation(
        "library-imported-anyway",
        _SECRET_MANAGER,
        "if TYPE_CHECKING:\n",
        "if True:\n",
        (_SECRET_MANAGER_TESTS,),
        "who uses no references does not pay for the library",
    ),
    Mutation(
        "library-imported-without-a-reference",
        _SECRET_MANAGER,
        "    if not references:\n        return {}\n",
        "",
        (_SECRET_MANAGER_TESTS,),
        "who uses no references does not pay for the library, not even in a thread",
    ),
    Mutation(
        "start-that-hangs",
        _SECRET_MANAGER,
        "DEADLINE_SECONDS = 7.0\n",
        "DEADLINE_SECONDS = 14.0\n",
        (_SECRET_MANAGER_TESTS,),
        "a start fails in time",
    ),
    Mutation(
        "weak-referenced-secret-accepted",
        _SECRET_MANAGER,
        "        problems=problems,\n",
        "        problems=[],\n",
        (_SECRET_MANAGER_TESTS,),
        "a referenced secret is judged like a plain one",
    ),
    # The way to Postgres
    Mutation(
        "only-the-first-password",
        _CONNECTIONS,
        "    return error.pgconn is not None and error.pgconn.used_password\n",
        "    return False\n",
        (_CONNECTION_TESTS,),
        "a password rotates while both are known",
    ),
    Mutation(
        "root-certificate-not-missed",
        "db/connection_errors.py",
        "    if not Path(str(file)).is_file() or not os.access(str(file), os.R_OK):\n",
        "    if False:\n",
        (_TLS_TESTS,),
        "with require libpq would verify nothing without saying so",
    ),
    Mutation(
        "encryption-is-only-preferred",
        _CONNECTIONS,
        '        "sslmode": settings.sslmode,\n',
        '        "sslmode": "prefer" if settings.sslmode == "require" else settings.sslmode,\n',
        (_TLS_TESTS,),
        "a server without TLS is refused",
    ),
    Mutation(
        "root-certificate-not-handed-on",
        _CONNECTIONS,
        '        result["sslrootcert"] = settings.sslrootcert\n',
        "        pass\n",
        (_TLS_TESTS,),
        "DB_SSLROOTCERT decides whom to trust",
    ),
    Mutation(
        "pool-keeps-its-reason-to-itself",
        _CONNECTIONS,
        "        if self.last is not None:\n",
        "        if False:\n",
        (_TLS_TESTS,),
        "a start that fails says why",
    ),
    # Rotation
    Mutation(
        "new-key-signs-before-all-know-it",
        _PLAN,
        '            ("2. Every instance knows the new key", [deploy(str(old), new)]),\n',
        "",
        (_ROTATE_TESTS,),
        "a key verifies everywhere before it signs",
    ),
    Mutation(
        "leaked-key-stays",
        _PLAN,
        "    if leaked:\n",
        "    if False:\n",
        (_ROTATE_TESTS,),
        "a leaked key is withdrawn at once",
    ),
    Mutation(
        "names-not-validated",
        _PLAN,
        '    if found is None or found["version"] is not None:\n',
        "    if found is None:\n",
        (_ROTATE_TESTS,),
        "a secret is not a version",
    ),
    Mutation(
        "weak-secret-stored",
        "scripts/rotate_secret.py",
        "    _check(options.variable, value)\n",
        "",
        (_ROTATE_TESTS,),
        "what no service would start with is not stored",
    ),
    Mutation(
        "one-key-verifies",
        "rules/access_tokens.py",
        "{_header(key): _signer(key) for key in keys}",
        "{_header(key): _signer(key) for key in keys[:1]}",
        (f"{_ROTATION_TESTS}::TestTheSigningKeyAndTheOpsToken",),
        "in between both keys are good",
    ),
    Mutation(
        "client-gives-up-on-a-withdrawn-key",
        "gatehouse_client/client.py",
        'error.code not in ("token_expired", "unauthorized", "drained"):\n',
        'error.code not in ("token_expired", "drained"):\n',
        (f"{_ROTATION_TESTS}::TestALeakedKey",),
        "after a leak nobody has to log in again",
    ),
    Mutation(
        "password-in-the-statement",
        "db/role_passwords.py",
        '    values = {"role": role, "verifier": verifier.decode("ascii")}\n',
        '    values = {"role": role, "verifier": password}\n',
        ("tests/db/test_role_passwords.py",),
        "Postgres's log never sees a password",
    ),
    # The check before a deployment
    Mutation(
        "owner-passes-for-a-service",
        _CHECK,
        '            (role.is_owner and not role.is_superuser, "owns the tables"),\n',
        "",
        (_CHECK_TESTS,),
        "no service runs as the owner",
    ),
    Mutation(
        "swapped-roles-unnoticed",
        _CHECK,
        '            (not role.is_wanted, f"has not the rights of {wanted}"),\n',
        "",
        (_CHECK_TESTS,),
        "each service has its own role",
    ),
    Mutation(
        "clock-not-looked-at",
        _CHECK,
        "    if apart > CLOCK_SECONDS:\n",
        "    if apart > 3600 * CLOCK_SECONDS:\n",
        (_CHECK_TESTS,),
        "clocks that differ are told",
    ),
    Mutation(
        "expiry-not-looked-at",
        _CHECK,
        "    if days < EXPIRY_DAYS:\n",
        "    if days < 0:\n",
        (_CHECK_TESTS,),
        "a certificate is renewed before it expires",
    ),
    Mutation(
        "check-always-passes",
        _CHECK,
        "    if all(good):\n",
        "    if good:\n",
        (_CHECK_TESTS,),
        "the exit code says whether to go on",
    ),
)
