"""How long to wait, and which errors are worth another attempt."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from itertools import islice, repeat
from json import JSONDecodeError
from random import Random

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.backoff import backoff_delays, is_transient, retry_after
from streamlib.chat import StreamError

NOW = 1_795_000_000.0
REQUEST = httpx2.Request("POST", "http://sim/v1/chat/completions")


def status_error(status: int, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError("simulated", response=response, body=None)


class OurError(Exception):
    """What streamlib.chat raises, as far as retrying is concerned."""

    def __init__(self, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__("simulated")
        self.status = status
        self.retry_after = retry_after


# --- backoff_delays -------------------------------------------------------------------------------


@given(st.floats(0, 100), st.floats(0, 100), st.lists(st.none() | st.floats(0, 1000)), st.integers())
def test_every_delay_is_between_the_floor_and_its_bound_above_it(
    base: float, cap: float, told: list[float | None], seed: int
) -> None:
    delays = list(backoff_delays(told, base=base, cap=cap, rng=Random(seed)))
    assert len(delays) == len(told)
    for n, (delay, floor) in enumerate(zip(delays, told, strict=True)):
        assert (floor or 0) <= delay <= (floor or 0) + min(cap, base * 2**n)


def test_delays_go_on_as_long_as_somebody_asks_and_never_overflow() -> None:
    assert all(delay <= 30 for delay in islice(backoff_delays(base=0.5, cap=30), 5000))


def test_the_jitter_is_full_so_clients_spread_over_the_whole_range() -> None:
    fourth = [list(islice(backoff_delays(base=1, cap=100, rng=Random(seed)), 4))[3] for seed in range(2000)]
    assert [sum(low <= delay < low + 2 for delay in fourth) > 400 for low in (0, 2, 4, 6)] == [True] * 4


def test_clients_who_are_told_the_same_do_not_come_back_together() -> None:
    delays = [next(backoff_delays([3.0], base=1, rng=Random(seed))) for seed in range(50)]
    assert min(delays) >= 3
    assert len(set(delays)) == 50


def test_a_seed_gives_the_same_delays_again() -> None:
    first, second = (list(islice(backoff_delays(rng=Random(7)), 9)) for _ in range(2))
    assert first == second


def test_the_list_of_what_was_told_may_grow_on_the_way() -> None:
    told: list[float | None] = []
    delays = backoff_delays(told, base=0)
    for floor in (2.0, None, 1.0):
        told.append(floor)
        assert next(delays) == (floor or 0)


@pytest.mark.parametrize("settings", [{"base": -1}, {"cap": -1}, {"base": float("nan")}])
def test_numbers_below_zero_are_refused_at_once(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="from 0 up"):
        backoff_delays(repeat(None), **settings)


# --- retry_after ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("0.5", 0.5),
        (" 7 ", 7.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("-3", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: float | None) -> None:
    assert retry_after(OurError(429, said), now=NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system cannot change its time zone")
def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        said = formatdate(NOW + 90).replace("+0900", "-0000")
        assert said.endswith("-0000")
        assert retry_after(OurError(429, said), now=NOW) == 90
    finally:
        monkeypatch.undo()
        time.tzset()


def test_retry_after_is_found_on_the_errors_of_the_official_client_and_of_httpx2() -> None:
    error = status_error(429, {"Retry-After": "5"})
    assert retry_after(error) == 5
    assert retry_after(httpx2.HTTPStatusError("429", request=REQUEST, response=error.response)) == 5
    assert retry_after(status_error(503)) is None
    assert retry_after(openai.APIConnectionError(request=REQUEST)) is None
    assert retry_after(OSError()) is None


# --- is_transient ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*range(400, 452), 500, 502, 503, 504, 529, 599])
def test_the_status_decides(status: int) -> None:
    worth_it = status in (408, 409, 429) or status >= 500
    response = httpx2.Response(status, request=REQUEST)
    assert is_transient(status_error(status)) is worth_it
    assert is_transient(OurError(status)) is worth_it
    assert is_transient(httpx2.HTTPStatusError("", request=REQUEST, response=response)) is worth_it


@pytest.mark.parametrize(
    ("error", "worth_it"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (httpx2.RemoteProtocolError("peer closed"), True),
        (httpx2.ReadTimeout("slow"), True),
        (openai.APIConnectionError(request=REQUEST), True),
        (openai.APITimeoutError(REQUEST), True),
        (openai.APIError("an error inside the stream", REQUEST, body={"code": "server_error"}), True),
        (JSONDecodeError("Expecting value", "{", 1), True),
        (OurError(None), True),
        (OurError(200), True),
        (TypeError(), False),
        (ValueError(), False),
        (KeyError("choices"), False),
        (asyncio.CancelledError(), False),
        (GeneratorExit(), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_without_a_status_broken_connections_are_worth_it_and_bugs_are_not(
    error: BaseException, worth_it: bool
) -> None:
    assert is_transient(error) is worth_it


def test_an_account_without_money_has_none_a_moment_later() -> None:
    body = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    response = httpx2.Response(429, request=REQUEST)
    assert not is_transient(openai.RateLimitError("429", response=response, body=body))
    assert not is_transient(openai.APIError("inside the stream", REQUEST, body=body))
    assert not is_transient(StreamError("inside the stream", code="insufficient_quota"))


@pytest.mark.parametrize("code", [None, "rate_limit_exceeded"])
def test_any_other_code_of_a_429_changes_nothing(code: str | None) -> None:
    response = httpx2.Response(429, request=REQUEST)
    assert is_transient(openai.RateLimitError("429", response=response, body={"code": code}))
    assert is_transient(StreamError("inside the stream", code=code))


def test_broken_json_inside_another_error_is_worth_it() -> None:
    around = ValueError("Failed to parse response as JSON")  # so does google-genai
    around.__cause__ = JSONDecodeError("Expecting value", "{", 1)
    assert is_transient(around)
