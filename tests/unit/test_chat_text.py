"""What scripts/chat puts on a terminal, and what it makes of keys."""

from __future__ import annotations

import pytest

from scripts.chat_text import columns, line_of, printable, tail
from scripts.line_editor import END, LineEditor


class TestPrintable:
    def test_what_others_write_cannot_act_on_the_terminal(self) -> None:
        assert printable("a\x1b[2Jb\u202ec\r\n") == "a\ufffd[2Jb\ufffdc\ufffd\ufffd"
        assert printable("\x9b31m\u2028\u2066\u200b\x07\t") == "\ufffd31m" + "\ufffd" * 5

    def test_every_script_and_emoji_stays(self) -> None:
        for text in ("naïve ☕ 汉字", "\u00a0\u3000", "👩\u200d👧", "נ\u05b4ק\u05bc\u05d5ד"):
            assert printable(text) == text

    def test_a_name_cannot_begin_a_new_line(self) -> None:
        message = {
            "type": "message",
            "seq": 3,
            "sender_name": "Eve\nAnn",
            "content": "x\n4  Ann: y",
        }
        assert line_of(message) == "    3  Eve\ufffdAnn: x\ufffd4  Ann: y"

    def test_an_erased_message_says_so(self) -> None:
        assert line_of({"type": "message", "seq": 3, "sender_name": None, "content": None}) == (
            "    3  somebody: (erased)"
        )

    def test_a_drain_says_how_long_there_is_and_whether_it_was_called_off(self) -> None:
        drain = {
            "event_id": 5,
            "reason": "release\x1b2",
            "deadline": "x",
            "seconds_remaining": 29.6,
        }
        for kind in ("drain_started", "drain_warning"):
            assert line_of({"type": kind, **drain}) == (
                "* everybody must leave in 30 s, and may update: release\ufffd2"
            )
        assert line_of({"type": "drain_cancelled", "event_id": 5}) == (
            "* you may stay: nobody has to leave any more"
        )

    @pytest.mark.parametrize(
        ("kind", "url", "line"),
        [
            ("update_available", "https://a.example", "* version 2.0 is out (https://a.example)"),
            ("update_required", None, "* this version must be updated"),
        ],
    )
    def test_a_release_says_where_the_update_is(
        self, kind: str, url: str | None, line: str
    ) -> None:
        status = {"latest_version": "2.0", "update_url": url}
        assert line_of({"type": kind, "version_status": status}) == line


class TestWidth:
    def test_wide_and_combining_characters_count_as_they_are_shown(self) -> None:
        assert columns("a汉e\u0301") == 4

    @pytest.mark.parametrize(
        ("width", "shown"), [(9, "ab汉字"), (6, "ab汉字"), (5, "b汉字"), (3, "字")]
    )
    def test_of_a_long_line_its_end_is_shown(self, width: int, shown: str) -> None:
        assert tail("ab汉字", width) == shown


class TestLineEditor:
    @pytest.mark.parametrize(
        ("keys", "lines"),
        [
            ("hello\n", ["hello"]),
            ("one\rtwo\n", ["one", "two"]),
            ("helo\x7flo\n", ["hello"]),
            ("rubbish\x15good\n", ["good"]),
            ("two words\x17thoughts\n", ["two thoughts"]),
            ("\x04", [END]),
            ("not empty\x04\n", ["not empty"]),
            ("a\x1b[Ab\x1b[1;5Cc\x1bOAd\x1bfe\n", ["abcde"]),
            ("bell\x07\tand tab\n", ["belland tab"]),
        ],
    )
    def test_keys(self, keys: str, lines: list[object]) -> None:
        assert LineEditor().feed(keys) == lines

    def test_an_escape_sequence_may_come_in_pieces(self) -> None:
        editor = LineEditor()
        for piece in ("a\x1b", "[1", ";5", "Cb"):
            assert editor.feed(piece) == []
        assert editor.text == "ab"
