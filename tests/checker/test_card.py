"""What a verdict looks like: the plain and the rich form say the same, and all words in it are escaped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from streamlib.checker import Case, CheckFailed, Exercise, Source, Verdict, judge
from streamlib.checker.picture import ticks

from . import samples

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


class Words(HTMLParser):
    """The text of a page, and the tags in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "


def squeezed(text: str) -> str:
    """A text without backticks and spaces: those differ between the two forms."""
    return "".join(text.replace("`", "").split())


def drawing(line: str) -> bool:
    """Whether a line of the plain form is drawn, not written."""
    return line.startswith(("expected  ", "yours  ", "time  "))


async def late(stream: Any, n: int) -> Any:
    print("reading", EVIL)
    values = [value async for value in stream]
    for value in values[:n]:
        yield value


async def evil(stream: Any, n: int) -> Any:
    async for value in samples.take(stream, n):
        yield f"{value}{EVIL}"


def raises(numbers: list[int]) -> list[int]:
    raise ValueError(EVIL)


VERDICTS: list[tuple[Callable[..., Any], Exercise]] = [
    (late, samples.streaming),
    (evil, samples.streaming),
    (raises, samples.plain),
    (samples.double, samples.plain),
    (lambda numbers: EVIL, samples.plain),
    (lambda numbers: [print(EVIL)], samples.plain),
]


@pytest.mark.parametrize(("answer", "exercise"), VERDICTS)
def test_the_rich_and_the_plain_form_have_the_same_content(
    answer: Callable[..., Any], exercise: Exercise
) -> None:
    verdict = judge(answer, exercise)
    page = squeezed(Words(verdict._repr_html_()).words)
    for line in repr(verdict).splitlines():
        if not drawing(line):
            assert squeezed(line) in page


@pytest.mark.parametrize(("answer", "exercise"), VERDICTS)
def test_what_a_learner_or_a_model_wrote_is_text(answer: Callable[..., Any], exercise: Exercise) -> None:
    page = Words(judge(answer, exercise)._repr_html_())
    assert set(page.tags) <= {
        "div",
        "p",
        "b",
        "code",
        "pre",
        "details",
        "summary",
        "svg",
        "path",
        "line",
        "text",
        "title",
    }
    assert page.open == []


def test_a_late_stream_is_drawn_expected_above_and_yours_below() -> None:
    plain = repr(judge(late, samples.streaming)).splitlines()
    above, below = (
        next(line for line in plain if line.startswith(name)) for name in ("expected  ", "yours  ")
    )
    assert above.index("◆") < above.index("|") < below.index("2")
    assert "expected: 'a' at 0.1 s, 'b' at 0.2 s" in plain
    assert "yours: 'a' at 0.4 s, 'b' at 0.4 s" in plain
    html = judge(late, samples.streaming)._repr_html_()
    assert html.count("<path") == 4


def test_an_error_in_a_stream_is_a_cross() -> None:
    async def take(stream: Any, n: int) -> Any:
        async for value in samples.take(stream, n):
            yield value
            raise KeyError("oops")

    verdict = judge(take, samples.streaming)
    assert "✗" in next(line for line in repr(verdict).splitlines() if line.startswith("yours  "))
    assert "KeyError at 0.1 s" in repr(verdict)


def test_without_time_there_is_no_picture() -> None:
    assert "<svg" not in judge(lambda numbers: [], samples.plain)._repr_html_()


def test_a_value_that_comes_late_is_drawn() -> None:
    async def joined(stream: Any, limit: int) -> Any:
        text = await samples.joined(stream, limit)
        await asyncio.sleep(1)
        return text

    shown = repr(judge(joined, samples.waiting))
    assert "expected: 'abcd' at 0.2 s" in shown
    assert "yours: 'abcd' at 1.2 s" in shown


async def raises_at_once(stream: Any, limit: int) -> Any:
    raise KeyError


async def never(stream: Any, limit: int) -> Any:
    await asyncio.Event().wait()


async def wrong_but_in_time(stream: Any, limit: int) -> Any:
    return (await samples.joined(stream, limit)).upper()


async def opens_and_leaves(stream: Any, n: int) -> Any:
    async for value in stream:
        yield value
        n -= 1
        if n == 0:
            return


@pytest.mark.parametrize(
    ("answer", "exercise"),
    [
        (raises_at_once, samples.waiting),
        (never, samples.waiting),
        (wrong_but_in_time, samples.waiting),
        (never, samples.streaming),
        (opens_and_leaves, samples.streaming),
    ],
)
def test_a_picture_that_would_show_nothing_is_left_out(
    answer: Callable[..., Any], exercise: Exercise
) -> None:
    assert "<svg" not in judge(answer, exercise)._repr_html_()


@pytest.mark.parametrize(
    ("span", "instants"),
    [
        (0.1, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (0.4, [0, 0.1, 0.2, 0.3, 0.4]),
        (7.0, [0, 2, 4, 6]),
        (60.0, [0, 20, 40, 60]),
    ],
)
def test_the_axis_has_round_instants(span: float, instants: list[float]) -> None:
    assert ticks(span) == pytest.approx(instants)


def test_a_long_value_is_shown_where_it_differs() -> None:
    exercise = Exercise(lambda: [list(range(100))], [Case()], samples.HINTS)
    exercise.reference.__name__ = "numbers"

    def numbers() -> list[list[int]]:
        return [[*range(50), 51, *range(51, 100)]]

    message = judge(numbers, exercise).message
    assert "item 51 of 100 differs: expected `50`, got `51`" in message
    assert len(message) < 200


def test_a_long_text_is_shown_where_it_differs() -> None:
    def text() -> str:
        return "lorem ipsum " * 20

    verdict = judge(
        lambda: "lorem ipsum " * 10 + "dolor" + "lorem ipsum " * 10, Exercise(text, [Case()], samples.HINTS)
    )
    assert "from character 121 on" in verdict.message
    assert "dolor" in verdict.message
    assert len(verdict.message) < 250


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (list(range(40)), list(range(39)), "item 40 of 40 is missing"),
        (list(range(40)), list(range(41)), "`40` is too many"),
        ((1,), [1], "expected `(1,)`, got `[1]`"),
    ],
)
def test_a_missing_and_a_superfluous_item_are_named(expected: Any, got: Any, words: str) -> None:
    verdict = judge(lambda: got, Exercise(lambda: expected, [Case()], samples.HINTS))
    assert words in verdict.message


def test_an_exercise_says_how_its_values_look() -> None:
    def first(items: list[complex]) -> complex:
        return items[0]

    exercise = Exercise(
        first,
        [Case([1j, 2j])],
        samples.HINTS,
        show=lambda value: f"point {value.imag:g}" if isinstance(value, complex) else None,
    )
    assert judge(lambda items: items[1], exercise).message.startswith(
        "For `first([point 1, point 2])`: expected `point 1`, got `point 2`."
    )


def test_a_source_is_shown_as_what_it_delivers() -> None:
    exercise = Exercise(samples.joined, [Case(Source(["a"], error=OSError("cut")), 3)], samples.HINTS)
    assert "`joined(<stream: 'a', then OSError>, 3)`" in judge(lambda stream, limit: 1, exercise).message


# -- graded cells ------------------------------------------------------------------------------------------


def test_require_is_silent_and_none_when_right(capfd: pytest.CaptureFixture[str]) -> None:
    required: object = judge(samples.double, samples.plain).require()  # type: ignore[func-returns-value]
    assert required is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("state", ["not attempted", "wrong", "raised", "stuck"])
def test_require_raises_the_message_alone_when_not(state: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError) as raised:
        Verdict("double", state, "The reason.").require()
    assert isinstance(raised.value, CheckFailed)
    assert raised.value._render_traceback_() == [f"double: {state}. The reason."]
    assert capfd.readouterr() == ("", "")


def test_a_verdict_is_true_when_right() -> None:
    assert judge(samples.double, samples.plain)
    assert not judge(lambda numbers: None, samples.plain)
