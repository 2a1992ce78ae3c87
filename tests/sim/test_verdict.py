"""What the server thinks of its client: rule by rule, through the simulator, and as a card."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAIError

from streamlib.connect import Model
from streamlib.sim import SimTransport, Simulator
from streamlib.sim.core import retry_after
from streamlib.sim.faults import FAULTS, STRIKES
from streamlib.sim.model import Message
from streamlib.sim.verdict import (
    BROKEN,
    MANY,
    RULES,
    UNKNOWN,
    Check,
    ClientReport,
    Exchange,
    group,
    heads_of,
    judge,
)

from .talk import NOW, body_of, json_of, request
from .test_transport import on_virtual_clock

# --- rules, on exchanges made by hand --------------------------------------------------------------

WORDS = heads_of([Message("user", "Hello")])
REST = heads_of([Message("user", "Hello"), Message("assistant", "Hel")])
LONGER_REST = heads_of([Message("user", "Hello"), Message("assistant", "Hello wor")])
LONGER = heads_of([Message("user", "Hello"), Message("assistant", "Hel"), Message("user", "Go on")])


def seen(*exchanges: dict[str, Any]) -> ClientReport:
    """The report about exchanges that end at once unless they say otherwise; ``at`` is the seconds."""
    made = []
    for number, fields in enumerate(exchanges, 1):
        at = fields.get("at", float(number))
        made.append(
            Exchange(**{"number": number, "at": at, "ended": at, "finished": True, "heads": WORDS, **fields})
        )
    return judge(made)


def bad(status: int | None, at: float, **fields: Any) -> dict[str, Any]:
    return {"status": status, "at": at, **fields}


OK = {"at": 30.0}
CUT = {"fault": "cut-after", "stream": True, "delivered": 3, "made": 3}
HALF = {"fault": "truncate-after", "stream": True, "delivered": 3, "made": 3}
SILENT = {"fault": "stall-after", "stream": True, "finished": False}


def crowd(n: int, *, failed: float, back: float) -> list[dict[str, Any]]:
    """Requests that fail one after another, ``failed`` seconds apart, and come back ``back`` apart."""
    return [bad(503, failed * i, asked=i) for i in range(n)] + [
        {"at": 2 + back * i, "asked": i} for i in range(n)
    ]


CASES: list[tuple[str, list[dict[str, Any]], int | None]] = [
    # rule, exchanges, how often it was broken (None: it was not put to the test)
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), {"at": 0.5}], 1),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), {"at": 1.99}], 0),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), bad(429, 1, retry_after=2.0), {"at": 2.0}], 2),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0)], None),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), {"at": 0.5, "asked": 7}], None),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), {"at": 0.5, "client": "other"}], None),
    ("retry-after-ignored", [bad(429, 0, retry_after=2.0), {"at": 0.5, "scene": 1}], None),
    ("retry-after-ignored", [bad(429, 0, retry_after=90.0), {"at": 80.0}], 1),
    ("retry-after-ignored", [bad(429, 0, retry_after=90.0), {"at": 151.0}], None),  # another question
    ("retried-for-nothing", [bad(400, 0), OK], 1),
    ("retried-for-nothing", [bad(401, 0), bad(401, 1), OK], 2),
    ("retried-for-nothing", [bad(404, 0)], 0),
    ("retried-for-nothing", [bad(503, 0), OK], None),
    ("retry-storm", [bad(503, i) for i in range(MANY + 1)], 1),
    ("retry-storm", [bad(503, i) for i in range(MANY)], 0),
    ("retry-storm", [bad(503, 0)], None),
    ("no-delay", [bad(503, 0), bad(503, 0.01), bad(503, 0.02)], 1),
    ("no-delay", [bad(503, 0), {"at": 0.01}], 0),  # one retry at once may be luck
    ("no-delay", [bad(503, 0), bad(503, 0.01), bad(503, 1)], 0),
    ("no-delay", [bad(429, 0, retry_after=0.0), bad(429, 0.01, retry_after=0.0), OK], None),
    ("no-backoff", [bad(503, 0), bad(503, 1), {"at": 2.01}], 1),
    ("no-backoff", [bad(503, 0), bad(503, 1), {"at": 3}], 0),
    ("no-backoff", [bad(503, 0), bad(503, 2), {"at": 3}], 0),  # by chance a shorter one
    ("no-backoff", [bad(503, 0), OK], None),
    ("herd", crowd(5, failed=0.1, back=0.1), 1),
    ("herd", crowd(5, failed=0.1, back=0.5), 0),
    ("herd", [bad(503, 0, asked=i) for i in range(5)] + [{"at": 0.009 * i, "asked": i} for i in range(5)], 1),
    ("herd", crowd(4, failed=0.1, back=0.1), None),
    ("herd", crowd(5, failed=2.0, back=2.0), None),  # they did not fail together
    ("gave-up", [bad(429, 0, retry_after=2.0)], 1),
    ("gave-up", [bad(None, 0, heads=())], 1),
    ("gave-up", [CUT], 1),
    ("gave-up", [SILENT | {"silent_since": 1.0}], 1),
    ("gave-up", [bad(503, 0), bad(503, 1)], 0),
    ("gave-up", [CUT, {"heads": LONGER, "asked": 2}], 0),
    ("gave-up", [CUT, CUT | {"heads": REST, "asked": 2}], 1),  # and gave up after that
    ("gave-up", [CUT, CUT | {"heads": REST, "asked": 2}, {"heads": LONGER_REST, "asked": 3}], 0),
    ("gave-up", [bad(429, 0, retry_after=121.0)], None),
    ("gave-up", [bad(400, 0)], None),
    ("truncated-accepted", [HALF], 1),
    ("truncated-accepted", [HALF, {"asked": 2, "heads": (1,)}], 1),
    ("truncated-accepted", [HALF, {"at": 3.0}], 0),
    ("truncated-accepted", [HALF, {"at": 3.0, "scene": 1}], 1),
    ("truncated-accepted", [HALF, {"heads": LONGER, "asked": 2}], 0),
    ("truncated-accepted", [HALF, {"heads": LONGER, "asked": 2, "client": "other"}], 1),
    ("truncated-accepted", [HALF | {"finished": False}], None),  # the client left before it happened
    ("bad-chunk-skipped", [{"fault": "bad-json", "stream": True}], 1),
    ("bad-chunk-skipped", [{"fault": "bad-json", "stream": True, "finished": False}], 0),
    ("bad-chunk-skipped", [{"fault": "bad-json", "stream": True}, {"heads": LONGER, "asked": 2}], 0),
    ("no-timeout", [SILENT | {"at": 0.0, "silent_since": 1.0, "ended": 31.0}], 1),
    ("no-timeout", [SILENT | {"at": 0.0, "silent_since": 1.0, "ended": 3.0}], 0),
    ("left-open", [{"stream": True, "ended": None, "finished": False}], 1),
    ("left-open", [{"stream": True, "finished": False}], 0),
    ("left-open", [{"stream": True}], None),
    ("left-open", [SILENT | {"silent_since": 1.5, "ended": 9.0}, {"at": 3.0}], 1),
    ("left-open", [SILENT | {"silent_since": 1.5, "ended": 2.9}, {"at": 3.0}], 0),
    ("paid-unread", [{"finished": False, "made": 40}], 1),
    ("paid-unread", [{"finished": False, "made": 40, "delivered": 40, "stream": True}], 0),
    ("paid-unread", [{"made": 40, "delivered": 40}], None),
    ("asked-twice", [CUT, OK], 1),
    ("asked-twice", [CUT, {"heads": LONGER, "asked": 2}], 0),
    ("asked-twice", [CUT, {"heads": LONGER, "asked": 2}, OK], 0),  # resumed; then the same once more
    ("asked-twice", [CUT, OK, {"heads": LONGER, "asked": 2}], 1),
    ("asked-twice", [CUT | {"delivered": 0}, OK], None),
    ("asked-twice", [{"stream": True, "delivered": 9}, OK], None),  # asking the same again is no mistake
]  # fmt: skip


@pytest.mark.parametrize(("rule", "exchanges", "count"), CASES)
def test_a_rule(rule: str, exchanges: list[dict[str, Any]], count: int | None) -> None:
    found = {check.id: check for check in seen(*exchanges).checks}
    assert (found[rule].count if rule in found else None) == count


def test_every_rule_has_a_case_that_breaks_it_and_one_that_keeps_it() -> None:
    for rule in RULES:
        counts = [count for name, _, count in CASES if name == rule.id]
        assert 0 in counts
        assert any(counts), rule.id


def test_a_well_behaved_client_has_no_findings() -> None:
    report = seen({}, {"asked": 2}, bad(429, 10, retry_after=1.0), {"at": 11.1})
    assert report.passed
    assert report.findings == ()
    assert (report.requests, report.answers, report.failures) == (4, 3, 1)


def test_requests_that_run_at_the_same_time_are_no_retries() -> None:
    together = [Exchange(number=i, status=503, at=0.0, ended=1.0, finished=True) for i in range(1, 5)]
    assert len(group(together)) == 4


def test_a_retry_belongs_to_the_attempt_that_failed_last() -> None:
    one, other = (Exchange(number=i, status=503, at=0.0, ended=float(i)) for i in (1, 2))
    retry = Exchange(number=3, at=5.0)
    assert group([one, other, retry]) == [[one], [other, retry]]


def test_what_breaks_an_answer_is_a_fault_that_exists() -> None:
    assert set(STRIKES) >= BROKEN
    assert set(FAULTS) >= BROKEN


def test_a_longer_conversation_is_known_by_its_beginning() -> None:
    assert WORDS[0] in LONGER
    assert WORDS[0] not in heads_of([Message("user", "Hello!"), Message("assistant", "Hel")])
    assert len(heads_of([Message("user", str(i)) for i in range(50)])) == 4
    assert heads_of([]) == ()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2", 2.0), ("0.25", 0.25), ("1e+03", 1000.0), ("Mon, 18 Nov 2026 05:20:10 GMT", None)],
)
def test_the_wait_that_an_answer_names_is_read_back(said: str, seconds: float | None) -> None:
    found = retry_after([("retry-after", said)], NOW)
    assert found is not None
    if seconds is not None:
        assert found == seconds
    assert retry_after([], NOW) is None


# --- through the simulator -------------------------------------------------------------------------


def report_on(work: Callable[[AsyncOpenAI], Awaitable[None]], fault: str, count: int = 1) -> ClientReport:
    """Let ``work`` meet a fault on a virtual clock; what the server thinks of it."""

    async def main() -> ClientReport:
        simulator = Simulator(profile="fast")
        setting = request({"fault": fault, "count": count}, path="/sim/faults")
        assert simulator.respond(setting, NOW).status == 200
        http = httpx2.AsyncClient(transport=SimTransport(simulator))
        client = AsyncOpenAI(base_url="http://sim/v1", api_key="none", http_client=http, max_retries=0)
        client._platform = "Linux"  # else it asks a thread
        with suppress(OpenAIError):
            await work(client)
        found = json_of(simulator.respond(request(method="GET", path="/sim/verdict"), NOW))
        await http.aclose()
        return ClientReport.from_dict(found)

    return on_virtual_clock(main)


async def reads(client: AsyncOpenAI) -> str:
    text = ""
    async with await client.chat.completions.create(
        model="sim-1", messages=[{"role": "user", "content": "What is SSE?"}], stream=True
    ) as stream:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    return text


async def reads_once(client: AsyncOpenAI) -> None:
    await reads(client)


async def hammers(client: AsyncOpenAI) -> None:
    for _ in range(3):
        try:
            await reads(client)
            return
        except OpenAIError:
            await asyncio.sleep(0.01)


async def backs_off(client: AsyncOpenAI) -> None:
    for attempt in range(4):
        try:
            await reads(client)
            return
        except OpenAIError:
            await asyncio.sleep(2**attempt + random.Random(attempt).random())


async def trusts_the_sdk(client: AsyncOpenAI) -> None:
    await reads(client.with_options(max_retries=2))


async def blocks_with_a_timeout(client: AsyncOpenAI) -> None:
    await client.chat.completions.create(
        model="sim-1", messages=[{"role": "user", "content": "Write 2000 tokens about SSE"}], timeout=1.0
    )


@pytest.mark.parametrize(
    ("work", "fault", "count", "ids"),
    [
        (reads_once, "crlf", 1, set()),
        (hammers, "status=429; retry-after=2", 1, {"retry-after-ignored"}),
        (hammers, "status=400", 9, {"retried-for-nothing", "no-delay"}),
        (hammers, "status=503", 9, {"no-delay"}),
        (hammers, "refuse", 9, {"no-delay"}),
        (hammers, "cut-after=5", 1, {"asked-twice"}),
        (backs_off, "status=429; retry-after=1", 2, set()),
        (backs_off, "status=503", 2, set()),
        (trusts_the_sdk, "status=429; retry-after=2", 2, set()),
        (trusts_the_sdk, "status=503", 2, set()),
        (reads_once, "status=503", 1, {"gave-up"}),
        (reads_once, "truncate-after=5", 1, {"truncated-accepted"}),
        (reads_once, "status=400", 1, set()),
        (reads_once, "stall-after=5", 1, {"gave-up", "no-timeout"}),  # the SDK's limit is 600 s
        (blocks_with_a_timeout, "slow-first-byte=2", 1, set()),  # nothing had been made
        (blocks_with_a_timeout, "crlf", 1, {"paid-unread"}),
    ],
)
def test_a_client_is_found_out(
    work: Callable[[AsyncOpenAI], Awaitable[None]], fault: str, count: int, ids: set[str]
) -> None:
    assert report_on(work, fault, count).ids == ids


def verdict_of(simulator: Simulator, query: str = "", method: str = "GET") -> dict[str, Any]:
    asked = request(method=method, path="/sim/verdict")
    return json_of(
        simulator.respond(type(asked)(asked.method, asked.path, asked.headers, asked.body, query), NOW)
    )


def answered(simulator: Simulator, body: object = None, **headers: str) -> None:
    response = simulator.respond(request(body if body is not None else body_of(), **headers), NOW)
    with response.delivery as delivery:
        for frame in response.frames:
            delivery.made(frame)
            delivery.sent(frame)
        delivery.finished = True


def test_clients_are_told_apart_by_a_header() -> None:
    simulator = Simulator()
    answered(simulator, x_sim_client="one")
    answered(simulator, x_sim_client="other", x_sim_fault="status=503")
    assert verdict_of(simulator)["requests"] == 2
    assert verdict_of(simulator, "client=one")["findings"] == []
    assert [finding["id"] for finding in verdict_of(simulator, "client=other")["findings"]] == ["gave-up"]
    assert verdict_of(simulator, "client=nobody")["requests"] == 0


def test_setting_faults_begins_a_scene() -> None:
    simulator = Simulator()
    for fault in ("status=400", "truncate-after=2"):
        set_faults = request({"fault": fault}, path="/sim/faults")
        assert simulator.respond(set_faults, NOW).status == 200
        answered(simulator, body_of(stream=True))
    simulator.respond(request(method="DELETE", path="/sim/faults"), NOW)
    answered(simulator, body_of(stream=True))
    assert [finding["id"] for finding in verdict_of(simulator)["findings"]] == ["truncated-accepted"]


def test_the_record_can_begin_anew() -> None:
    simulator = Simulator()
    answered(simulator, x_sim_fault="status=503")
    assert verdict_of(simulator, method="DELETE")["requests"] == 0
    answered(simulator)
    assert verdict_of(simulator)["requests"] == 1


def test_a_request_that_is_no_question_is_not_in_the_record() -> None:
    simulator = Simulator()
    for path in ("/v1/models", "/sim/stats", "/"):
        with simulator.respond(request(method="GET", path=path), NOW).delivery:
            pass
    assert verdict_of(simulator)["requests"] == 0


def test_a_wrong_address_repeated_is() -> None:
    simulator = Simulator()
    for _ in range(2):
        response = simulator.respond(request(body_of(), path="/chat/completions"), NOW)
        with response.delivery as delivery:
            delivery.finished = True
    assert [finding["id"] for finding in verdict_of(simulator)["findings"]] == ["retried-for-nothing"]


def test_the_record_is_bounded() -> None:
    simulator = Simulator()
    for _ in range(1100):
        answered(simulator, b"{")
    assert verdict_of(simulator)["requests"] == 1000


# --- the card --------------------------------------------------------------------------------------


def test_a_report_survives_json() -> None:
    report = seen(bad(400, 0), OK, {"asked": 5, "stream": True, "ended": None, "finished": False})
    assert report.findings
    assert ClientReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_a_finding_says_how_often_and_gives_an_example() -> None:
    report = seen(bad(429, 0, retry_after=2.0), {"at": 0.5})
    (finding,) = report.findings
    assert (finding.id, finding.sure, finding.met, finding.requests) == ("retry-after-ignored", True, 1, (2,))
    assert finding.what.startswith("Came back before the time that Retry-After said.")
    assert "Request 2 came 0.50 s after a 429 that said 2 s." in finding.what


def test_several_times_are_counted() -> None:
    (finding,) = seen(*[bad(429, i, retry_after=2.0) for i in (0.0, 0.5, 2.6)], {"at": 3.0}).findings
    assert (finding.met, finding.requests) == (3, (2, 4))
    assert "(2 of 3 times)" in finding.what


def test_what_is_certain_comes_first_and_decides() -> None:
    doubt, mistake = (
        seen(HALF),
        seen(HALF, bad(400, 9, asked=2, heads=()), {"at": 10.0, "asked": 2, "heads": ()}),
    )
    assert doubt.passed
    assert not mistake.passed
    assert [finding.sure for finding in mistake.findings] == [True, False]


@pytest.mark.parametrize(
    ("report", "sign", "says"),
    [
        (seen(), "○", "The server has seen no request of your client"),
        (seen(OK), "✓", "The server has no complaint about your client"),
        (seen(HALF), "○", "no mistake, 1 doubt"),
        (seen(bad(400, 0), OK), "✗", "1 mistake"),
        (UNKNOWN, "○", "Only the embedded model says"),
    ],
)
def test_the_card(report: ClientReport, sign: str, says: str) -> None:
    assert repr(report).startswith(sign)
    assert says in repr(report)
    assert says in report._repr_html_()


def test_the_card_says_what_was_done_well() -> None:
    assert "✓ Waited as long as Retry-After said." in repr(seen(bad(429, 0, retry_after=2.0), {"at": 2.5}))


def test_a_clients_name_is_text() -> None:
    report = ClientReport("<b>", 1, 1, 0, 0, 0, (Check("x", True, 1, (1,), "<i>", "<u>"),))
    for tag in ("<i>", "<u>", "<b>&"):
        assert tag not in report._repr_html_()
    assert "&lt;b&gt;" in report._repr_html_()


# --- from a notebook -------------------------------------------------------------------------------


def test_a_model_reports_on_its_client(sim_server: str) -> None:
    model = Model("sim-1", sim_server, is_simulated=True)
    headers = {"X-Sim-Client": "test_verdict", "X-Sim-Fault": "truncate-after=3"}
    httpx2.post(f"{sim_server}/chat/completions", json=body_of(stream=True), headers=headers)
    report = model.report("test_verdict")
    assert report.ids == {"truncated-accepted"}
    assert report.client == "test_verdict"


def test_a_stream_that_was_closed_this_very_moment_is_not_left_open(sim_server: str) -> None:
    model = Model("sim-1", sim_server, is_simulated=True)
    headers = {"X-Sim-Client": "test_verdict_open"}
    body = body_of("Write 2000 tokens about streaming", stream=True)
    url = f"{sim_server}/chat/completions"
    with httpx2.Client() as http:
        with http.stream("POST", url, json=body, headers=headers) as response:
            chunks = response.iter_raw()
            next(chunks)
            assert model.report("test_verdict_open").ids == {"left-open"}
        assert model.report("test_verdict_open").ids == set()


def test_another_server_says_nothing() -> None:
    model = Model("gpt", "http://127.0.0.1:9/v1", is_simulated=False)
    model.forget()
    assert model.report() is UNKNOWN
