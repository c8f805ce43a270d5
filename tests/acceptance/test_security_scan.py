"""scripts/security-scan: a gate turns red before a hole, and says so when it is blind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scripts.security import tool_gates
from scripts.security.__main__ import FINDINGS, GATES, INCOMPLETE, PASSED, main
from scripts.security.bill import WRITTEN
from scripts.security.gate import CannotLook, Gate, Report
from tests.support.cluster import clean_environment

ROOT = Path(__file__).resolve().parents[2]
# Gates that need neither the internet nor a program that pip does not bring.
LOCAL = ["code", "secrets", "migrations", "workflows", "dockerfile", "bill"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The parts of the project that the gates look at, small enough to look at often."""
    names = ["rules", "db", ".github", "Dockerfile", "requirements.txt", "security-accepted.toml"]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def scan(tree: Path, capsys: pytest.CaptureFixture[str], *gates: str) -> tuple[int, str]:
    code = main(list(gates), tree)
    return code, capsys.readouterr().out


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text("utf-8") + text, "utf-8")


def test_this_tree_passes_every_gate_that_can_look_here() -> None:
    # A copy of the tree, as scripts/sabotage makes them, is no repository.
    gates = [gate for gate in LOCAL if gate != "secrets" or (ROOT / ".git").exists()]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.security", *gates],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (PASSED, ""), done.stdout
    assert done.stdout.endswith("== passed\n")


class TestHoles:
    @pytest.mark.parametrize(
        ("planted", "rule"),
        [
            ("def f(text: str) -> object:\n    return eval(text)\n", "S307"),
            (
                "def f(n: str) -> str:\n    return f\"SELECT * FROM users WHERE n = '{n}'\"\n",
                "S608",
            ),
            ("import subprocess\nsubprocess.run('ls', shell=True)\n", "S602"),
            ("import hashlib\nhashlib.md5(b'x')\n", "S324"),
            ("x = eval('1')  # noqa: S307\n", "unexplained"),
            ("x = eval('1')  # noqa\n", "unexplained"),
        ],
    )
    def test_in_the_code(
        self, tree: Path, capsys: pytest.CaptureFixture[str], planted: str, rule: str
    ) -> None:
        (tree / "rules" / "planted.py").write_text(planted)
        code, said = scan(tree, capsys, "code")
        assert code == FINDINGS
        assert f": {rule}: " in said
        assert "rules/planted.py:" in said

    def test_in_a_migration(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tree / "db" / "sql" / "migrations" / "0999_planted.sql"
        file.write_text("ALTER TABLE users DROP COLUMN email;\n")
        code, said = scan(tree, capsys, "migrations")
        assert code == FINDINGS
        assert "db/sql/migrations/0999_planted.sql:1: ban-drop-column" in said
        append(file, "-- incompatible: nobody needs it\n")
        assert scan(tree, capsys, "migrations")[0] == PASSED

    @pytest.mark.parametrize(
        ("old", "new", "rule"),
        [
            (
                "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd",
                "actions/checkout@v6",
                "unpinned-uses",
            ),
            ("permissions: {}", "permissions: write-all", "excessive-permissions"),
            (
                "run: .ci/run",
                "run: echo ${{ github.event.pull_request.title }}",
                "template-injection",
            ),
        ],
    )
    def test_in_a_workflow(
        self, tree: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, rule: str
    ) -> None:
        file = tree / ".github" / "workflows" / "ci.yml"
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")
        code, said = scan(tree, capsys, "workflows")
        assert code == FINDINGS
        assert ".github/workflows/ci.yml:" in said
        assert f": {rule}: " in said

    def test_in_the_dockerfile(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        append(tree / "Dockerfile", "USER root\nADD https://example.org/x /x\n")
        code, said = scan(tree, capsys, "dockerfile")
        assert code == FINDINGS
        assert ": DL3002: " in said

    def test_in_the_files(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tree / "deploy.env").write_text("OPS_API_TOKEN=" + "q7Jt0Zr5mW2xVb9nLc4dKs8fHg1pYe6u")
        code, said = scan(tree, capsys, "secrets")
        assert code == FINDINGS
        assert "deploy.env:1: random-looking" in said
        assert "q7Jt0Zr5" not in said

    def test_in_the_lock(self, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
        append(tree / "requirements.txt", "left-out==1.0\n")
        code, said = scan(tree, capsys, "bill")
        assert code == FINDINGS
        assert ": unpinned: " in said

    def test_in_a_package_or_else_the_gate_says_that_it_is_blind(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With the internet the planted version is found; without it, nothing may pass."""
        pin = "jinja2==2.4.1 --hash=sha256:" + "0" * 64 + "\n"
        for lock in ("requirements.txt", "requirements-dev.txt"):
            (tree / lock).write_text(pin)
        code, said = scan(tree, capsys, "dependencies")
        if code == FINDINGS:
            assert "requirements.txt:1: " in said
            assert "jinja2 2.4.1" in said
        else:
            assert code == INCOMPLETE
            assert "dependencies      NOT RUN: requirements.txt: " in said
            assert "== incomplete: dependencies could not look" in said


class TestAnswersOfTools:
    """What cannot be had without the internet, as the tools write it."""

    def test_a_known_hole(self) -> None:
        hole = {"id": "PYSEC-2014-8", "fix_versions": ["2.7.2"], "aliases": [], "description": ""}
        document = {
            "dependencies": [
                {"name": "falcon", "version": "4.4.0", "vulns": []},
                {"name": "jinja2", "version": "2.4.1", "vulns": [hole]},
            ],
            "fixes": [],
        }
        [finding] = tool_gates.read_audit(document, "requirements.txt")
        assert str(finding) == "requirements.txt:1: PYSEC-2014-8: jinja2 2.4.1, mended in 2.7.2"

    def test_a_package_that_was_skipped_was_not_looked_at(self) -> None:
        document = {"dependencies": [{"name": "x", "skip_reason": "not found"}], "fixes": []}
        with pytest.raises(CannotLook, match="x: not found"):
            tool_gates.read_audit(document, "requirements.txt")

    def test_a_hole_of_the_system_counts_once_somebody_has_mended_it(self) -> None:
        def match(severity: str, state: str) -> dict[str, object]:
            hole = {"id": "CVE-1", "severity": severity, "fix": {"state": state}}
            return {"vulnerability": hole, "artifact": {"name": "libc6", "version": "2.41"}}

        matches = [
            match("Critical", "fixed"),
            match("High", "fixed"),
            match("High", "wont-fix"),
            match("Low", "fixed"),
        ]
        assert len(tool_gates.read_grype({"matches": matches})) == 2


class TestVerdicts:
    def test_a_tool_that_fails_has_not_looked(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tree / "Dockerfile").unlink()
        code, said = scan(tree, capsys, "dockerfile", "bill")
        assert code == INCOMPLETE
        assert "dockerfile        NOT RUN: hadolint: " in said
        assert said.endswith("== incomplete: dockerfile could not look\n")

    def test_findings_weigh_more_than_blindness(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tree / "Dockerfile").unlink()
        append(tree / "requirements.txt", "left-out==1.0\n")
        assert scan(tree, capsys, "dockerfile", "bill")[0] == FINDINGS

    def test_a_gate_that_does_not_exist_is_not_passed(self, tree: Path) -> None:
        assert main(["depedencies"], tree) == 64

    def test_every_gate_is_run_when_none_is_named(
        self, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[str] = []

        def noting(name: str) -> Gate:
            def gate(_root: Path) -> Report:
                ran.append(name)
                return Report()

            return gate

        for name in GATES:
            monkeypatch.setitem(GATES, name, (noting(name), ""))
        (tree / "security-accepted.toml").unlink()
        assert scan(tree, capsys)[0] == PASSED
        assert ran == list(GATES)


class TestAccepted:
    def accept(self, tree: Path, days: int, **changes: str) -> None:
        until = datetime.now(UTC).date() + timedelta(days=days)
        entry = {
            "gate": "bill",
            "rule": "unpinned",
            "path": "requirements.txt",
            "reason": "a test",
            "owner": "ann",
            **changes,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in entry.items()]
        text = "\n".join(["[[accepted]]", *lines, f"until = {until.isoformat()}"])
        (tree / "security-accepted.toml").write_text(text)
        append(tree / "requirements.txt", "left-out==1.0\n")

    def test_an_accepted_finding_passes_and_is_counted(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.accept(tree, 30)
        code, said = scan(tree, capsys, "bill")
        assert (code, "passed (1 accepted)" in said) == (PASSED, True)

    @pytest.mark.parametrize("days", [-1, 400])
    def test_past_its_end_or_too_far_from_it_it_does_not(
        self, tree: Path, capsys: pytest.CaptureFixture[str], days: int
    ) -> None:
        self.accept(tree, days)
        code, said = scan(tree, capsys, "bill")
        assert code == FINDINGS
        assert "security-accepted.toml:1: accepted: unpinned in requirements.txt" in said
        assert "requirements.txt:" in said

    def test_it_covers_no_other_rule_and_path(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.accept(tree, 30, path="requirements-dev.txt")
        code, said = scan(tree, capsys, "bill")
        assert code == FINDINGS
        assert "there is no such finding: take it out" in said

    def test_without_a_reason_or_an_owner_nothing_is_accepted(
        self, tree: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.accept(tree, 30)
        file = tree / "security-accepted.toml"
        file.write_text(file.read_text().replace('owner = "ann"\n', ""))
        code, said = scan(tree, capsys, "bill")
        assert code == FINDINGS
        assert "an entry needs exactly gate, rule, path, reason, owner, until" in said


def test_the_bill_of_materials_names_every_package_of_the_lock(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan(tree, capsys, "bill")[0] == PASSED
    bill = json.loads((tree / WRITTEN).read_text())
    named = {component["purl"] for component in bill["components"]}
    lock = (tree / "requirements.txt").read_text("utf-8").splitlines()
    pins = [line.split(" ")[0] for line in lock if line[:1].isalpha()]
    assert named == {f"pkg:pypi/{pin.replace('==', '@')}" for pin in pins}
    assert all(component["externalReferences"] for component in bill["components"])
