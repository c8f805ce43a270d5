"""Prometheus's text format, read back by Prometheus's own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rules.prometheus import Family, Kind, Sample, exposition

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(value=st.floats(allow_nan=False), label=TEXT, help_=TEXT)
def test_whatever_a_label_holds_comes_back_as_it_was(value: float, label: str, help_: str) -> None:
    family = Family("gatehouse_x", Kind.GAUGE, help_, (Sample(value, {"version": label}),))
    [read] = text_string_to_metric_families(exposition([family]))
    assert (read.name, read.type) == ("gatehouse_x", "gauge")
    [sample] = read.samples
    assert (sample.labels, sample.value) == ({"version": label}, value)


def test_the_form_of_a_family_with_one_escaped_label() -> None:
    family = Family(
        "gatehouse_messages_in_total",
        Kind.COUNTER,
        "Back\\slash and\nnew line.",
        (Sample(3, {"instance": 'a"b\\c\nd'}), Sample(0.5)),
    )
    assert exposition([family]).splitlines() == [
        "# HELP gatehouse_messages_in_total Back\\\\slash and\\nnew line.",
        "# TYPE gatehouse_messages_in_total counter",
        'gatehouse_messages_in_total{instance="a\\"b\\\\c\\nd"} 3',
        "gatehouse_messages_in_total 0.5",
    ]


def test_a_family_without_samples_is_left_away() -> None:
    assert exposition([Family("gatehouse_x", Kind.GAUGE, "Nothing.", ())]) == ""
