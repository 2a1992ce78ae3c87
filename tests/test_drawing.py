import pytest

from streamlib import drawing


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 1.01, 7.9, 9.99, 10.0, 59.0, 100.0, 12345.0])
def test_a_time_axis_holds_what_it_shows(length: float) -> None:
    assert length <= drawing.nice_span(length) <= max(2 * length, 1)
    assert drawing.time_span(length, live=False) >= length


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0 ms"), (0.0042, "4 ms"), (0.35, "0.35 s"), (9.876, "9.88 s"), (12.34, "12.3 s")],
)
def test_seconds_as_people_read_them(value: float, words: str) -> None:
    assert drawing.seconds(value) == words


EVIL = '<img src=x onerror="alert(1)">&'


@pytest.mark.parametrize(
    "html",
    [
        drawing.table([("a", EVIL), (EVIL, "b")]),
        drawing.lines([EVIL]),
        drawing.note("0", 0, EVIL),
        drawing.svg(10, EVIL, []),
        drawing.shape(drawing.CROSS, 0, 1, 0, "red", title=EVIL),
    ],
)
def test_words_are_escaped(html: str) -> None:
    assert "<img" not in html
    assert '"alert' not in html


@pytest.mark.parametrize("span", [0.1, 0.5, 1.0, 1.5, 4.13, 30.0, 3000.0])
def test_an_axis_has_a_few_ticks_with_units(span: float) -> None:
    labels = drawing.axis(span, 0).count(" s</text>")
    assert 2 <= labels <= 9
