"""The Procfile reader."""

from pathlib import Path

import pytest

from scripts.procfile import ProcfileError, read_procfile


def test_names_and_commands_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "Procfile"
    file.write_text("# what runs\n\nweb: python -m api --x=1:2\ngateway:python -m wsgateway\n")

    assert list(read_procfile(file).items()) == [
        ("web", "python -m api --x=1:2"),
        ("gateway", "python -m wsgateway"),
    ]


@pytest.mark.parametrize("text", ["web\n", "web:\n", ": x\n", "web: a\nweb: b\n"])
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "Procfile"
    file.write_text(text)

    with pytest.raises(ProcfileError, match="Procfile, line"):
        read_procfile(file)


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProcfileError, match="cannot read Procfile: No such file"):
        read_procfile(tmp_path / "Procfile")
