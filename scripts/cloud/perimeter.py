"""What stands in front: an HTTPS load balancer for both services, and Cloud Armor's rules.

The first rule that matches decides, in order of priority: operators' networks, then everything that
is refused, then the rates, whose "allow" ends the evaluation. The rules look at the decoded path,
for that is what the services route by: /%6fps is /ops.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scripts.cloud import names
from scripts.cloud.config import NETWORK_RULES, NETWORKS_PER_RULE, Deployment
from scripts.cloud.names import gcloud
from scripts.cloud.step import Command, Step

ADDRESS = "gatehouse-address"
CERTIFICATE = "gatehouse-certificate"
TLS_POLICY = "gatehouse-tls"
URL_MAP = "gatehouse"
PROXY = "gatehouse-https"
FORWARDING = "gatehouse-https"

_PATH = "request.path.urlDecode()"
OPS = f"{_PATH}.matches('(?i)^/+ops(/|$)')"
AUTH = f"{_PATH}.matches('^/auth(/|$)')"
# Where people write what they like: passwords and messages look like anything.
FREE_TEXT = f"{_PATH}.matches('^/(auth|chat)(/|$)')"
WAF_EVERYWHERE = ("scannerdetection", "protocolattack")
WAF_BUT_FREE_TEXT = ("sqli", "xss", "lfi", "rfi", "rce")
# What announces itself; a real attacker does not, so this only keeps the log readable.
BOTS = r"(?i)(sqlmap|nikto|nuclei|masscan|zgrab|wpscan|dirbuster|gobuster|acunetix|nessus)"
METHODS = "^(GET|HEAD|POST|PATCH|DELETE|OPTIONS)$"


@dataclass(frozen=True, slots=True)
class Rule:
    priority: int
    description: str
    expression: str
    action: str
    flags: Command = ()
    may_preview: bool = False


def rules(deployment: Deployment) -> list[Rule]:
    perimeter = deployment.perimeter
    networks = perimeter.ops_networks
    chunks = [
        networks[start : start + NETWORKS_PER_RULE]
        for start in range(0, len(networks), NETWORKS_PER_RULE)
    ]
    operators = [
        Rule(100 + number, "ops from named networks", _from(chunk), "allow")
        for number, chunk in enumerate(chunks)
    ]
    waf = [
        Rule(
            1000 + number,
            f"waf {name}",
            f"evaluatePreconfiguredWaf('{name}-v33-stable', {{'sensitivity': 1}})",
            "deny-403",
            may_preview=True,
        )
        for number, name in enumerate(WAF_EVERYWHERE)
    ]
    waf += [
        Rule(
            1100 + number,
            f"waf {name}",
            f"!{FREE_TEXT} && evaluatePreconfiguredWaf('{name}-v33-stable', {{'sensitivity': 1}})",
            "deny-403",
            may_preview=True,
        )
        for number, name in enumerate(WAF_BUT_FREE_TEXT)
    ]
    return [
        *operators,
        Rule(200, "ops from anywhere else", OPS, "deny-404"),
        *waf,
        Rule(2000, "tools", f"request.headers['user-agent'].matches('{BOTS}')", "deny-403"),
        Rule(2010, "methods", f"!request.method.matches('{METHODS}')", "deny-403"),
        Rule(
            3000,
            "rate of auth",
            AUTH,
            "rate-based-ban",
            (
                *_rate(perimeter.auth_requests_per_minute),
                # Ten times as much for ten minutes, and the address is out for a while.
                f"--ban-threshold-count={10 * perimeter.auth_requests_per_minute}",
                "--ban-threshold-interval-sec=600",
                f"--ban-duration-sec={perimeter.ban_seconds}",
            ),
        ),
        Rule(3010, "rate of all", "true", "throttle", _rate(perimeter.requests_per_minute)),
    ]


def plan(deployment: Deployment) -> list[Step]:
    return [*_armor(deployment), *_load_balancer(deployment), *_doors(deployment)]


def _from(networks: tuple[str, ...]) -> str:
    inside = " || ".join(f"inIpRange(origin.ip, '{network}')" for network in networks)
    return f"{OPS} && ({inside})"


def _rate(count: int) -> Command:
    return (
        f"--rate-limit-threshold-count={count}",
        "--rate-limit-threshold-interval-sec=60",
        "--enforce-on-key=IP",
        "--conform-action=allow",
        "--exceed-action=deny-429",
    )


def _armor(deployment: Deployment) -> list[Step]:
    policy = f"--security-policy={names.POLICY}"
    command = ("compute", "security-policies", "rules")
    wanted = rules(deployment)
    steps = [
        Step(
            "Cloud Armor's policy",
            gcloud(deployment, "compute", "security-policies", "create", names.POLICY),
            exists=gcloud(deployment, "compute", "security-policies", "describe", names.POLICY),
        ),
        Step(
            "It reads bodies as JSON and watches for floods",
            gcloud(
                deployment,
                *("compute", "security-policies", "update", names.POLICY),
                *("--json-parsing=STANDARD", "--enable-layer7-ddos-defense"),
            ),
        ),
    ]
    for rule in wanted:
        preview = rule.may_preview and deployment.perimeter.waf_preview
        content = (
            policy,
            f"--description={rule.description}",
            f"--expression={rule.expression}",
            f"--action={rule.action}",
            *rule.flags,
            "--preview" if preview else "--no-preview",
        )
        steps.append(
            Step(
                f"Rule {rule.priority}: {rule.description}",
                gcloud(deployment, *command, "create", str(rule.priority), *content),
                exists=gcloud(deployment, *command, "describe", str(rule.priority), policy),
                instead=gcloud(deployment, *command, "update", str(rule.priority), *content),
            )
        )
    # A network that was struck from the list must not stay let in by a rule that nobody updates.
    used = {rule.priority for rule in wanted}
    for priority in range(100, 100 + NETWORK_RULES):
        if priority not in used:
            steps.append(
                Step(
                    f"No rule {priority}: no more networks may reach ops",
                    None,
                    exists=gcloud(deployment, *command, "describe", str(priority), policy),
                    instead=gcloud(deployment, *command, "delete", str(priority), policy),
                )
            )
    return steps


def _load_balancer(deployment: Deployment) -> list[Step]:
    steps = []
    for name in (names.API, names.GATEWAY):
        steps += _backend(deployment, name)
    domain = deployment.project.domain
    compute = "compute"
    steps += [
        Step(
            "The address",
            gcloud(deployment, compute, "addresses", "create", ADDRESS, "--global"),
            exists=gcloud(deployment, compute, "addresses", "describe", ADDRESS, "--global"),
        ),
        Step(
            "The certificate; Google issues it once the domain points to the address",
            gcloud(
                deployment,
                *(compute, "ssl-certificates", "create", CERTIFICATE),
                *(f"--domains={domain}", "--global"),
            ),
            exists=gcloud(
                deployment, compute, "ssl-certificates", "describe", CERTIFICATE, "--global"
            ),
        ),
        Step(
            "TLS 1.2 or newer",
            gcloud(
                deployment,
                *(compute, "ssl-policies", "create", TLS_POLICY, "--global"),
                *("--profile=MODERN", "--min-tls-version=1.2"),
            ),
            exists=gcloud(deployment, compute, "ssl-policies", "describe", TLS_POLICY, "--global"),
        ),
        Step(
            "Which path goes where: /ws to the gateway, all else to the API",
            gcloud(deployment, compute, "url-maps", "import", URL_MAP, "--global"),
            stdin_from=_text(_url_map(deployment)),
        ),
        Step(
            "The end of TLS",
            gcloud(
                deployment,
                *(compute, "target-https-proxies", "create", PROXY, "--global"),
                *(f"--url-map={URL_MAP}", f"--ssl-certificates={CERTIFICATE}"),
                f"--ssl-policy={TLS_POLICY}",
            ),
            exists=gcloud(
                deployment, compute, "target-https-proxies", "describe", PROXY, "--global"
            ),
        ),
        Step(
            "The door, port 443 alone: nothing answers in the clear",
            gcloud(
                deployment,
                *(compute, "forwarding-rules", "create", FORWARDING, "--global"),
                *("--load-balancing-scheme=EXTERNAL_MANAGED", f"--address={ADDRESS}"),
                *(f"--target-https-proxy={PROXY}", "--ports=443"),
            ),
            exists=gcloud(
                deployment, compute, "forwarding-rules", "describe", FORWARDING, "--global"
            ),
        ),
    ]
    return steps


def _backend(deployment: Deployment, name: str) -> list[Step]:
    region = deployment.project.region
    service = ("compute", "backend-services")
    return [
        Step(
            f"{name} as the load balancer sees it",
            gcloud(
                deployment,
                *("compute", "network-endpoint-groups", "create", name, f"--region={region}"),
                *("--network-endpoint-type=serverless", f"--cloud-run-service={name}"),
            ),
            exists=gcloud(
                deployment,
                *("compute", "network-endpoint-groups", "describe", name, f"--region={region}"),
            ),
        ),
        Step(
            f"The backend {name}, every request in the log",
            gcloud(deployment, *service, "import", name, "--global"),
            stdin_from=_text(_backend_service(deployment, name)),
        ),
        Step(
            f"Cloud Armor in front of {name}",
            gcloud(
                deployment,
                *service,
                "update",
                name,
                "--global",
                f"--security-policy={names.POLICY}",
            ),
        ),
    ]


def _backend_service(deployment: Deployment, name: str) -> dict[str, Any]:
    region = f"regions/{deployment.project.region}"
    return {
        "name": name,
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "backends": [{"group": _url(deployment, f"{region}/networkEndpointGroups/{name}")}],
        "logConfig": {"enable": True, "sampleRate": 1.0},
    }


def _url_map(deployment: Deployment) -> dict[str, Any]:
    api = _url(deployment, f"global/backendServices/{names.API}")
    gateway = _url(deployment, f"global/backendServices/{names.GATEWAY}")
    rules = [{"paths": ["/ws"], "service": gateway}]
    return {
        "name": URL_MAP,
        "defaultService": api,
        "hostRules": [{"hosts": [deployment.project.domain], "pathMatcher": "gatehouse"}],
        "pathMatchers": [{"name": "gatehouse", "defaultService": api, "pathRules": rules}],
    }


def _url(deployment: Deployment, path: str) -> str:
    return f"https://www.googleapis.com/compute/v1/projects/{deployment.project.id}/{path}"


def _text(document: dict[str, Any]) -> Command:
    """Prints a description as JSON, which is YAML too; import replaces what is there with it."""
    return ("printf", "%s", json.dumps(document))


def _doors(deployment: Deployment) -> list[Step]:
    """Last: until then the services answer nobody."""
    return [
        Step(
            f"The load balancer may call {name}; ingress keeps everybody else out",
            gcloud(
                deployment,
                *("run", "services", "add-iam-policy-binding", name),
                f"--region={deployment.project.region}",
                *("--member=allUsers", "--role=roles/run.invoker"),
            ),
            remedy="where the organisation forbids allUsers (domain restricted sharing), run"
            f" gcloud run services update {name} --no-invoker-iam-check instead",
        )
        for name in (names.API, names.GATEWAY)
    ]
