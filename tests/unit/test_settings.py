"""The configuration: read from one table, refused as a whole, silent about secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from uuid import UUID

import pytest

from rules.fields import DISPLAY_NAME_MAX_CHARS, MAX_ID
from rules.log_entry import Entry
from rules.settings import KNOWN_NAMES, ConfigurationError, Settings, load
from wsgateway.framing import text_frame

LAPTOP = {"APP_ENV": "development", "DB_HOST": "127.0.0.1", "JWT_SECRET": "l" * 32}
PRODUCTION = {
    "DB_HOST": "/cloudsql/project:region:instance",
    "JWT_SECRET_SECRET_REF": "projects/p/secrets/jwt/versions/3",
    "OPS_API_TOKEN_SECRET_REF": "projects/p/secrets/o/versions/1,projects/p/secrets/o/versions/2",
    "DB_PASSWORD_SECRET_REF": "projects/p/secrets/db/versions/7",
    "PUBLIC_WS_URL": "wss://live.example.org/ws",
}
CLOUD_RUN = {**PRODUCTION, "K_SERVICE": "gatehouse-api", "TRUSTED_PROXY_HOPS": "1"}


def problems(environ: Mapping[str, str], service: str = "api") -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, service)
    return caught.value.problems


def production(**changes: str | None) -> dict[str, str]:
    merged = {**PRODUCTION, **changes}
    return {name: value for name, value in merged.items() if value is not None}


class TestWhatIsRead:
    def test_a_laptop_needs_a_database_and_a_key(self) -> None:
        settings = load(LAPTOP, "api")
        assert (settings.database.host, settings.database.port) == ("127.0.0.1", 5432)
        assert settings.production is False
        assert settings.ticket_in_query is True
        assert problems({"APP_ENV": "test"}) == [
            "DB_HOST must be set",
            "JWT_SECRET_SECRET_REF must be set (outside production JWT_SECRET will do)",
        ]

    def test_whoever_says_nothing_runs_in_production(self) -> None:
        settings = load(PRODUCTION, "api")
        assert settings.production is True
        assert settings.ticket_in_query is False
        assert settings.database.sslmode == "require"
        assert settings.auth.scrypt_log2_n == 15

    @pytest.mark.parametrize("service", ["api", "gateway", "migrate"])
    def test_what_is_good_for_cloud_run_is_good_for_every_part(self, service: str) -> None:
        settings = load(CLOUD_RUN, service)
        assert settings.on_cloud_run
        assert settings.secret_sources.ops_api_token_refs == (
            "projects/p/secrets/o/versions/1",
            "projects/p/secrets/o/versions/2",
        )

    def test_a_service_asks_for_its_own_secrets_only(self) -> None:
        ours = production(
            JWT_SECRET_SECRET_REF=None, OPS_API_TOKEN_SECRET_REF=None, PUBLIC_WS_URL=None
        )
        assert load(ours, "gateway").production
        assert load(ours, "migrate").production
        assert len(problems(ours, "api")) == 4

    def test_lists_are_read_without_the_spaces_around_their_items(self) -> None:
        settings = load(
            {
                **LAPTOP,
                "CORS_ALLOWED_ORIGINS": "https://a.example.org , http://localhost:3000,",
                "OPS_ALLOWED_NETWORKS": "192.0.2.0/24, 2001:db8::/32",
                "DRAIN_WARNING_SECONDS": "10, 300,60,10",
            },
            "api",
        )
        assert settings.service.cors_allowed_origins == (
            "https://a.example.org",
            "http://localhost:3000",
        )
        assert settings.auth.ops_allowed_networks == (
            ip_network("192.0.2.0/24"),
            ip_network("2001:db8::/32"),
        )
        assert settings.drain.warning_seconds == (300, 60, 10)

    @pytest.mark.parametrize(
        "origin",
        [
            "https://app.example.org",
            "http://[::1]:5173",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost:1420",
            "app://my_app",
            "chrome-extension://abcdefghijklmnop",
            "x-app+v1.2://name",
        ],
    )
    def test_an_origin_may_be_an_apps(self, origin: str) -> None:
        for name in ("CORS_ALLOWED_ORIGINS", "WS_ALLOWED_ORIGINS"):
            assert load({**LAPTOP, name: origin}, "gateway").socket_origins == (origin,)

    @pytest.mark.parametrize(
        ("socket", "expected"),
        [(None, "https://a.example.org"), ("https://b.example.org", "https://b.example.org")],
    )
    def test_the_sockets_origins_are_those_of_cors_unless_they_are_given(
        self, socket: str | None, expected: str
    ) -> None:
        environ = {**LAPTOP, "CORS_ALLOWED_ORIGINS": "https://a.example.org"}
        if socket is not None:
            environ["WS_ALLOWED_ORIGINS"] = socket
        assert load(environ, "gateway").socket_origins == (expected,)

    def test_empty_origins_of_the_socket_are_none_at_all(self) -> None:
        environ = {**LAPTOP, "CORS_ALLOWED_ORIGINS": "https://a.example.org"}
        assert load({**environ, "WS_ALLOWED_ORIGINS": ""}, "gateway").socket_origins == ()
        assert load({**LAPTOP, "CORS_ALLOWED_ORIGINS": ""}, "gateway").socket_origins == ()

    @pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False)])
    def test_a_ticket_in_the_query_may_be_switched_on_and_off_anywhere(
        self, value: str, expected: bool
    ) -> None:
        for environ in (LAPTOP, PRODUCTION):
            settings = load({**environ, "WS_ALLOW_TICKET_IN_QUERY": value}, "gateway")
            assert settings.ticket_in_query is expected


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("APP_ENV", "prod"),
            ("PORT", "0"),
            ("PORT", "65536"),
            ("PORT", ""),
            ("API_THREADS", "many"),
            ("API_THREADS", "-1"),
            ("API_THREADS", " 16"),
            ("API_THREADS", "1e3"),
            ("API_THREADS", "\u0661\u0662"),
            ("API_THREADS", "9" * 5000),
            ("MAX_REQUEST_BODY_BYTES", "64k"),
            ("CORS_ALLOWED_ORIGINS", "*"),
            ("CORS_ALLOWED_ORIGINS", "https://a.example.org/"),
            ("CORS_ALLOWED_ORIGINS", "https://A.example.org"),
            ("CORS_ALLOWED_ORIGINS", "null"),
            ("CORS_ALLOWED_ORIGINS", "https://*"),
            ("CORS_ALLOWED_ORIGINS", "https://*.example.org"),
            ("CORS_ALLOWED_ORIGINS", "*://app.example.org"),
            ("CORS_ALLOWED_ORIGINS", "capacitor://localhost/"),
            ("CORS_ALLOWED_ORIGINS", "Capacitor://localhost"),
            ("CORS_ALLOWED_ORIGINS", "capacitor://"),
            ("CORS_ALLOWED_ORIGINS", "capacitor:localhost"),
            ("CORS_ALLOWED_ORIGINS", "1app://localhost"),
            ("CORS_ALLOWED_ORIGINS", "file://"),
            ("CORS_ALLOWED_ORIGINS", "https://me@app.example.org"),
            ("CORS_ALLOWED_ORIGINS", "https://app.example.org:\u0661"),
            ("WS_ALLOWED_ORIGINS", "a.example.org"),
            ("WS_ALLOW_TICKET_IN_QUERY", "yes"),
            ("PUBLIC_WS_URL", "https://live.example.org/ws"),
            ("PUBLIC_WS_URL", "wss://live.example.org/ws?ticket=1"),
            ("OPS_ALLOWED_NETWORKS", "192.0.2.1/24"),
            ("OPS_ALLOWED_NETWORKS", "the office"),
            ("DB_SSLMODE", "on"),
            ("DB_CONNECT_TIMEOUT", "1"),
            ("WS_SEND_BUFFER_BYTES", "4095"),
            ("WS_UNVERIFIED_MAX_SECONDS", "2"),
            ("WS_SHUTDOWN_SPREAD_SECONDS", "6"),
            ("DRAIN_WARNING_SECONDS", "300,soon"),
            ("JWT_SECRET_SECRET_REF", "projects/p/secrets/jwt"),
            ("JWT_SECRET_SECRET_REF", "projects/p/secrets/jwt/versions/0x1"),
            ("JWT_SECRET", ""),
            ("JWT_SECRET", "\udcff" * 40),  # how Python shows what is not UTF-8
            ("DB_PASSWORD", ""),
        ],
    )
    def test_a_value_that_cannot_be_meant_is_named_by_its_variable(
        self, name: str, value: str
    ) -> None:
        [problem] = problems({**LAPTOP, name: value})
        assert problem.startswith(f"{name} must ")

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            (
                {"CHAT_MESSAGE_MAX_CHARS": "4000"},
                "WS_MAX_FRAME_BYTES must be at least 12 x CHAT_MESSAGE_MAX_CHARS + 1024 = 49024,"
                " to hold the longest message escaped",
            ),
            (
                {"WS_SEND_BUFFER_BYTES": "12511"},
                "WS_SEND_BUFFER_BYTES must be at least 6 x CHAT_MESSAGE_MAX_CHARS + 512 = 12512,"
                " to hold the longest message as it is delivered",
            ),
            (
                {"AUTH_RATE_LIMIT_LOCKOUT_SECONDS": "7200"},
                "AUTH_RATE_LIMIT_LOCKOUT_MAX_SECONDS must not be below"
                " AUTH_RATE_LIMIT_LOCKOUT_SECONDS",
            ),
            (
                {"CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS": "601"},
                "CHAT_WRITE_RATE_LIMIT_LOCKOUT_MAX_SECONDS must not be below"
                " CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS",
            ),
            (
                {"DB_SSLMODE": "verify-full"},
                "DB_SSLROOTCERT must name the file with the authority's certificate, by which"
                " DB_SSLMODE=verify-full verifies the server",
            ),
        ],
    )
    def test_two_values_that_contradict_each_other_are_named_together(
        self, changes: dict[str, str], problem: str
    ) -> None:
        assert problems({**LAPTOP, **changes}) == [problem]

    def test_a_frame_that_just_holds_the_longest_message_is_enough(self) -> None:
        enough = {"CHAT_MESSAGE_MAX_CHARS": "4000", "WS_MAX_FRAME_BYTES": "49024"}
        assert load({**LAPTOP, **enough}, "gateway").socket.max_frame_bytes == 49024
        assert len(problems({**LAPTOP, **enough, "WS_MAX_FRAME_BYTES": "49023"})) == 1

    def test_a_buffer_that_just_holds_the_longest_message_is_enough(self) -> None:
        settings = load({**LAPTOP, "WS_SEND_BUFFER_BYTES": "12512"}, "gateway")
        longest = Entry(
            channel_id=MAX_ID,
            seq=MAX_ID,
            kind="message",
            sender_id=MAX_ID,
            sender_name="\N{GRINNING FACE}" * DISPLAY_NAME_MAX_CHARS,
            content="\x01" * settings.chat.message_max_chars,
            client_msg_id=UUID(int=2**128 - 1),
            target_seq=None,
            created_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        )
        assert len(text_frame(longest.as_object())) <= settings.socket.send_buffer_bytes

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("WS_UNVERIFIED_MAX_SECONDS", "3"),
            ("MAX_REQUEST_BODY_BYTES", "1"),
            ("WS_TICKET_TTL_SECONDS", "3600"),
            ("DRAIN_WARNING_SECONDS", ""),
        ],
    )
    def test_what_works_is_let_be(self, name: str, value: str) -> None:
        load({**LAPTOP, name: value}, "gateway")

    def test_small_messages_need_a_small_buffer(self) -> None:
        small = {"CHAT_MESSAGE_MAX_CHARS": "500", "WS_SEND_BUFFER_BYTES": "4096"}
        assert load({**LAPTOP, **small}, "gateway").socket.send_buffer_bytes == 4096

    def test_every_problem_of_a_start_is_told_at_once(self) -> None:
        told = problems(
            {
                "PORT": "zero",
                "JWT_SECRET": "in plain text",
                "DB_PASSWORD_SECRET_REF": "projects/p/secrets/db/versions/7",
                "DB_SSLMODE": "disable",
                "CHAT_WRITE_RATE_LIMT_MAX_PER_IP": "1",
                "WS_PROCESSES": "0",
                "PUBLIC_WS_URL": "live.example.org",
            }
        )
        assert [problem.split()[0] for problem in told] == [
            "CHAT_WRITE_RATE_LIMT_MAX_PER_IP",
            "PORT",
            "WS_PROCESSES",
            "PUBLIC_WS_URL",
            "DB_HOST",
            "JWT_SECRET",
            "OPS_API_TOKEN_SECRET_REF",
            "DB_SSLMODE",
        ]

    def test_weak_secrets_are_told_together_with_everything_else(self) -> None:
        told = problems({"APP_ENV": "test", "JWT_SECRET": "weak", "OPS_API_TOKEN": ":", "PORT": ""})
        assert [problem.split()[0].rstrip(":") for problem in told] == [
            "PORT",
            "DB_HOST",
            "JWT_SECRET",
            "OPS_API_TOKEN",
        ]

    @pytest.mark.parametrize("service", ["gateway", "migrate"])
    def test_what_a_service_does_not_use_need_not_be_good(self, service: str) -> None:
        settings = load({**LAPTOP, "JWT_SECRET": "weak"}, service)
        assert settings.secret_sources.jwt_secret == "weak"

    def test_a_reference_wins_over_what_stands_beside_it(self) -> None:
        reference = {"JWT_SECRET_SECRET_REF": "projects/p/secrets/jwt/versions/3"}
        settings = load({**LAPTOP, "JWT_SECRET": "weak", **reference}, "api")
        assert settings.secret_sources.jwt_secret_refs

    def test_nothing_is_concluded_from_a_value_that_could_not_be_read(self) -> None:
        assert problems({**LAPTOP, "APP_ENV": "prod"}) == [
            "APP_ENV must be one of production, development, test"
        ]
        [problem] = problems(
            {**LAPTOP, "CHAT_MESSAGE_MAX_CHARS": "4000", "WS_MAX_FRAME_BYTES": "64k"}
        )
        assert problem.startswith("WS_MAX_FRAME_BYTES must be a whole number")


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACOUNT", "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT"),
            ("CHAT_MAX_MESSAGE_CHARS", "CHAT_MESSAGE_MAX_CHARS"),
            ("DB_PASSWORD_SECRET", "DB_PASSWORD_SECRET_REF"),
            ("JWT_SECRETS", "JWT_SECRET"),
            ("OPS_API_TOKENS", "OPS_API_TOKEN"),
            ("WS_MAX_CONNECTION", "WS_MAX_CONNECTIONS"),
            ("DRAIN_GRACE_SECOND", "DRAIN_GRACE_SECONDS"),
        ],
    )
    def test_a_mistyped_name_is_told_with_the_nearest_known_one(
        self, name: str, nearest: str
    ) -> None:
        assert problems({**LAPTOP, name: "5"}) == [
            f"{name} is not a known variable; the nearest is {nearest}"
        ]

    def test_a_name_that_resembles_nothing_is_refused_all_the_same(self) -> None:
        assert problems({**LAPTOP, "DB_": ""})[0].startswith("DB_ is not a known variable")

    def test_what_kubernetes_injects_is_passed_over(self) -> None:
        injected = {
            "DB_SERVICE_HOST": "10.0.0.1",
            "DB_SERVICE_PORT": "5432",
            "DB_SERVICE_PORT_POSTGRES": "5432",
            "DB_PORT_5432_TCP": "tcp://10.0.0.1:5432",
            "DB_PORT_5432_TCP_ADDR": "10.0.0.1",
            "CHAT_FRONTEND_SERVICE_HOST": "10.0.0.2",
        }
        assert load({**LAPTOP, **injected}, "api") == load(LAPTOP, "api")

    def test_names_of_others_are_nobodys_business(self) -> None:
        others = {"PATH": "/bin", "DATABASE_URL": "x", "AUTHOR": "x", "CHATTY": "1", "HOSTNAME": ""}
        assert load({**LAPTOP, **others}, "api") == load(LAPTOP, "api")


class TestProduction:
    @pytest.mark.parametrize("name", ["JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"])
    def test_a_secret_in_plain_text_is_refused_even_beside_a_reference(self, name: str) -> None:
        told = f"{name} must not be given in plain text in production: use {name}_SECRET_REF"
        for service in ("api", "gateway", "migrate"):
            assert problems(production(**{name: "x" * 40}), service) == [told]

    @pytest.mark.parametrize("name", ["JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"])
    def test_a_secret_must_be_referenced_with_a_version_number(self, name: str) -> None:
        reference = f"{name}_SECRET_REF"
        missing = problems(production(**{reference: None}))
        assert f"{reference} must be set in production" in missing
        both = "projects/p/secrets/s/versions/1,projects/p/secrets/s/versions/latest"
        [latest] = problems(production(**{reference: both}))
        assert latest.startswith(f"{reference} must name a version number in production")

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
    def test_the_way_to_the_database_is_encrypted(self, mode: str) -> None:
        [problem] = problems(production(DB_SSLMODE=mode))
        assert problem == "DB_SSLMODE must be require, verify-ca or verify-full in production"

    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    def test_stricter_modes_are_welcome(self, mode: str) -> None:
        settings = load(production(DB_SSLMODE=mode, DB_SSLROOTCERT="/etc/ca.pem"), "api")
        assert (settings.database.sslmode, settings.database.sslrootcert) == (mode, "/etc/ca.pem")

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"AUTH_SCRYPT_LOG2_N": "14"}, "AUTH_SCRYPT_LOG2_N must not be below 15 in production"),
            (
                {"SECRET_MANAGER_EMULATOR_HOST": "127.0.0.1:9000"},
                "SECRET_MANAGER_EMULATOR_HOST must not be set in production",
            ),
            (
                {"K_SERVICE": "gatehouse-api"},
                "TRUSTED_PROXY_HOPS must be 1 or more on Cloud Run:"
                " with 0 all clients would share one address",
            ),
            ({"PUBLIC_WS_URL": None}, "PUBLIC_WS_URL must be set in production"),
            (
                {"PUBLIC_WS_URL": "ws://live.example.org/ws"},
                "PUBLIC_WS_URL must begin with wss:// in production: a ticket must not travel in"
                " the clear",
            ),
        ],
    )
    def test_what_is_only_safe_on_a_laptop_is_refused(
        self, changes: dict[str, str | None], problem: str
    ) -> None:
        assert problems(production(**changes)) == [problem]

    @pytest.mark.parametrize("app_env", ["development", "test"])
    def test_all_of_it_is_allowed_elsewhere(self, app_env: str) -> None:
        lax = {
            **LAPTOP,
            "APP_ENV": app_env,
            "DB_SSLMODE": "disable",
            "DB_PASSWORD": "x",
            "AUTH_SCRYPT_LOG2_N": "4",
            "SECRET_MANAGER_EMULATOR_HOST": "127.0.0.1:9000",
            "OPS_API_TOKEN_SECRET_REF": "projects/p/secrets/o/versions/latest",
            "K_SERVICE": "gatehouse-api",
        }
        assert load(lax, "api").production is False


class TestSecretsStaySecret:
    SECRET = "correct-horse-battery-staple-correct"

    def environ(self) -> dict[str, str]:
        return {
            name: self.SECRET
            for name in KNOWN_NAMES
            if name.startswith(("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"))
        }

    def test_no_message_holds_a_value(self) -> None:
        for app_env in ("production", "development", self.SECRET):
            told = problems({**self.environ(), "APP_ENV": app_env})
            assert told
            assert self.SECRET not in "\n".join(told)

    def test_no_value_of_any_variable_is_said_back(self) -> None:
        # Whoever swaps two variables puts a secret where nobody expects one.
        swapped = {name: self.SECRET for name in KNOWN_NAMES if name not in ("HOST", "DB_HOST")}
        assert self.SECRET not in "\n".join(problems(swapped))

    def test_settings_can_be_printed(self) -> None:
        settings: Settings = load(
            {**LAPTOP, "JWT_SECRET": self.SECRET, "DB_PASSWORD": self.SECRET}, "api"
        )
        assert settings.secret_sources.jwt_secret == self.SECRET
        assert self.SECRET not in repr(settings)
        assert self.SECRET not in f"{settings.secret_sources}"
