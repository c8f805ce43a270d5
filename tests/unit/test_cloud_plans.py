"""What the plans say: who gets which role, what is open to whom, and what is never on a line."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from scripts.cloud import deploy, perimeter, provision
from scripts.cloud.runner import lint
from scripts.cloud.step import Command, Step, as_script
from tests.unit.test_cloud_config import deployment

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def every_step(more: str = "") -> list[Step]:
    wanted = deployment(more)
    return [
        *provision.plan(wanted),
        *deploy.plan(wanted, COMMIT),
        *perimeter.plan(wanted),
    ]


def find(steps: list[Step], *words: str) -> Command:
    """The one command of the plan that begins `gcloud words`."""
    [found] = [
        step.command for step in steps if step.command and step.command[1 : 1 + len(words)] == words
    ]
    return found


def bindings(steps: list[Step]) -> set[tuple[str, str, str]]:
    """(where, account, role) of everything that is granted."""
    found = set()
    for step in steps:
        for command in step.commands:
            if "add-iam-policy-binding" in command:
                position = command.index("add-iam-policy-binding")
                [who] = [word for word in command if word.startswith("--member=")]
                [role] = [word for word in command if word.startswith("--role=")]
                account = re.sub(r"--member=(serviceAccount:)?|@.*", "", who)
                where = " ".join(command[1:position]) + " " + command[position + 1].split("@")[0]
                found.add((where, account, role.removeprefix("--role=")))
    return found


class TestRights:
    def test_each_account_has_its_roles_and_no_other(self) -> None:
        """The whole list: a role too many fails here, and has to be argued for."""
        project, secret = "projects my-project-123", "secrets gatehouse-"
        images, bucket = "artifacts repositories gatehouse", "storage buckets gs://my-project-123"
        reads, runs_as = "roles/secretmanager.secretAccessor", "roles/iam.serviceAccountUser"
        run_as = "iam service-accounts gatehouse-"
        assert bindings(every_step()) == {
            (project, "gatehouse-api", "roles/cloudsql.client"),
            (project, "gatehouse-gateway", "roles/cloudsql.client"),
            (project, "gatehouse-migrate", "roles/cloudsql.client"),
            (project, "gatehouse-build", "roles/logging.logWriter"),
            (project, "gatehouse-deploy", "roles/run.developer"),
            (project, "gatehouse-deploy", "roles/cloudbuild.builds.editor"),
            (f"{secret}jwt-secret", "gatehouse-api", reads),
            (f"{secret}ops-api-token", "gatehouse-api", reads),
            (f"{secret}db-password-api", "gatehouse-api", reads),
            (f"{secret}db-password-api", "gatehouse-migrate", reads),
            (f"{secret}db-password-gateway", "gatehouse-gateway", reads),
            (f"{secret}db-password-gateway", "gatehouse-migrate", reads),
            (f"{secret}db-password-owner", "gatehouse-migrate", reads),
            (f"{run_as}api", "gatehouse-deploy", runs_as),
            (f"{run_as}gateway", "gatehouse-deploy", runs_as),
            (f"{run_as}migrate", "gatehouse-deploy", runs_as),
            (f"{run_as}build", "gatehouse-deploy", runs_as),
            (images, "gatehouse-build", "roles/artifactregistry.writer"),
            (images, "gatehouse-deploy", "roles/artifactregistry.reader"),
            (f"{bucket}-gatehouse-build", "gatehouse-build", "roles/storage.objectViewer"),
            (f"{bucket}-gatehouse-build", "gatehouse-deploy", "roles/storage.objectAdmin"),
            (f"{bucket}-gatehouse-build", "gatehouse-deploy", "roles/storage.legacyBucketReader"),
            ("run services gatehouse-api", "allUsers", "roles/run.invoker"),
            ("run services gatehouse-gateway", "allUsers", "roles/run.invoker"),
        }

    def test_the_services_roles_are_never_made_by_cloud_sql(self) -> None:
        """It would make them members of cloudsqlsuperuser; the migration makes them."""
        made = [
            command[4]
            for step in every_step()
            for command in step.commands
            if command[1:4] == ("sql", "users", "create")
        ]
        assert made == ["gatehouse"]

    def test_each_process_runs_as_its_own_account_and_its_own_role(self) -> None:
        steps = deploy.plan(deployment(), COMMIT)
        for words, account, role in (
            (("run", "deploy", "gatehouse-api"), "gatehouse-api", "gatehouse_api"),
            (("run", "deploy", "gatehouse-gateway"), "gatehouse-gateway", "gatehouse_gateway"),
            (("run", "jobs", "deploy", "gatehouse-migrate"), "gatehouse-migrate", "gatehouse"),
            (("run", "jobs", "deploy", "gatehouse-passwords"), "gatehouse-migrate", "gatehouse"),
        ):
            command = find(steps, *words)
            flag = f"--service-account={account}@my-project-123.iam.gserviceaccount.com"
            assert flag in command
            assert f";DB_USER={role};" in " ".join(command)


class TestServices:
    @pytest.mark.parametrize("name", ["gatehouse-api", "gatehouse-gateway"])
    def test_nothing_but_the_load_balancer_reaches_a_service(self, name: str) -> None:
        command = find(deploy.plan(deployment(), COMMIT), "run", "deploy", name)
        ingress = [word for word in command if word.startswith("--ingress")]
        assert ingress == ["--ingress=internal-and-cloud-load-balancing"]
        assert ";TRUSTED_PROXY_HOPS=2" in " ".join(command)
        assert not any("allow-unauthenticated" in word for word in command)

    def test_the_gateway_keeps_its_sockets_and_its_processor(self) -> None:
        command = find(deploy.plan(deployment(), COMMIT), "run", "deploy", "gatehouse-gateway")
        for flag in ("--timeout=3600", "--no-cpu-throttling", "--session-affinity"):
            assert flag in command
        assert "--concurrency=1000" in command

    @pytest.mark.parametrize("name", ["gatehouse-api", "gatehouse-gateway"])
    def test_a_start_waits_for_the_database_and_a_life_does_not_hang_on_it(self, name: str) -> None:
        command = find(deploy.plan(deployment(), COMMIT), "run", "deploy", name)
        [startup] = [word for word in command if word.startswith("--startup-probe=")]
        [liveness] = [word for word in command if word.startswith("--liveness-probe=")]
        assert "httpGet.path=/health/ready," in startup
        assert "httpGet.path=/health/live," in liveness

    def test_migrations_have_run_before_the_new_code_takes_traffic(self) -> None:
        order = [
            " ".join(step.command[1:4])
            for step in deploy.plan(deployment(), COMMIT)
            if step.command
        ]
        assert order == [
            "builds submit .",
            "run jobs deploy",
            "run jobs execute",
            "run jobs deploy",
            "run jobs execute",
            "run deploy gatehouse-api",
            "run deploy gatehouse-gateway",
            "run services update-traffic",
            "run services update-traffic",
        ]
        for step in deploy.plan(deployment(), COMMIT):
            if step.command and step.command[1:4] == ("run", "jobs", "execute"):
                assert "--wait" in step.command

    def test_all_run_the_one_image_of_the_commit(self) -> None:
        image = f"europe-west1-docker.pkg.dev/my-project-123/gatehouse/gatehouse:{COMMIT}"
        steps = deploy.plan(deployment(), COMMIT)
        images = [
            word.removeprefix("--image=")
            for step in steps
            for word in step.command or ()
            if word.startswith("--image=")
        ]
        assert images == [image] * 4
        assert f"--substitutions=_IMAGE={image}" in find(steps, "builds", "submit")


class TestSecrets:
    def test_no_command_line_holds_one(self) -> None:
        for step in every_step():
            for command in step.commands:
                for word in command:
                    assert not re.match(r"--(root-)?password", word), word
                    assert not word.startswith(("--set-secrets", "--update-secrets")), word
                    for name in ("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"):
                        assert f"{name}=" not in word, word

    def test_services_read_references_by_number(self) -> None:
        more = "[secrets]\njwt_secret = [3, 2]"
        api = " ".join(find(every_step(more), "run", "deploy", "gatehouse-api"))
        parent = "projects/my-project-123/secrets/gatehouse-jwt-secret/versions"
        assert f";JWT_SECRET_SECRET_REF={parent}/3,{parent}/2;" in api
        assert "latest" not in api

    def test_the_roles_get_the_password_that_stands_first(self) -> None:
        more = "[secrets]\ndb_password_gateway = [5, 4]"
        job = " ".join(find(every_step(more), "run", "jobs", "deploy", "gatehouse-passwords"))
        parent = "projects/my-project-123/secrets/gatehouse-db-password-gateway/versions"
        assert f";GATEWAY_PASSWORD_SECRET_REF={parent}/5;" in job.replace(" --", "; --")
        assert f"{parent}/4" not in job


class TestPerimeter:
    def test_ops_are_closed_to_all_when_no_network_is_named(self) -> None:
        rules = perimeter.rules(deployment())
        first = min(rules, key=lambda rule: rule.priority)
        assert (first.expression, first.action) == (perimeter.OPS, "deny-404")

    def test_only_named_networks_reach_ops_four_a_rule(self) -> None:
        networks = [f"198.51.100.{number}" for number in range(6)]
        rules = perimeter.rules(deployment(f"[perimeter]\nops_networks = {networks}"))
        allowing = [rule for rule in rules if rule.action == "allow"]
        closing = next(rule for rule in rules if rule.action == "deny-404")
        named = re.findall(r"inIpRange\(origin\.ip, '([^']*)'\)", str(allowing))
        assert named == [f"{network}/32" for network in networks]
        for rule in allowing:
            assert rule.priority < closing.priority
            assert rule.expression.startswith(f"{perimeter.OPS} && (")
            assert rule.expression.count("inIpRange") <= 4

    def test_a_network_that_was_struck_loses_its_rule(self) -> None:
        def taken_away(more: str) -> list[str]:
            return [
                step.instead[5]
                for step in perimeter.plan(deployment(more))
                if step.command is None and step.instead is not None
            ]

        assert taken_away("") == ["100", "101", "102", "103", "104"]
        five = [f"198.51.100.{number}" for number in range(5)]
        assert taken_away(f"[perimeter]\nops_networks = {five}") == ["102", "103", "104"]

    @pytest.mark.parametrize(
        ("path", "closed"),
        [
            ("/ops", True),
            ("/ops/release/activate", True),
            ("//ops/x", True),
            ("/OPS/x", True),
            ("/opsx", False),
            ("/auth/ops", False),
        ],
    )
    def test_the_path_of_ops_in_any_spelling(self, path: str, closed: bool) -> None:
        [pattern] = re.findall(r"matches\('(.*)'\)", perimeter.OPS)
        assert bool(re.search(pattern, path)) is closed

    def test_what_is_refused_comes_before_the_rates_whose_allow_ends_it(self) -> None:
        rules = sorted(perimeter.rules(deployment()), key=lambda rule: rule.priority)
        actions = [rule.action for rule in rules]
        assert actions == ["deny-404", *["deny-403"] * 9, "rate-based-ban", "throttle"]
        assert len({rule.priority for rule in rules}) == len(rules)

    def test_rules_about_contents_leave_alone_what_people_write(self) -> None:
        for rule in perimeter.rules(deployment()):
            if re.search("sqli|xss|lfi|rfi|rce", rule.description):
                assert rule.expression.startswith(f"!{perimeter.FREE_TEXT} && ")

    def test_only_the_preconfigured_rules_can_be_on_trial(self) -> None:
        steps = perimeter.plan(deployment("[perimeter]\nwaf_preview = true"))
        for step in steps:
            for command in (step.command, step.instead):
                if command and command[1:4] == ("compute", "security-policies", "rules"):
                    waf = any(word.startswith("--description=waf") for word in command)
                    if command[4] != "delete":
                        assert ("--preview" in command) is waf

    def test_nothing_answers_in_the_clear(self) -> None:
        steps = perimeter.plan(deployment())
        door = find(steps, "compute", "forwarding-rules", "create")
        assert "--ports=443" in door
        assert "--min-tls-version=1.2" in find(steps, "compute", "ssl-policies", "create")
        assert not any(
            "target-http-proxies" in word for step in steps for c in step.commands for word in c
        )

    def test_both_services_stand_behind_the_same_rules(self) -> None:
        guarded = [
            command[4]
            for step in perimeter.plan(deployment())
            for command in step.commands
            if "--security-policy=gatehouse-perimeter" in command
            and command[1:4] == ("compute", "backend-services", "update")
        ]
        assert guarded == ["gatehouse-api", "gatehouse-gateway"]


def test_what_a_dry_run_prints_is_a_script_that_bash_can_read() -> None:
    done = subprocess.run(
        ["bash", "-n"], input=as_script(every_step()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_gcloud_itself_finds_nothing_wrong_where_it_is_installed() -> None:
    """Those with the most flags, for its linter is slow; scripts/deploy --lint takes them all."""
    if shutil.which("gcloud") is None:
        return  # the commands were checked where it is
    steps = every_step("[perimeter]\nops_networks = ['198.51.100.0/24']")
    commands = [command for step in steps for command in step.commands]
    chosen = [c for c in commands if c[1:3] in (("run", "deploy"), ("run", "jobs"))]
    chosen += [c for c in commands if c[1:4] == ("sql", "instances", "create")]
    chosen += [c for c in commands if c[3:5] == ("rules", "create") and c[5] in ("100", "3000")]
    assert len(chosen) == 9
    assert lint(Step("", command) for command in chosen) == []
    broken = Step("broken", ("gcloud", "run", "deploy", "x", "--ingres=all"))
    [problem] = lint([broken])
    assert "--ingres" in problem
