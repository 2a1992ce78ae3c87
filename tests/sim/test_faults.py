"""How answers break, frame by frame."""

from __future__ import annotations

import json
import math

import pytest

from streamlib.sim.core import Simulator
from streamlib.sim.faults import FAULTS, STRIKES, parse_faults
from streamlib.sim.model import ApiError, Frame
from streamlib.sim.tokens import split_tokens

from .talk import NOW, ask, data_of, error_of, frames, json_of, request, text_of

WHOLE = "A stream ends, é and all."


def broken(fault: str, **fields: object) -> list[Frame]:
    return frames(ask(f"Repeat: {WHOLE}", fault=fault, **fields))


def sent(made: list[Frame]) -> int:
    return sum(frame.sent for frame in made)


# --- the header ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", {}),
        ("crlf", {"crlf": 0}),
        ("cut-after", {"cut-after": 5}),
        ("cut-after=7", {"cut-after": 7}),
        (" status = 429 ; retry-after=2;; crlf ", {"status": 429, "retry-after": 2, "crlf": 0}),
        ("slow-first-byte=0.5", {"slow-first-byte": 0.5}),
    ],
)
def test_the_header_is_read(text: str, chosen: dict[str, float]) -> None:
    assert parse_faults(text).chosen == chosen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cut-affter=5", "no fault 'cut-affter'. The faults are: refuse, status=N"),
        ("cut-after=five", "cut-after takes a number from 0 to 8192, got 'five'"),
        ("cut-after=-1", "from 0 to 8192, got '-1'"),
        ("cut-after=nan", "got 'nan'"),
        ("status=200", "from 400 to 599, got '200'"),
        ("crlf=1", "crlf takes no number"),
        ("cut-after=1;stall-after=2", "only one of cut-after, stall-after"),
    ],
)
def test_a_header_that_makes_no_sense_is_a_400_that_helps(text: str, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_faults(text)
    assert caught.value.status == 400
    assert says in caught.value.message


# --- after N tokens --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STRIKES if name != "bad-json"])
@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_exactly_the_tokens_before_the_fault_are_delivered(name: str, after: int) -> None:
    made = broken(f"{name}={after}")
    assert sent(made) == after
    assert text_of(made) == "".join(split_tokens(WHOLE)[:after])


@pytest.mark.parametrize(
    ("fault", "last", "ends"),
    [
        ("cut-after=3", "cut", b""),
        ("truncate-after=3", "go on", b""),
        ("stall-after=3", "stall", b""),
        ("cut-mid-event=3", "cut", b'data: {"id": '),
    ],
)
def test_how_the_stream_ends(fault: str, last: str, ends: bytes) -> None:
    frame = broken(fault)[-1]
    assert frame.then == last
    assert frame.data.startswith(ends)
    assert b"\n\n" not in frame.data


@pytest.mark.parametrize("name", STRIKES)
def test_a_fault_after_more_tokens_than_there_are_strikes_after_the_last(name: str) -> None:
    made = broken(f"{name}=8000")
    finished = [
        chunk for chunk in data_of(made) if '"finish_reason": "stop"' in chunk and chunk.endswith("}")
    ]
    assert finished == []


def test_an_error_event_ends_the_stream() -> None:
    *before, last = data_of(broken("error-event=3"))
    assert json.loads(last)["error"]["type"] == "server_error"
    assert len(before) >= 2


def test_one_event_of_bad_json_and_then_it_goes_on() -> None:
    events = data_of(broken("bad-json=3"))
    bad = []
    for event in events[:-1]:
        try:
            json.loads(event)
        except ValueError:
            bad.append(event)
    assert len(bad) == 1
    assert events[-1] == "[DONE]"


# --- bytes -----------------------------------------------------------------------------------------


def test_no_done_leaves_out_the_last_event_alone() -> None:
    assert data_of(broken("no-done")) == [
        data for data in data_of(broken("")) if data != "[DONE]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fault", ["crlf", "comments", "split-utf8", "clump", "crlf;comments;clump=0.3;split-utf8"]
)
def test_a_correct_reader_gets_the_same_events(fault: str) -> None:
    assert data_of(broken(fault)) == data_of(broken(""))
    assert sent(broken(fault)) == sent(broken(""))


def test_crlf_ends_every_line() -> None:
    wire = b"".join(frame.data for frame in broken("crlf"))
    assert wire.count(b"\n") == wire.count(b"\r\n") > 10


def test_comments_stand_between_events() -> None:
    wire = b"".join(frame.data for frame in broken("comments"))
    assert wire.startswith(b": keep-alive\n\n")
    assert wire.count(b"\n\n: keep-alive\n\n") >= 1


def test_split_utf8_cuts_inside_a_character() -> None:
    def is_whole(data: bytes) -> bool:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True

    assert not all(is_whole(frame.data) for frame in broken("split-utf8"))
    assert all(is_whole(frame.data) for frame in broken(""))


def test_clump_releases_at_multiples_of_its_period_and_at_the_end() -> None:
    plain, clumped = broken(""), [frame for frame in broken("clump=0.2") if frame.data]
    assert len(clumped) < len(plain) / 2
    assert clumped[-1].at == plain[-1].at
    for frame in clumped[:-1]:
        assert math.isclose(frame.at / 0.2, round(frame.at / 0.2))


def test_held_tokens_are_made_before_they_are_sent() -> None:
    made = delivered = 0
    for frame in broken("clump=0.5"):
        made += frame.made
        delivered += frame.sent
        assert delivered <= made
    assert made == delivered


# --- before the answer -----------------------------------------------------------------------------


def test_refuse_has_no_status() -> None:
    assert ask(fault="refuse").status is None


def test_slow_first_byte_moves_the_whole_schedule() -> None:
    plain, slow = ask(), ask(fault="slow-first-byte=2.5")
    assert plain.headers_at is not None
    assert slow.headers_at is not None
    assert slow.headers_at - plain.headers_at == pytest.approx(2.5)
    for before, after in zip(frames(plain), frames(slow), strict=True):
        assert after.at - before.at == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ("status=429", 429, "1"),
        ("status=429;retry-after=2", 429, "2"),
        ("retry-after=0.5", 429, "0.5"),
        ("status=503;retry-after=3", 503, "3"),
        ("status=429;retry-after-date=10", 429, "Wed, 18 Nov 2026 11:06:50 GMT"),
        ("status", 500, None),
        ("status=503", 503, None),
        ("status=418", 418, None),
    ],
)
def test_status_and_retry_after(fault: str, status: int, retry_after: str | None) -> None:
    response = ask(fault=fault)
    assert response.status == status
    assert dict(response.headers).get("retry-after") == retry_after
    assert error_of(response)["message"]


# --- a blocking answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "last"), [("cut-after=3", "cut"), ("stall-after=3", "stall"), ("cut-mid-event", "cut")]
)
def test_a_blocking_answer_stops_in_the_middle_of_its_body(fault: str, last: str) -> None:
    whole = broken("", stream=False)[-1].data
    frame = broken(fault, stream=False)[-1]
    assert frame.then == last
    assert frame.data
    assert whole.startswith(frame.data)
    assert len(frame.data) < len(whole)


@pytest.mark.parametrize("fault", ["no-done", "crlf", "comments", "split-utf8", "clump"])
def test_faults_of_events_leave_a_blocking_answer_alone(fault: str) -> None:
    response = ask(f"Repeat: {WHOLE}", fault=fault, stream=False)
    assert json_of(response)["choices"][0]["message"]["content"] == WHOLE


def test_an_error_in_a_blocking_answer_is_a_500() -> None:
    assert ask(fault="error-event", stream=False).status == 500


def test_the_first_page_says_what_every_fault_does() -> None:
    response = Simulator().respond(request(method="GET", path="/"), NOW)
    page = b"".join(frame.data for frame in response.frames).decode()
    for fault in FAULTS.values():
        assert f"  {fault.name:17} {fault.what}\n" in page
