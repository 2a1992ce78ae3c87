"""Many streams: order, failures, rate, budget, and a file that survives SIGKILL. On a virtual clock."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.batch import Result, report, run_batch
from streamlib.chat import StatusError, stream_chat
from streamlib.sim import SimTransport, Simulator
from streamlib.tokens import Price, TokenUsage, count_message_tokens, count_tokens

from .stream_helpers import now, virtual

run_quietly = partial(run_batch, progress=False)


class Server:
    """Answers "A of <prompt>" in words, one each `every` seconds; a prompt may have errors, met in order."""

    def __init__(self, errors: dict[str, list[Exception]] | None = None, every: float = 0.5) -> None:
        self.errors = {prompt: list(some) for prompt, some in (errors or {}).items()}
        self.every = every
        self.asked: list[tuple[float, str]] = []
        self.open = 0
        self.most_open = 0

    async def ask(self, prompt: Any) -> AsyncIterator[str]:
        self.asked.append((now(), prompt))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            for word in ["A", " of ", prompt]:
                await asyncio.sleep(self.every)
                if self.errors.get(prompt):
                    raise self.errors[prompt].pop(0)
                yield word
        finally:
            self.open -= 1

    def times_asked(self, prompt: str) -> int:
        return [asked for _, asked in self.asked].count(prompt)


def prompts(n: int) -> dict[str, str]:
    return {f"job {k}": f"prompt {k}" for k in range(n)}


def states(results: list[Result]) -> list[str]:
    return [result.state for result in results]


# Order, failures, how many at once


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=40)
def test_results_come_in_the_order_of_the_jobs(seconds: list[float], concurrency: int) -> None:
    async def ask(prompt: Any) -> AsyncIterator[str]:
        await asyncio.sleep(seconds[int(prompt)])
        yield prompt

    jobs = {f"job {n}": str(n) for n in range(len(seconds))}
    results = virtual(run_quietly(jobs, ask=ask, concurrency=concurrency))
    assert [(result.key, result.text) for result in results] == list(jobs.items())


def test_a_failure_is_a_result_and_stops_no_other() -> None:
    server = Server({"prompt 1": [ValueError("no such prompt")]})
    results = virtual(run_quietly(prompts(4), ask=server.ask, concurrency=2))
    assert states(results) == ["done", "failed", "done", "done"]
    assert isinstance(results[1].error, ValueError)
    assert results[3].text == "A of prompt 3"


def test_the_text_before_a_failure_is_kept_and_paid() -> None:
    async def ask(prompt: Any) -> AsyncIterator[str]:
        yield "half an "
        yield "answer"
        raise ConnectionError("cut")

    (result,) = virtual(run_quietly({"a": "x"}, ask=ask))
    assert (result.state, result.text) == ("failed", "half an answer")
    assert result.usage is not None
    assert result.usage.output == count_tokens("half an answer")
    assert result.cost == result.usage.input + result.usage.output


def test_no_more_streams_are_open_than_allowed_and_no_fewer_than_possible() -> None:
    server = Server()
    virtual(run_quietly(prompts(10), ask=server.ask, concurrency=3))
    assert server.most_open == 3
    assert server.open == 0


def test_jobs_start_in_order() -> None:
    server = Server()
    virtual(run_quietly(prompts(7), ask=server.ask, concurrency=3))
    assert [prompt for _, prompt in server.asked] == list(prompts(7).values())


def test_no_jobs_no_results() -> None:
    assert virtual(run_quietly({}, ask=Server().ask)) == []


@pytest.mark.parametrize("error", [ConnectionError("refused"), StatusError("busy", status=503)])
def test_what_fails_for_a_time_is_asked_again_before_the_first_token(error: Exception) -> None:
    server = Server({"prompt 0": [error]})
    (result,) = virtual(run_quietly(prompts(1), ask=server.ask))
    assert result.state == "done"
    assert server.times_asked("prompt 0") == 2


def test_a_retry_after_holds_up_all_jobs() -> None:
    server = Server({"prompt 0": [StatusError("busy", status=429, retry_after="20")]})
    results = virtual(run_quietly(prompts(6), ask=server.ask, concurrency=2))
    assert set(states(results)) == {"done"}
    before, after = server.asked[:2], server.asked[2:]
    assert [at for at, _ in before] == [0, 0]
    assert all(at >= 20 for at, _ in after)


def test_told_to_wait_for_hours_a_job_fails_instead() -> None:
    error = StatusError("no quota", status=429, retry_after="86400")
    server = Server({"prompt 0": [error]})
    results = virtual(run_quietly(prompts(2), ask=server.ask))
    assert states(results) == ["failed", "done"]
    assert results[0].error is error


def test_what_fails_for_good_is_asked_once() -> None:
    server = Server({"prompt 0": [StatusError("no such model", status=404)]})
    (result,) = virtual(run_quietly(prompts(1), ask=server.ask))
    assert result.state == "failed"
    assert server.times_asked("prompt 0") == 1
    assert (result.usage, result.cost) == (None, 0)


def test_the_attempts_are_counted() -> None:
    server = Server({"prompt 0": [ConnectionError("refused")] * 9})
    (result,) = virtual(run_quietly(prompts(1), ask=server.ask, attempts=3))
    assert result.state == "failed"
    assert server.times_asked("prompt 0") == 3


# On the way


def test_start_text_and_result_are_told_as_they_come() -> None:
    told: list[object] = []
    results = virtual(
        run_quietly(
            prompts(1),
            ask=Server().ask,
            on_start=told.append,
            on_text=lambda *text: told.append(text),
            on_result=told.append,
        )
    )
    assert told == ["job 0", ("job 0", "A"), ("job 0", " of "), ("job 0", "prompt 0"), *results]


def test_an_error_of_the_reader_stops_the_batch_at_once() -> None:
    server = Server()

    def on_text(key: str, text: str) -> None:
        raise KeyError("a misspelled name")

    async def main() -> None:
        with pytest.raises(KeyError, match="a misspelled name"):
            await run_quietly(prompts(9), ask=server.ask, concurrency=2, on_text=on_text)
        assert server.open == 0

    virtual(main())
    assert len(server.asked) == 2


def test_a_stream_of_chunks_is_no_stream_of_text() -> None:
    async def ask(prompt: Any) -> AsyncIterator[Any]:
        yield {"choices": []}

    with pytest.raises(TypeError, match="stream of text, this one gives dict"):
        virtual(run_quietly(prompts(3), ask=ask))


def test_cancelled_it_leaves_no_stream_open_and_no_task() -> None:
    server = Server(every=10)

    async def main() -> None:
        batch = asyncio.create_task(run_quietly(prompts(9), ask=server.ask, concurrency=4, per_minute=3))
        await asyncio.sleep(15)
        assert server.open == 3
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        assert server.open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual(main())


async def test_it_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    await run_batch(prompts(3), ask=Server(every=0).ask)
    assert set(threading.enumerate()) == before


def test_the_bar_shows_how_many_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    virtual(run_batch(prompts(3), ask=Server().ask))
    assert "3/3" in capsys.readouterr().err


def test_without_progress_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    virtual(run_quietly(prompts(3), ask=Server().ask))
    assert capsys.readouterr() == ("", "")


def test_the_report_says_what_has_no_answer_and_why() -> None:
    results = [
        Result("a", "done", cost=2.5),
        Result("b", "failed", cost=0.5, error=ConnectionError("cut")),
        Result("c", "not run"),
        *[Result(key, "failed", error=KeyError("x")) for key in "defgh"],
    ]
    assert report(results).splitlines() == [
        "1 done, 6 failed, 1 not run; 3 spent",
        "b: ConnectionError: cut",
        "d, e, f …: KeyError: 'x'",
    ]
    assert report([]) == "no jobs; 0 spent"


# The rate


@given(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=15), st.integers(1, 6))
@settings(max_examples=40)
def test_never_more_requests_than_the_limit_in_any_window_attempts_included(
    limit: int, fail: list[bool], concurrency: int
) -> None:
    errors: dict[str, list[Exception]] = {
        f"prompt {n}": [ConnectionError("refused")] for n, failing in enumerate(fail) if failing
    }
    server = Server(errors, every=0.3)
    jobs = prompts(len(fail))
    results = virtual(
        run_quietly(jobs, ask=server.ask, concurrency=concurrency, per_minute=limit * 6, window=10.0)
    )
    assert set(states(results)) == {"done"}
    instants = [at for at, _ in server.asked]
    assert all(sum(start <= at <= start + 10 for at in instants) <= limit for start in instants)


def test_a_window_is_a_minute_unless_told() -> None:
    server = Server(every=0.01)
    virtual(run_quietly(prompts(5), ask=server.ask, per_minute=2))
    assert [int(at // 60) for at, _ in server.asked] == [0, 0, 1, 1, 2]


def test_tokens_are_reserved_and_what_was_not_used_is_given_back() -> None:
    async def ask(prompt: Any) -> AsyncIterator[str]:
        asked.append(now())
        await asyncio.sleep(1)
        yield "short"

    asked: list[float] = []
    each = count_message_tokens([{"role": "user", "content": "prompt 0"}]) + 100
    virtual(run_quietly(prompts(3), ask=ask, concurrency=3, tokens_per_minute=2 * each, answer_tokens=100))
    assert asked == pytest.approx([0, 0, 1])  # the third waits for an answer, not for a minute


def test_what_the_server_reports_counts() -> None:
    class Answer:
        def __init__(self) -> None:
            self.usage = {"prompt_tokens": 30, "completion_tokens": 1000}  # it has thought, out of sight

        async def __aiter__(self) -> AsyncIterator[str]:
            yield "short"

    (result,) = virtual(run_quietly({"a": "x"}, ask=lambda prompt: Answer(), price=Price(1.0, 2.0)))
    assert result.usage == TokenUsage(30, 1000, source="api")
    assert result.cost == pytest.approx((30 * 1.0 + 1000 * 2.0) / 1e6)


def test_an_answer_that_nobody_can_count_is_an_answer_still() -> None:
    async def ask(prompt: Any) -> AsyncIterator[str]:
        yield "a cat"

    picture = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    (result,) = virtual(run_quietly({"a": [{"role": "user", "content": [picture]}]}, ask=ask))
    assert (result.state, result.text, result.usage) == ("done", "a cat", None)


def test_a_prompt_that_never_fits_fails_alone() -> None:
    jobs = {"a": "short", "b": "very long " * 1000, "c": "short"}
    results = virtual(run_quietly(jobs, ask=Server().ask, tokens_per_minute=500, answer_tokens=10))
    assert states(results) == ["done", "failed", "done"]
    assert "never fits into a limit of 500" in str(results[1].error)


# The budget


def most(prompt: str, answer: int) -> int:
    return count_message_tokens([{"role": "user", "content": prompt}]) + answer


@given(st.integers(0, 400), st.integers(1, 5))
@settings(max_examples=40)
def test_the_budget_is_never_exceeded_and_ends_the_batch(budget: int, concurrency: int) -> None:
    results = virtual(
        run_quietly(prompts(12), ask=Server().ask, concurrency=concurrency, budget=budget, answer_tokens=20)
    )
    spent = sum(result.cost for result in results)
    assert spent <= budget
    done = states(results).count("done")
    assert states(results) == ["done"] * done + ["not run"] * (12 - done)
    if done < 12:
        assert spent + most("prompt 0", 20) > budget  # one more would not have fitted


def test_the_first_job_that_does_not_fit_ends_the_batch_also_for_smaller_ones() -> None:
    jobs = {"a": "short", "b": "a very long prompt " * 50, "c": "short"}
    results = virtual(run_quietly(jobs, ask=Server().ask, concurrency=3, budget=150, answer_tokens=10))
    assert states(results) == ["done", "not run", "not run"]


def test_a_budget_in_money() -> None:
    price = Price(input=2.0, output=8.0)
    one = (most("prompt 0", 0) * 2.0 + 5 * 8.0) / 1e6
    results = virtual(
        run_quietly(prompts(9), ask=Server().ask, concurrency=1, budget=3 * one, price=price, answer_tokens=5)
    )
    assert states(results)[:4] == ["done", "done", "done", "not run"]
    assert sum(result.cost for result in results) <= 3 * one


def test_what_has_run_is_told_and_kept_when_the_budget_ends(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    batch = partial(run_quietly, prompts(9), answer_tokens=10, path=path)
    virtual(batch(ask=Server().ask, budget=2 * most("prompt 0", 10)))
    server = Server()
    results = virtual(batch(ask=server.ask))
    assert set(states(results)) == {"done"}
    assert len(server.asked) == 7


def test_what_was_spent_before_counts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    budget = 3 * most("prompt 0", 10)
    batch = partial(run_quietly, answer_tokens=10, path=path, budget=budget)
    first = virtual(batch(prompts(3), ask=Server().ask))
    again = virtual(batch(prompts(9), ask=Server().ask))
    assert states(first) == ["done"] * 3
    assert sum(result.cost for result in again) <= budget


# The file


def test_what_is_in_the_file_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = virtual(run_quietly(prompts(3), ask=Server().ask, path=path))
    server = Server()
    told: list[Result] = []
    again = virtual(run_quietly(prompts(4), ask=server.ask, path=path, on_result=told.append))
    assert [prompt for _, prompt in server.asked] == ["prompt 3"]
    assert [(result.text, result.usage, result.cost) for result in again[:3]] == [
        (result.text, result.usage, result.cost) for result in first
    ]
    assert [result.key for result in told] == list(prompts(4))


def test_failed_jobs_and_changed_prompts_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    server = Server({"prompt 1": [ValueError("no")]})
    virtual(run_quietly(prompts(3), ask=server.ask, path=path))
    server = Server()
    results = virtual(run_quietly(prompts(3) | {"job 2": "another prompt"}, ask=server.ask, path=path))
    assert [prompt for _, prompt in server.asked] == ["prompt 1", "another prompt"]
    assert [result.text for result in results] == ["A of prompt 0", "A of prompt 1", "A of another prompt"]


def test_a_prompt_may_be_messages(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"

    async def ask(prompt: Any) -> AsyncIterator[str]:
        asked.append(prompt)
        yield "yes"

    asked: list[object] = []
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    for _ in range(2):
        virtual(run_quietly({"a": messages}, ask=ask, path=path, budget=500, answer_tokens=5))
    assert asked == [messages]


@given(st.data())
@settings(max_examples=40)
def test_wherever_the_file_is_cut_off_whole_lines_count_and_half_ones_do_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "answers.jsonl"
    virtual(run_quietly(prompts(4), ask=Server().ask, concurrency=1, path=path))
    whole = path.read_bytes()
    left = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(left)
    ends = [n for n, byte in enumerate(whole) if byte == ord("\n")]
    server = Server()
    results = virtual(run_quietly(prompts(4), ask=server.ask, path=path))
    assert set(states(results)) == {"done"}
    assert len(server.asked) == sum(end > len(left) for end in ends)
    # and a third time: nothing is left to ask, the half line does no harm
    server = Server()
    assert virtual(run_quietly(prompts(4), ask=server.ask, path=path)) != []
    assert server.asked == []


def test_the_bar_begins_where_the_last_run_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answers.jsonl"
    virtual(run_quietly(prompts(2), ask=Server().ask, path=path))
    virtual(run_batch(prompts(3), ask=Server().ask, path=path))
    assert "2/3" in (shown := capsys.readouterr().err)
    assert "3/3" in shown


@pytest.mark.parametrize("content", ["my notes\n", '{"name": "x"}\n', '{"key": "a"}\nmy notes\n', "[1, 2]"])
def test_a_file_with_something_else_in_it_is_not_touched(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds something else than answers"):
        virtual(run_quietly(prompts(1), ask=Server().ask, path=path))
    assert path.read_text() == content


def test_any_text_comes_back_from_the_file(tmp_path: Path) -> None:
    strange = "line\nbreak \u2028 \x00 \ud800 🎉 </script>"

    async def ask(prompt: Any) -> AsyncIterator[str]:
        yield strange

    for _ in range(2):
        (result,) = virtual(run_quietly({strange: "x"}, ask=ask, path=tmp_path / "a.jsonl"))
        assert (result.key, result.text) == (strange, strange)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from streamlib.batch import run_batch

folder, last_piece = Path(sys.argv[1]), int(sys.argv[2])
pieces = 0

async def ask(prompt):
    global pieces
    with (folder / "asked.txt").open("a") as log:
        log.write(prompt + "\\n")
    for word in ("an ", "answer ", "to ", prompt):
        await asyncio.sleep(0.001)
        pieces += 1
        if pieces == last_piece:
            os.kill(os.getpid(), signal.SIGKILL)
        yield word

jobs = {f"job {n}": f"prompt {n}" for n in range(60)}
results = asyncio.run(run_batch(jobs, ask=ask, concurrency=4, path=folder / "answers.jsonl", progress=False))
print([result.text for result in results] == [f"an answer to prompt {n}" for n in range(60)])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_again_and_again_no_answer_on_disk_is_paid_twice(tmp_path: Path) -> None:
    def run(last_piece: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(last_piece)]
        return subprocess.run(command, capture_output=True, text=True)

    kills = (1, 18, 103)
    for last_piece in kills:
        assert run(last_piece).returncode == -signal.SIGKILL
    last = run(0)
    assert last.stdout == "True\n", last.stderr
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    keys = [json.loads(line)["key"] for line in lines if line.endswith(b"}")]
    assert sorted(keys) == sorted(f"job {n}" for n in range(60)), "one was asked for that was there"
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    assert 60 < len(asked) <= 60 + 4 * len(kills), "more was lost than was on its way"


# Settings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"concurrency": 0}, "at least 1, got 0"),
        ({"budget": 5.0}, "need answer_tokens"),
        ({"tokens_per_minute": 5.0}, "need answer_tokens"),
        ({"per_minute": 10, "window": 1.0}, "less than 1 in 1 s: take a longer window"),
        ({"per_minute": 0}, "per_minute=0 is less than 1"),
        ({"attempts": 0}, "at least 1, got 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        virtual(run_quietly(prompts(1), ask=Server().ask, **wrong))


# With the real client


async def test_with_stream_chat_and_a_server_that_fails_some() -> None:
    headers = iter(["", "status=429", "cut-after=3", "status=400", *[""] * 20])

    async def some_fail(request: httpx2.Request) -> None:
        request.headers["X-Sim-Fault"] = next(headers)

    transport = SimTransport(Simulator(profile="fast"))
    async with httpx2.AsyncClient(transport=transport, event_hooks={"request": [some_fail]}) as client:
        ask = partial(stream_chat, model="sim-1", base_url="http://sim/v1", client=client, max_tokens=20)
        results = await run_quietly(
            prompts(6), ask=ask, concurrency=6, budget=10_000, answer_tokens=20, per_minute=6000
        )
    assert sorted(states(results)) == ["done"] * 4 + ["failed"] * 2
    done = [result for result in results if result.state == "done"]
    assert all(result.usage and result.usage.source == "api" and result.usage.output <= 20 for result in done)
    cut = [result for result in results if result.state == "failed" and result.text]
    assert len(cut) == 1
    assert cut[0].usage is not None
    assert cut[0].usage.source == "counted"
