"""The simulated server without its sockets: an HTTP request in, a status, headers and timed frames out.

``Simulator.respond`` never waits and never reads a clock: whoever has a connection (``server.py``,
``transport.py``) waits until each frame is due, sends it, and tells ``Delivery`` so. So the same text,
timing and faults serve over a socket, inside a test on a virtual clock, and inside a browser page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from hmac import compare_digest
from itertools import count, islice
from random import Random
from typing import Any, Protocol
from urllib.parse import parse_qs
from zlib import crc32

from . import anthropic, chat, google, responses
from .answer import count_prompt, make_answer, seed_of
from .background import Job, Jobs, resume_after
from .faults import FAULTS, NO_FAULTS, Faults, break_frames, fault_list, parse_faults, status_fault
from .load import Batch, Seat, under_load
from .model import MODEL_NAME, Answer, ApiError, Ask, Frame, Labels, Piece, Request
from .stats import Delivery, Stats
from .timing import HEADERS_AT, PROFILES, ROLE_AT, Profile, due_times, pieces, time_to_first_token
from .verdict import heads_of, judge

MAX_BODY_BYTES = 1024 * 1024
MAX_CLIENT_NAME = 100


PAGE = f"""\
The simulated model of the course Token by Token: no neural network, a small text and a clock.

POST /v1/chat/completions   as with OpenAI, streaming and not; the model is {MODEL_NAME}
POST /v1/responses          the same answers in OpenAI's newer format
GET  /v1/responses/ID       of one made with "background": true; ?stream=true&starting_after=N resumes it
POST /v1/messages           in Anthropic's
POST /v1beta/models/{MODEL_NAME}:streamGenerateContent?alt=sse, :generateContent   in Google's
GET  /v1/models
GET  /sim/stats             streams, tokens produced and delivered, how late they left; DELETE forgets that
GET  /sim/verdict           what a client did wrong: waited too little, left a stream open, …;
                            ?client=NAME asks about one, DELETE begins anew
POST /sim/faults            {{"fault": "cut-after=5", "count": 2}} breaks the next two answers;
                            GET shows what is set, DELETE clears it

Headers of a request: X-Sim-Fault, X-Sim-Seed, X-Sim-Client (a name for the verdict),
X-Sim-Profile ({", ".join(PROFILES)}).

Faults, several joined by ';':
"""


@dataclass(frozen=True, slots=True)
class Response:
    """What to send. ``headers_at`` and the frames' times are seconds after the request.

    Without ``headers_at`` the headers leave with the first bytes. ``status`` None means: close the connection
    without an answer. Frames are made a few at a time, as they are asked for.
    """

    status: int | None
    headers: tuple[tuple[str, str], ...]
    frames: Iterable[Frame]
    delivery: Delivery
    headers_at: float | None = None


class Wire(Protocol):
    """A provider's format: what the modules ``chat``, ``responses``, ``anthropic`` and ``google`` have."""

    ID_PREFIX: str
    ERROR_EVENT: bytes

    def parse(self, request: Request) -> Ask: ...
    def stream(
        self, ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
    ) -> Iterator[Frame]: ...
    def body(self, answer: Answer, labels: Labels) -> bytes: ...
    def headers(self, request_id: str, seconds: float) -> tuple[tuple[str, str], ...]: ...
    def error_body(self, error: ApiError, request_id: str) -> bytes: ...
    def key_of(self, request: Request) -> str | None: ...
    def bad_key(self, given: str | None) -> ApiError: ...
    def models(self, created: int) -> list[dict[str, Any]]: ...
    def model_list(self, created: int) -> dict[str, Any]: ...


def wire_of(request: Request) -> Wire:
    """Whose format a request speaks: its path says it, or (``GET /v1/models``) its client's headers."""
    if google.speaks(request):
        return google
    if anthropic.speaks(request):
        return anthropic
    return responses if request.path.startswith("/v1/responses") else chat


def pattern(path: str) -> re.Pattern[str]:
    """A path as an expression: ``{}`` stands for one name in it."""
    return re.compile(re.escape(path).replace(r"\{\}", "[^/:]+"))


class Simulator:
    """The model behind its HTTP interface: routes, key, pending faults, counts."""

    def __init__(self, *, profile: str = "typical", key: str | None = None) -> None:
        self.profile = check_profile(profile)
        self.key = key
        self._batches = {
            name: Batch(profile.batch, profile.slowdown)
            for name, profile in PROFILES.items()
            if profile.batch is not None
        }
        self.stats = Stats(self._batches.values())
        self._serial = count(1)
        self._numbers = count(1)  # of the requests that the verdict knows
        self._pending: tuple[str, int] = ("", 0)  # faults for the next requests, and for how many
        self._scene = 0  # how often that was set
        self._routes: dict[str, dict[str, Callable[[Request, float], Response]]] = {
            "/": {"GET": self._page},
            "/v1/models": {"GET": self._models},
            f"/v1/models/{MODEL_NAME}": {"GET": self._model},
            "/v1/chat/completions": {"POST": self._answer},
            "/v1/responses": {"POST": self._answer},
            "/v1/responses/{}": {"GET": self._retrieve, "DELETE": self._forget},
            "/v1/responses/{}/cancel": {"POST": self._cancel},
            "/v1/messages": {"POST": self._answer},
            "/v1/messages/count_tokens": {"POST": self._count},
            "/v1beta/models": {"GET": self._models},
            f"/v1beta/models/{MODEL_NAME}": {"GET": self._model},
            **{
                f"/{version}/models/{{}}:{method}": {"POST": answer}
                for version in google.VERSIONS
                for method, answer in (
                    ("generateContent", self._answer),
                    ("streamGenerateContent", self._answer),
                    ("countTokens", self._count),
                )
            },
            "/sim/stats": {"GET": self._stats, "DELETE": self._forget_lag},
            "/sim/verdict": {"GET": self._verdict, "DELETE": self._clear_verdict},
            "/sim/faults": {"GET": self._show_faults, "POST": self._set_faults, "DELETE": self._clear_faults},
        }
        self._jobs = Jobs()
        self._patterns = {pattern(path): path for path in self._routes if "{}" in path}

    def respond(self, request: Request, now: float) -> Response:
        """The response to ``request``, at ``now`` (Unix seconds). What is wrong with it becomes an answer."""
        try:
            response = self._route(request)(request, now)
        except ApiError as error:
            response = self.refuse(request, error)
        except RecursionError:
            response = self.refuse(request, ApiError(400, "The JSON of this request is nested too deeply."))
        if request.method == "POST" and not request.path.startswith("/sim/"):
            self._note(request, response, now)
        return response

    def refuse(self, request: Request, error: ApiError) -> Response:
        """The error as the format of the request has it."""
        return self._error(wire_of(request), error)

    def _note(self, request: Request, response: Response, now: float) -> None:
        """Note the request down for the verdict: who asked what, and what is answered."""
        exchange = response.delivery.exchange
        exchange.number = next(self._numbers)
        exchange.scene = self._scene
        exchange.client = request.headers.get("x-sim-client", "")[:MAX_CLIENT_NAME]
        exchange.asked = crc32(request.body, crc32(request.path.encode("utf-8", "surrogatepass")))
        exchange.status = response.status
        exchange.retry_after = retry_after(response.headers, now)
        response.delivery.noted = True

    def _route(self, request: Request) -> Callable[[Request, float], Response]:
        path = request.path.rstrip("/") or "/"
        if path != "/" and self.key is not None:
            wire = wire_of(request)
            given = wire.key_of(request)
            if given is None or not compare_digest(given.encode(), self.key.encode()):
                raise wire.bad_key(given)
        if path not in self._routes:
            path = next(
                (name for expression, name in self._patterns.items() if expression.fullmatch(path)), path
            )
        if path not in self._routes:
            known = ", ".join(self._routes)
            mend = " Does your base_url end in /v1?" if f"/v1{path}" in self._routes else ""
            raise ApiError(
                404, f"There is nothing at {path}.{mend} This server knows: {known}.", code="unknown_url"
            )
        methods = self._routes[path]
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise ApiError(
                405,
                f"{path} does not take {request.method}: use {allowed}.",
                code="method_not_supported",
                headers=(("allow", allowed),),
            )
        if len(request.body) > MAX_BODY_BYTES:
            raise ApiError(
                413,
                f"The body is larger than {MAX_BODY_BYTES} bytes, the most this server reads.",
                code="too_large",
            )
        return methods[request.method]

    # --- the model --------------------------------------------------------------------------------

    def _answer(self, request: Request, now: float) -> Response:
        wire = wire_of(request)
        faults = self._faults_of(request)
        if "refuse" in faults:
            return Response(None, (), (), Delivery(self.stats))
        if error := status_fault(faults, now):
            raise error
        name = check_profile(request.headers.get("x-sim-profile", self.profile))
        profile = PROFILES[name]
        ask = wire.parse(request)
        if (seed := seed_header(request)) is not None:
            ask = replace(ask, seed=seed)
        if "error-event" in faults and not ask.stream:
            raise ApiError(
                500, "The server had an error while it was answering (simulated).", kind="server_error"
            )
        answer = make_answer(ask, thinks=profile.thinks)
        if ask.background:
            return self._begin(ask, answer, profile, faults, now)
        tokens = answer.completion_tokens
        rng = Random(ask.seed if ask.seed is not None else seed_of(ask))
        wait = faults.get("slow-first-byte", 0.0)
        ttft = time_to_first_token(profile, rng, answer.prompt_tokens)
        due = due_times(profile, rng, first=wait + ttft)
        chunks = pieces(answer.parts, profile, rng, due, break_at=faults.strike[1] if faults.strike else None)
        serial = next(self._serial)
        labels = Labels(f"{wire.ID_PREFIX}sim{serial:08d}", int(now))
        headers_at = None
        if ask.stream:
            kind = "text/event-stream; charset=utf-8"
            seconds = headers_at = wait + ttft * HEADERS_AT
            streamed = wire.stream(ask, answer, chunks, labels, role_at=wait + ttft * ROLE_AT)
            frames = ahead(break_frames(streamed, faults, tokens, wire.ERROR_EVENT))
        else:
            kind = "application/json"
            whole = list(blocking(chunks, wire.body(answer, labels)))
            seconds = whole[-1].at
            frames = break_frames(whole, faults.strike_only(), tokens, wire.ERROR_EVENT)
        seat = None
        if name in self._batches:
            seat = Seat(self._batches[name])
            frames = under_load(frames, seat, step=1 / profile.rate, start=wait)
        delivery = Delivery(self.stats, tokens=tokens, stream=ask.stream, seat=seat)
        delivery.exchange.heads = heads_of(ask.messages)
        delivery.exchange.fault = faults.strike[0] if faults.strike else ""
        return Response(200, self._headers(wire, kind, serial, seconds), frames, delivery, headers_at)

    # --- answers in the background ----------------------------------------------------------------

    def _begin(self, ask: Ask, answer: Answer, profile: Profile, faults: Faults, now: float) -> Response:
        labels = Labels(f"{responses.ID_PREFIX}sim{next(self._serial):08d}", int(now))
        seed = ask.seed if ask.seed is not None else seed_of(ask)
        job = Job(ask, answer, labels, profile, seed, now, wait=faults.get("slow-first-byte", 0.0))
        self._jobs.add(job)
        self.stats.tokens_produced += answer.completion_tokens  # whoever leaves: this answer is made
        return self._read_job(job, faults, now, after=-1 if ask.stream else None)

    def _retrieve(self, request: Request, now: float) -> Response:
        job = self._jobs.find(request.path.split("/")[3])
        faults = self._faults_of(request)
        if "refuse" in faults:
            return Response(None, (), (), Delivery(self.stats))
        if error := status_fault(faults, now):
            raise error
        after = resume_after(parse_qs(request.query))
        if after is not None and not job.ask.stream:
            raise ApiError(
                400, "Only a response made with stream=True can be streamed again.", param="stream"
            )
        return self._read_job(job, faults, now, after)

    def _read_job(self, job: Job, faults: Faults, now: float, after: int | None) -> Response:
        """The job's events after number ``after``, or the response object as it is now."""
        serial = next(self._serial)
        delivery = Delivery(self.stats, stream=after is not None)
        if after is None:
            headers = self._headers(responses, "application/json", serial, 0.0)
            return Response(200, headers, (job.body(now),), delivery)
        left = job.answer.completion_tokens - job.tokens_until(after)
        broken = break_frames(job.stream(now, after), faults, left, responses.ERROR_EVENT)
        frames = job.first_time(broken, after)
        headers = self._headers(responses, "text/event-stream; charset=utf-8", serial, 0.0)
        return Response(200, headers, frames, delivery, headers_at=0.0)

    def _cancel(self, request: Request, now: float) -> Response:
        job = self._jobs.find(request.path.split("/")[3])
        if job.cancelled is None:
            job.cancelled = now
            unmade = job.answer.completion_tokens - job.made_until(now)
            self.stats.tokens_produced -= unmade
            self.stats.tokens_saved += unmade
        return self._json(json.dumps(job.response(now)).encode())

    def _forget(self, request: Request, now: float) -> Response:
        name = request.path.split("/")[3]
        self._jobs.forget(name)
        return self._json(json.dumps({"id": name, "object": "response", "deleted": True}).encode())

    def _count(self, request: Request, now: float) -> Response:
        wire = wire_of(request)
        counted = {"totalTokens" if wire is google else "input_tokens": count_prompt(wire.parse(request))}
        return self._json(json.dumps(counted).encode(), wire)

    def _models(self, request: Request, now: float) -> Response:
        wire = wire_of(request)
        return self._json(json.dumps(wire.model_list(int(now))).encode(), wire)

    def _model(self, request: Request, now: float) -> Response:
        wire = wire_of(request)
        return self._json(json.dumps(wire.models(int(now))[0]).encode(), wire)

    # --- control ----------------------------------------------------------------------------------

    def _page(self, request: Request, now: float) -> Response:
        faults = "".join(f"  {fault.name:17} {fault.what}\n" for fault in FAULTS.values())
        return self._plain(200, "text/plain; charset=utf-8", f"{PAGE}{faults}".encode())

    def _stats(self, request: Request, now: float) -> Response:
        return self._json(json.dumps(self.stats.as_dict()).encode())

    def _forget_lag(self, request: Request, now: float) -> Response:
        """A measurement begins: how late frames left before it is not its concern."""
        self.stats.late.clear()
        return self._stats(request, now)

    def _verdict(self, request: Request, now: float) -> Response:
        """The report about all clients together, or with ``?client=NAME`` about one."""
        clients = parse_qs(request.query, keep_blank_values=True).get("client")
        report = judge(self.stats.exchanges, clients[0] if clients else None)
        return self._json(json.dumps(report.as_dict()).encode())

    def _clear_verdict(self, request: Request, now: float) -> Response:
        """Begin anew: what came before, also what still runs, is not in later reports."""
        self.stats.exchanges.clear()
        self._numbers = count(1)
        return self._verdict(request, now)

    def _show_faults(self, request: Request, now: float) -> Response:
        fault, count = self._pending
        return self._json(json.dumps({"fault": fault, "count": count}).encode())

    def _set_faults(self, request: Request, now: float) -> Response:
        try:
            given = json.loads(request.body)
            fault, times = given["fault"], given.get("count", 1)
        except (ValueError, KeyError, TypeError, AttributeError):
            fault = times = None
        if not isinstance(fault, str) or not isinstance(times, int) or not 1 <= times <= 1000:
            raise ApiError(
                400,
                f'Send {{"fault": "cut-after=5", "count": 2}}, with a count from 1 to 1000. {fault_list()}',
            )
        parse_faults(fault)
        self._pending = (fault, times)
        self._scene += 1
        return self._show_faults(request, now)

    def _clear_faults(self, request: Request, now: float) -> Response:
        self._pending = ("", 0)
        self._scene += 1
        return self._show_faults(request, now)

    def _faults_of(self, request: Request) -> Faults:
        """The faults a request names itself, else those that are set for the next requests."""
        if named := request.headers.get("x-sim-fault"):
            return parse_faults(named)
        fault, times = self._pending
        if not times:
            return NO_FAULTS
        self._pending = (fault, times - 1) if times > 1 else ("", 0)
        return parse_faults(fault)

    # --- bytes ------------------------------------------------------------------------------------

    def _headers(
        self, wire: Wire, content_type: str, serial: int, seconds: float
    ) -> tuple[tuple[str, str], ...]:
        named = wire.headers(request_id(serial), seconds)
        return (("content-type", content_type), ("cache-control", "no-cache"), *named)

    def _error(self, wire: Wire, error: ApiError) -> Response:
        serial = next(self._serial)
        body = wire.error_body(error, request_id(serial))
        return self._plain(error.status, "application/json", body, error.headers, wire=wire, serial=serial)

    def _json(self, body: bytes, wire: Wire = chat) -> Response:
        return self._plain(200, "application/json", body, wire=wire)

    def _plain(
        self,
        status: int,
        content_type: str,
        body: bytes,
        more: tuple[tuple[str, str], ...] = (),
        *,
        wire: Wire = chat,
        serial: int | None = None,
    ) -> Response:
        headers = (
            *self._headers(wire, content_type, next(self._serial) if serial is None else serial, 0.0),
            *more,
            ("content-length", str(len(body))),
        )
        return Response(status, headers, (Frame(0.0, body),), Delivery(self.stats))


def request_id(serial: int) -> str:
    """What names a request in the headers of its answer."""
    return f"req_sim{serial:08d}"


def retry_after(headers: Iterable[tuple[str, str]], now: float) -> float | None:
    """How long an answer tells its client to wait, in seconds."""
    said = dict(headers).get("retry-after")
    if said is None:
        return None
    if re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", said):
        return float(said)
    return parsedate_to_datetime(said).timestamp() - now


def ahead(frames: Iterable[Frame]) -> Iterable[Frame]:
    """The same frames, made sixteen at a time: with a thousand streams that saves an eighth of all work."""
    frames = iter(frames)
    while made := list(islice(frames, 16)):
        yield from made


def blocking(chunks: Iterable[Piece], body: bytes) -> Iterator[Frame]:
    """A blocking answer: tokens are made as in a stream, and leave together when the last one exists."""
    at, made = 0.0, 0
    for piece in chunks:
        at, made = piece.at, made + len(piece.tokens)
        yield Frame(at, made=len(piece.tokens))
    yield Frame(at, body, sent=made)


def check_profile(name: str) -> str:
    """``name`` when there is such a profile, else an ``ApiError`` 400 that lists them."""
    if name not in PROFILES:
        raise ApiError(
            400,
            f"There is no profile {name!r}: the profiles are {', '.join(PROFILES)}.",
            code="unknown_profile",
        )
    return name


def seed_header(request: Request) -> int | None:
    """The header ``X-Sim-Seed``, which wins over the body's ``seed``."""
    text = request.headers.get("x-sim-seed")
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ApiError(400, f"X-Sim-Seed is an integer, got {text!r}.", code="bad_seed")
    return int(text)
