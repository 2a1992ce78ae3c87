"""The fullest window, and its picture."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamlib.palette import ERROR, EXPECTED
from streamlib.widgets import windows
from streamlib.widgets.rate_windows import worst_window


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 30), st.integers(-30, 130))
def test_no_window_has_more(instants: list[int], seconds: int, begin: int) -> None:
    start, most = worst_window(instants, seconds)
    assert most == sum(start <= at < start + seconds for at in instants)
    assert most >= sum(begin <= at < begin + seconds for at in instants)


def test_no_instants_no_window() -> None:
    assert worst_window([], 1.0) == (0, 0)


def test_too_many_are_said_and_seen() -> None:
    picture = windows({"all at once": [0, 0.1, 0.2]}, seconds=1.0, limit=2)
    assert repr(picture) == "all at once: at most 3 in 1 s where 2 are allowed, 1 too many"
    assert ERROR in picture._repr_html_()


def test_what_is_allowed_is_seen_as_such() -> None:
    picture = windows({"<b>": [0, 5.0, 0.2]}, seconds=1.0, limit=2)
    assert repr(picture) == "<b>: at most 2 in 1 s where 2 are allowed"
    html = picture._repr_html_()
    assert EXPECTED in html
    assert ERROR not in html
    assert "<b>" not in html


def test_without_requests_there_is_a_picture_too() -> None:
    assert "at most 0" in windows({"none": []}, seconds=1.0, limit=2)._repr_html_()
