"""Routes, keys, seeds, schedules, pending faults and counts, all without I/O."""

from __future__ import annotations

from typing import Any

import pytest

from streamlib.sim.core import MAX_BODY_BYTES, Simulator
from streamlib.sim.model import ApiError, Frame
from streamlib.sim.stats import Delivery, Stats
from streamlib.sim.timing import PROFILES

from .talk import NOW, ask, body_of, chunks_of, error_of, frames, json_of, request, text_of

# --- seeds and schedules ---------------------------------------------------------------------------


def schedule(**fields: Any) -> list[tuple[float, bytes]]:
    return [(frame.at, frame.data) for frame in frames(ask(**fields))]


def test_the_same_request_has_the_same_text_and_schedule() -> None:
    assert schedule() == schedule()


def test_another_seed_has_another_schedule() -> None:
    assert schedule(seed=1) == schedule(seed=1)
    assert schedule(seed=1) != schedule(seed=2)


def test_another_prompt_has_another_schedule() -> None:
    assert [at for at, _ in schedule()] != [at for at, _ in schedule(prompt="What is SSE")]


def test_the_seed_header_wins_over_the_body() -> None:
    def at(body_seed: int, **headers: str) -> list[float]:
        response = Simulator().respond(request(body_of(seed=body_seed, stream=True), **headers), NOW)
        return [frame.at for frame in response.frames]

    assert at(1, x_sim_seed="2") == at(2)


def test_a_limit_cuts_the_answer_and_leaves_its_beginning_as_it_was() -> None:
    whole, short = schedule(), schedule(max_tokens=10)
    assert [at for at, _ in short[:5]] == [at for at, _ in whole[:5]]


def test_headers_role_first_token_and_the_rest_come_in_this_order() -> None:
    response = ask()
    made = frames(response)
    times = [frame.at for frame in made]
    first = next(frame.at for frame in made if frame.sent)
    assert response.headers_at is not None
    assert 0 < response.headers_at < times[0] < first
    assert times == sorted(times)


@pytest.mark.parametrize("name", PROFILES)
def test_a_blocking_answer_takes_as_long_as_the_stream(name: str) -> None:
    simulator = Simulator(profile=name)
    streamed, whole = frames(ask(simulator=simulator)), frames(ask(simulator=simulator, stream=False))
    assert whole[-1].at == streamed[-1].at
    assert all(not frame.data for frame in whole[:-1])
    assert sum(frame.made for frame in whole) == whole[-1].sent


def test_the_profile_header_wins_over_the_servers() -> None:
    def last(**headers: str) -> float:
        response = Simulator(profile="fast").respond(request(body_of(stream=True), **headers), NOW)
        return list(response.frames)[-1].at

    assert last(x_sim_profile="slow") > 3 * last()


@pytest.mark.parametrize("name", PROFILES)
def test_a_usual_answer_takes_less_than_ten_seconds(name: str) -> None:
    simulator = Simulator(profile=name)
    seconds = [frames(ask(simulator=simulator, seed=seed))[-1].at for seed in range(20)]
    assert sorted(seconds)[17] < 10


# --- routes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/v1/chat/completions", 405, "use POST"),
        ("DELETE", "/v1/models", 405, "use GET"),
        ("POST", "/sim/stats", 405, "use GET"),
        ("GET", "/v2/models", 404, "nothing at /v2/models"),
        ("POST", "/chat/completions", 404, "Does your base_url end in /v1?"),
        ("GET", "/v1/models/gpt-9", 404, "/v1/models/sim-1"),
    ],
)
def test_a_wrong_turn_is_told_the_way(method: str, path: str, status: int, says: str) -> None:
    response = Simulator().respond(request(method=method, path=path), NOW)
    assert response.status == status
    assert says in error_of(response)["message"]
    assert ("allow" in dict(response.headers)) is (status == 405)


def test_the_models() -> None:
    listed = json_of(Simulator().respond(request(method="GET", path="/v1/models"), NOW))
    one = json_of(Simulator().respond(request(method="GET", path="/v1/models/sim-1"), NOW))
    assert listed["data"] == [one]
    assert one["id"] == "sim-1"


def test_the_headers_of_a_stream() -> None:
    simulator = Simulator()
    headers = dict(ask(simulator=simulator).headers)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert int(headers["openai-processing-ms"]) > 0
    assert headers["x-request-id"] != dict(ask(simulator=simulator).headers)["x-request-id"]


def test_a_body_that_is_too_large_is_a_413() -> None:
    response = Simulator().respond(request(b" " * (MAX_BODY_BYTES + 1)), NOW)
    assert response.status == 413
    assert str(MAX_BODY_BYTES) in error_of(response)["message"]


@pytest.mark.parametrize(
    ("header", "says"),
    [({"x_sim_profile": "warp"}, "fast, typical, slow"), ({"x_sim_seed": "x"}, "X-Sim-Seed")],
)
def test_a_header_that_makes_no_sense_is_a_400(header: dict[str, str], says: str) -> None:
    response = Simulator().respond(request(body_of(), **header), NOW)
    assert response.status == 400
    assert says in error_of(response)["message"]


def test_an_unknown_profile_is_refused_from_the_start() -> None:
    with pytest.raises(ApiError, match="congested"):
        Simulator(profile="warp")


# --- key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "Bearer wrong", "secret", "bearer secret", "Bearer sécret"])
@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/sim/stats", "/sim/faults", "/nowhere"]
)
def test_without_the_key_everything_is_a_401(given: str | None, path: str) -> None:
    headers = {} if given is None else {"authorization": given}
    response = Simulator(key="secret").respond(request(method="GET", path=path, **headers), NOW)
    assert response.status == 401
    error = error_of(response)
    assert error["code"] == "invalid_api_key"
    assert "secret" not in error["message"]


def test_with_the_key_it_answers() -> None:
    response = Simulator(key="secret").respond(
        request(method="GET", path="/v1/models", authorization="Bearer secret"), NOW
    )
    assert response.status == 200


# --- faults for the next requests ------------------------------------------------------------------


def control(simulator: Simulator, method: str, body: object = None) -> Any:
    return simulator.respond(request(body, method=method, path="/sim/faults"), NOW)


def test_a_fault_is_set_for_the_next_requests_and_then_over() -> None:
    simulator = Simulator()
    assert json_of(control(simulator, "POST", {"fault": "status=503", "count": 2})) == {
        "fault": "status=503",
        "count": 2,
    }
    statuses = [ask(simulator=simulator).status for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert json_of(control(simulator, "GET")) == {"fault": "", "count": 0}


def test_one_request_is_what_a_fault_is_set_for() -> None:
    simulator = Simulator()
    control(simulator, "POST", {"fault": "status=500"})
    assert [ask(simulator=simulator).status for _ in range(2)] == [500, 200]


def test_a_request_with_a_fault_of_its_own_does_not_use_up_the_one_that_is_set() -> None:
    simulator = Simulator()
    control(simulator, "POST", {"fault": "status=503"})
    assert ask(simulator=simulator, fault="status=429").status == 429
    assert json_of(control(simulator, "GET"))["count"] == 1


def test_other_endpoints_do_not_meet_the_fault() -> None:
    simulator = Simulator()
    control(simulator, "POST", {"fault": "status=503"})
    assert simulator.respond(request(method="GET", path="/v1/models"), NOW).status == 200


def test_a_fault_that_is_set_can_be_cleared() -> None:
    simulator = Simulator()
    control(simulator, "POST", {"fault": "status=503", "count": 9})
    assert json_of(control(simulator, "DELETE"))["count"] == 0
    assert ask(simulator=simulator).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        {},
        {"fault": 5},
        {"fault": "nonsense"},
        {"fault": "crlf", "count": 0},
        {"fault": "crlf", "count": "2"},
    ],
)
def test_a_setting_that_makes_no_sense_is_a_400_that_lists_the_faults(body: object) -> None:
    response = control(Simulator(), "POST", body)
    assert response.status == 400
    assert "The faults are: refuse" in error_of(response)["message"]


# --- counts ----------------------------------------------------------------------------------------


def deliver(response: Any, *, until: int | None = None) -> None:
    """Take an answer's frames as a server does, all of them or up to one that finds the client gone."""
    with response.delivery as delivery:
        for i, frame in enumerate(response.frames):
            if i == until:
                return
            delivery.made(frame)
            delivery.sent(frame)
        delivery.finished = True


def stats_of(simulator: Simulator) -> dict[str, Any]:
    return json_of(simulator.respond(request(method="GET", path="/sim/stats"), NOW))


def test_a_whole_stream_is_counted() -> None:
    simulator = Simulator()
    response = ask(simulator=simulator, stream_options={"include_usage": True})
    deliver(response)
    tokens = chunks_of(frames(ask(stream_options={"include_usage": True})))[-1]["usage"]["completion_tokens"]
    stats = stats_of(simulator)
    assert (stats["streams_total"], stats["streams_open"], stats["clients_left"]) == (1, 0, 0)
    assert (stats["tokens_produced"], stats["tokens_delivered"]) == (tokens, tokens)
    assert (stats["tokens_wasted"], stats["tokens_saved"]) == (0, 0)


def test_an_open_stream_is_counted_as_open() -> None:
    simulator = Simulator()
    with ask(simulator=simulator).delivery:
        assert stats_of(simulator)["streams_open"] == 1
    assert stats_of(simulator)["streams_open"] == 0


def test_a_client_that_leaves_a_stream_saves_the_tokens_that_were_not_made() -> None:
    simulator = Simulator()
    deliver(ask(simulator=simulator), until=8)
    tokens = sum(frame.made for frame in frames(ask()))
    stats = stats_of(simulator)
    assert stats["clients_left"] == 1
    assert 0 < stats["tokens_produced"] == stats["tokens_delivered"]
    assert stats["tokens_saved"] == tokens - stats["tokens_produced"] > 0
    assert stats["tokens_wasted"] == 0


def test_a_client_that_leaves_a_blocking_answer_wastes_what_was_made() -> None:
    simulator = Simulator()
    deliver(ask(simulator=simulator, stream=False), until=8)
    stats = stats_of(simulator)
    assert stats["streams_total"] == 0
    assert stats["tokens_wasted"] == stats["tokens_produced"] > 0
    assert stats["tokens_delivered"] == 0


def test_the_lag_of_the_schedule_is_told_in_seconds() -> None:
    stats, now = Stats(), [7.0]
    with Delivery(stats).timed(lambda: now[0], 5.0) as delivery:
        for i in range(100):
            now[0] = 7.0 + i / 1024
            delivery.made(Frame(2.0, b"x"))
    assert stats.as_dict()["schedule_lag"] == {"frames": 100, "p50": 50 / 1024, "p99": 99 / 1024}


def test_a_timer_that_fires_early_is_not_late() -> None:
    stats = Stats()
    with Delivery(stats).timed(lambda: 6.999, 5.0) as delivery:
        delivery.made(Frame(2.0, b"x"))
    assert stats.as_dict()["schedule_lag"] == {"frames": 1, "p50": 0.0, "p99": 0.0}


def test_nothing_sent_means_no_lag() -> None:
    assert Stats().as_dict()["schedule_lag"] == {"frames": 0, "p50": 0.0, "p99": 0.0}


def test_two_servers_do_not_share_anything() -> None:
    one, other = Simulator(), Simulator()
    control(one, "POST", {"fault": "status=503"})
    assert ask(simulator=other).status == 200
    assert text_of(frames(ask(simulator=other)))
