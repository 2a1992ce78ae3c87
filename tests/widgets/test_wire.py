import asyncio
import re
from itertools import pairwise

import pytest

from streamlib.widgets import Wire
from streamlib.widgets.wire_picture import (
    HOVERS,
    LANE,
    Mark,
    digits,
    hover_marks,
    meaning,
    place,
    plain_marks,
    tower_heights,
)

from .scripted import CUT, DONE, HANG, ROLE, STOP, Server, answer, event, serving, until

MODEL = "model-1"
WORD = event("né")


def wire(server: Server, **options: object) -> Wire:
    return Wire("Hi", model=MODEL, base_url=server.base_url, **options)


@pytest.mark.parametrize(
    ("stream", "reads", "events", "pieces", "cut_events"),
    [
        (answer("a", "b"), 5, 5, 2, 0),
        ((b"".join(answer("a", "b")),), 1, 5, 2, 0),
        ((ROLE + WORD, WORD + STOP + DONE), 2, 5, 2, 0),
        ((WORD[:20], WORD[20:] + DONE), 2, 2, 1, 1),
        ((WORD[:5], WORD[5:9], WORD[9:], DONE), 4, 2, 1, 1),
        ((WORD[:-1], WORD[-1:], DONE), 3, 2, 1, 1),
        ((b": keep-alive\n\n", WORD, DONE), 3, 2, 1, 0),
        ((WORD.replace(b"\n", b"\r\n"), DONE), 2, 2, 1, 0),
    ],
)
async def test_reads_events_and_pieces_are_counted_apart(
    stream: tuple[bytes, ...], reads: int, events: int, pieces: int, cut_events: int
) -> None:
    async with serving(*stream) as server:
        w = await wire(server)
    assert (len(w.reads), len(w.events), len(w.pieces), w.cut_events) == (reads, events, pieces, cut_events)
    assert bytes(w.data) == b"".join(stream)
    assert sum(mark.weight for mark in w.reads) == len(w.data)
    assert w.complete
    assert not w.error


async def test_a_character_cut_in_two_reads_comes_whole() -> None:
    raw = WORD.replace(b"\\u00e9", "é".encode())
    cut = raw.index("é".encode()) + 1
    async with serving(raw[:cut], raw[cut:], DONE) as server:
        w = await wire(server)
    assert w.answer == "né"
    assert r"\xc3" in w.reads[0].what


async def test_instants_are_in_order_and_an_event_comes_with_its_read() -> None:
    async with serving(*answer("a", "b", "c")) as server:
        w = await wire(server)
    times = [mark.at for mark in w.reads]
    assert times == sorted(times)
    assert times[0] > 0
    assert {mark.at for mark in w.events} <= set(times)
    assert {mark.at for mark in w.pieces} <= {mark.at for mark in w.events}


async def test_events_without_text_are_told_apart() -> None:
    async with serving(ROLE, event("a"), STOP, DONE) as server:
        w = await wire(server)
    assert [mark.has_text for mark in w.events] == [False, True, False, False]


async def test_tokens_are_those_the_server_counted() -> None:
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n'
    async with serving(event("a"), usage, DONE) as server:
        w = await wire(server)
    assert w.tokens == 7
    assert "1 characters of text, 7 tokens by the server's count." in w.text()
    async with serving(event("a"), DONE) as server:
        w = await wire(server)
    assert w.tokens is None
    assert "tokens" not in w.text()


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ((ROLE, event("a"), CUT), "The connection broke"),
        ((ROLE, event("a")), "with no [DONE] and no finish reason"),
        ((ROLE, event("a"), event("b")[:30]), "in the middle of an event"),
        ((event("a"), b'data: {"error": {"message": "full"}}\n\n'), "The server sent an error: full"),
    ],
)
async def test_a_broken_answer_says_so_and_keeps_what_came(stream: tuple[object, ...], words: str) -> None:
    async with serving(*stream) as server:
        w = await wire(server)
    assert w.answer == "a"
    assert words in w.text()
    assert words in w.html(None)


async def test_a_refusal_is_shown_without_an_empty_picture() -> None:
    async with serving(status=401, error="No <key>") as server:
        w = await wire(server)
    assert "The server answered 401: No <key>" in w.text()
    assert "No &lt;key&gt;" in w.html(None)
    assert "<svg" not in w.html(None)
    assert "|" not in w.text()


async def test_stop_closes_the_connection_and_keeps_what_came() -> None:
    async with serving(ROLE, event("a"), HANG) as server:
        w = wire(server)
        w.start()
        await until(lambda: w.pieces)
        w.stop()
        await w
        await until(lambda: server.open_connections == 0)
    assert w.answer == "a"
    assert "Stopped." in w.text()
    assert len(asyncio.all_tasks()) == 1


async def test_headers_and_options_go_into_the_request() -> None:
    async with serving(*answer("a")) as server:
        await wire(server, headers={"X-Sim-Fault": "clump"}, max_tokens=7)
    assert server.requests[0]["max_tokens"] == 7
    assert server.headers[0]["x-sim-fault"] == "clump"
    assert server.headers[0]["accept-encoding"] == "identity"
    assert server.warm_ups == 1


async def test_a_server_that_cannot_list_its_models_answers_all_the_same() -> None:
    async with serving(*answer("a"), no_models=True) as server:
        w = await wire(server)
    assert w.answer == "a"


async def test_the_final_picture_has_the_bytes_of_every_mark_and_escaped() -> None:
    async with serving(event("<img src=x>"), DONE) as server:
        w = await wire(server)
    html = w.html(None)
    assert "<img" not in html
    assert "&lt;img src=x&gt;" in html
    assert html.count('class="sl-mark"') == 2 + 2 + 1  # reads, events, pieces
    assert "read 1 at" in html
    assert "event 2 at" in html
    assert "piece 1 at" in html
    assert "<img" not in w.html(w.started)


async def test_a_long_answer_is_drawn_without_hovers() -> None:
    async with serving(b"".join(answer(*["a"] * HOVERS))) as server:
        w = await wire(server)
    assert "sl-mark" not in w.html(None)
    assert len(w.html(None)) < 50_000


async def test_plain_text_has_the_three_rulers_and_every_sentence() -> None:
    async with serving(*answer("a", "b")) as server:
        w = await wire(server)
    text = w.text()
    for name, marks in (("reads", w.reads), ("events", w.events), ("text", w.pieces)):
        ruler = re.search(rf"^{name} +\|([.0-9]+)\|$", text, re.MULTILINE)
        assert ruler
        assert sum(int(digit) for digit in ruler[1].replace(".", "0")) == len(marks)
    for sentence in meaning(w.scene(None), w.scene(None).marks()):
        assert sentence in text


def marks(*times: float, weight: float = 1.0) -> list[Mark]:
    return [Mark(at, "x", weight) for at in times]


def test_marks_that_come_together_make_a_tower_that_fits_the_lane() -> None:
    placed = list(place(marks(*[0.5] * 40, 0.9), 1.0, 100))
    tower = [(y, height) for mark, _, y, height in placed if mark.at == 0.5]
    assert min(y for y, _ in tower) == pytest.approx(100 - LANE)
    assert all(above[0] == pytest.approx(below[0] - above[1]) for below, above in pairwise(tower))


def test_marks_that_come_apart_stand_side_by_side() -> None:
    placed = list(place(marks(0.1, 0.2, 0.3), 1.0, 100))
    assert [at for _, at, _, _ in placed] == [0.1, 0.2, 0.3]
    assert len({y for _, _, y, _ in placed}) == 1


def test_heights_are_in_proportion_to_bytes() -> None:
    small, large = (
        mark for _, _, _, mark in place(marks(0.1, weight=100) + marks(0.5, weight=400), 1.0, 100)
    )
    assert large == pytest.approx(4 * small)


def test_a_tower_says_how_many_came_at_once() -> None:
    assert tower_heights([*marks(*[0.5] * 4), *marks(0.7, 0.7, 0.7)], 1.0, 100).count("4 at once") == 1
    assert tower_heights(marks(0.7, 0.7, 0.7), 1.0, 100) == ""


def test_a_tower_s_number_stands_where_no_mark_is() -> None:
    right, left = 'text-anchor="start"', 'text-anchor="end"'
    tower = [0.5] * 4
    assert right in tower_heights(marks(0.49, *tower, 0.63), 1.0, 100)
    assert left in tower_heights(marks(0.37, *tower, 0.51), 1.0, 100)
    assert tower_heights(marks(0.4, *tower, 0.6), 1.0, 100) == ""
    assert left in tower_heights(marks(*[0.95] * 4), 1.0, 100)  # at the edge


def test_no_marks_no_picture() -> None:
    assert list(place([], 1.0, 100)) == []
    assert "<rect" not in hover_marks([], 1.0, 100, "red")
    assert "M" not in plain_marks([], 1.0, 100, "red").replace("viewBox", "")


def test_digits_count_ten_and_more_as_plus() -> None:
    assert digits(marks(0.0, *[0.5] * 9, *[0.99] * 10, 1.0), 1.0).replace(".", "") == "19+"
