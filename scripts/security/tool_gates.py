"""The gates that ask a tool of the trade, and read what it says as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scripts.security.gate import CannotLook, Finding, Report, call, last_line, relative, tool

CODE = ("rules", "db", "api", "wsgateway", "gatehouse_client", "scripts")
# They flag every subprocess there is; none of ours runs through a shell.
IGNORED_RULES = ("S603", "S606", "S607")
# A migration is one transaction of its own, with a lock_timeout, that runs once: whether it exists
# already, and CREATE INDEX CONCURRENTLY, are no questions. Counts and seconds are integers.
IGNORED_OF_MIGRATIONS = (
    "prefer-robust-stmts",
    "require-concurrent-index-creation",
    "require-lock-timeout",
    "require-statement-timeout",
    "prefer-bigint-over-int",
)
_EXCEPTION = re.compile(r"#\s*noqa(?P<codes>: [A-Z0-9, ]*[A-Z0-9])?(?P<reason> - \S)?")
SEVERE = ("--only-fixed", "--fail-on=high")


def dependencies(root: Path) -> Report:
    """Known holes in what is pinned. Strict: what could not be looked up is a failure to look."""
    findings = []
    for lock in ("requirements.txt", "requirements-dev.txt"):
        command = [tool("pip-audit"), "--strict", "--require-hashes", "--disable-pip"]
        command += ["--progress-spinner=off", "--format=json", f"--requirement={lock}"]
        done = call(command, root)
        document = _json(done.stdout)
        if document is None:
            raise CannotLook(f"{lock}: {last_line(done.stderr)}")
        findings += read_audit(document, lock)
        if done.returncode and not findings:
            raise CannotLook(f"{lock}: {last_line(done.stderr)}")
    return Report(tuple(findings))


def read_audit(document: Any, lock: str) -> list[Finding]:
    """pip-audit's JSON: {dependencies: [{name, version, vulns: [{id, fix_versions}]}]}."""
    findings = []
    for package in document["dependencies"]:
        if "skip_reason" in package:
            raise CannotLook(f"{lock}: {package['name']}: {package['skip_reason']}")
        for hole in package["vulns"]:
            fixed = ", ".join(hole["fix_versions"]) or "no version yet"
            text = f"{package['name']} {package['version']}, mended in {fixed}"
            findings.append(Finding("dependencies", hole["id"], lock, 1, text))
    return findings


def code(root: Path) -> Report:
    """The bandit rules, without pyproject.toml's exceptions; those in place must say why."""
    folders = [name for name in CODE if (root / name).exists()]
    command = [tool("ruff"), "check", "--isolated", "--no-cache", "--select=S"]
    command += [f"--ignore={','.join(IGNORED_RULES)}", "--output-format=json", *folders]
    findings = [
        Finding(
            "code",
            entry["code"] or "syntax",
            relative(entry["filename"], root),
            entry["location"]["row"],
            entry["message"],
        )
        for entry in _listed(call(command, root))
    ]
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if _is_unexplained(line):
                    name, text = relative(str(path), root), "an exception without a reason"
                    findings.append(Finding("code", "unexplained", name, number, text))
    return Report(tuple(findings))


def _is_unexplained(line: str) -> bool:
    """Of the bandit rules, or of all rules at once."""
    found = _EXCEPTION.search(line)
    if found is None or found["reason"] is not None:
        return False
    return found["codes"] is None or re.search(r"\bS[0-9]", found["codes"]) is not None


def migrations(root: Path) -> Report:
    """What would lock a table for long or break the code that still runs beside it."""
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("db/sql/migrations/*"))
    excluded = [f"--exclude={','.join(IGNORED_OF_MIGRATIONS)}"]
    done = call([tool("squawk"), *excluded, "--reporter=json", *files], root)
    findings = []
    for entry in _listed(done):
        # A migration that says so may break what is old: older services refuse to start on it.
        if "-- incompatible:" not in (root / entry["file"]).read_text("utf-8"):
            rule, file, line = entry["rule_name"], entry["file"], entry["line"] + 1
            findings.append(Finding("migrations", rule, file, line, entry["message"]))
    return Report(tuple(findings))


def workflows(root: Path) -> Report:
    """Unpinned actions, rights too wide, texts of strangers in scripts."""
    folder = root / ".github" / "workflows"
    command = [tool("zizmor"), "--offline", "--no-progress", "--format=json", "--persona=pedantic"]
    done = call([*command, str(folder)], root)
    findings = []
    for entry in _listed(done):
        place = entry["locations"][0]
        name = str(place["symbolic"]["key"]["Local"]["verbatim_path"])
        line = int(place["concrete"]["location"]["start_point"]["row"]) + 1
        findings.append(
            Finding("workflows", entry["ident"], relative(name, root), line, entry["desc"])
        )
    return Report(tuple(findings))


def workflow_syntax(root: Path) -> Report:
    files = sorted(str(path) for path in (root / ".github" / "workflows").glob("*.yml"))
    done = call([tool("actionlint"), "-format", "{{json .}}", *files], root)
    return Report(
        tuple(
            Finding(
                "workflow-syntax",
                entry["kind"],
                relative(entry["filepath"], root),
                entry["line"],
                entry["message"],
            )
            for entry in _listed(done)
        )
    )


def dockerfile(root: Path) -> Report:
    done = call([tool("hadolint"), "--no-color", "--format=json", "Dockerfile"], root)
    return Report(
        tuple(
            Finding("dockerfile", entry["code"], entry["file"], entry["line"], entry["message"])
            for entry in _listed(done)
        )
    )


def image(root: Path) -> Report:
    """Builds the image and looks up every package in it, the system's too."""
    docker, grype = tool("docker"), tool("grype")
    built = call([docker, "build", "--quiet", "."], root)
    if built.returncode != 0:
        raise CannotLook(f"the image could not be built: {last_line(built.stderr)}")
    done = call([grype, built.stdout.strip(), *SEVERE, "--output=json"], root)
    document = _json(done.stdout)
    if document is None:
        raise CannotLook(f"grype: {last_line(done.stderr)}")
    return Report(tuple(read_grype(document)))


def read_grype(document: Any) -> list[Finding]:
    """Those that are severe and mended somewhere: what nobody has mended, nobody here can mend."""
    return [
        Finding(
            "image",
            match["vulnerability"]["id"],
            "Dockerfile",
            1,
            f"{match['artifact']['name']} {match['artifact']['version']}",
        )
        for match in document["matches"]
        if match["vulnerability"]["severity"] in ("High", "Critical")
        and match["vulnerability"]["fix"]["state"] == "fixed"
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _listed(done: Any) -> list[Any]:
    """A list of findings; anything else means that the tool did not get as far as looking."""
    document = _json(done.stdout)
    if not isinstance(document, list):
        raise CannotLook(f"{Path(done.args[0]).name}: {last_line(done.stderr or done.stdout)}")
    return document
