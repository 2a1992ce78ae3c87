"""The simulated server without its sockets: an HTTP request in, a status, headers and timed frames out.

``Simulator.respond`` never waits and never reads a clock: whoever has a connection (``server.py``,
``transport.py``) waits until each frame is due, sends it, and tells ``Delivery`` so. So the same text,
timing and faults serve over a socket, inside a test on a virtual clock, and inside a browser page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hmac import compare_digest
from itertools import count
from random import Random
from typing import Protocol

from . import chat, responses
from .answer import make_answer, seed_of
from .faults import FAULTS, NO_FAULTS, Faults, break_frames, fault_list, parse_faults, status_fault
from .model import MODEL_NAME, Answer, ApiError, Ask, Frame, Labels, Piece
from .stats import Delivery, Stats
from .timing import HEADERS_AT, PROFILES, ROLE_AT, due_times, pieces, time_to_first_token

MAX_BODY_BYTES = 1024 * 1024


PAGE = f"""\
The simulated model of the course Token by Token: no neural network, a small text and a clock.

POST /v1/chat/completions   as with OpenAI, streaming and not; the model is {MODEL_NAME}
POST /v1/responses          the same answers in OpenAI's newer format
GET  /v1/models
GET  /sim/stats             streams, tokens produced and delivered, how late they left
POST /sim/faults            {{"fault": "cut-after=5", "count": 2}} breaks the next two answers;
                            GET shows what is set, DELETE clears it

Headers of a request: X-Sim-Fault, X-Sim-Seed, X-Sim-Profile ({", ".join(PROFILES)}).

Faults, several joined by ';':
"""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What to send. ``headers_at`` and the frames' times are seconds after the request.

    Without ``headers_at`` the headers leave with the first bytes. ``status`` None means: close the connection
    without an answer. Frames are made one by one as they are asked for.
    """

    status: int | None
    headers: tuple[tuple[str, str], ...]
    frames: Iterable[Frame]
    delivery: Delivery
    headers_at: float | None = None


class Wire(Protocol):
    """A provider's format: what each of the modules ``chat`` and ``responses`` has."""

    ID_PREFIX: str
    ERROR_EVENT: bytes

    def parse(self, body: bytes) -> Ask: ...
    def stream(
        self, ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
    ) -> Iterator[Frame]: ...
    def body(self, answer: Answer, labels: Labels) -> bytes: ...


class Simulator:
    """The model behind its HTTP interface: routes, key, pending faults, counts."""

    def __init__(self, *, profile: str = "typical", key: str | None = None) -> None:
        self.profile = check_profile(profile)
        self.key = key
        self.stats = Stats()
        self._serial = count(1)
        self._pending: tuple[str, int] = ("", 0)  # faults for the next requests, and for how many
        self._routes: dict[str, dict[str, Callable[[Request, float], Response]]] = {
            "/": {"GET": self._page},
            "/v1/models": {"GET": self._models},
            f"/v1/models/{MODEL_NAME}": {"GET": self._model},
            "/v1/chat/completions": {"POST": partial(self._answer, chat)},
            "/v1/responses": {"POST": partial(self._answer, responses)},
            "/sim/stats": {"GET": self._stats},
            "/sim/faults": {"GET": self._show_faults, "POST": self._set_faults, "DELETE": self._clear_faults},
        }

    def respond(self, request: Request, now: float) -> Response:
        """The response to ``request``, at ``now`` (Unix seconds). What is wrong with it becomes an answer."""
        try:
            return self._route(request)(request, now)
        except ApiError as error:
            return self._error(error)

    def _route(self, request: Request) -> Callable[[Request, float], Response]:
        path = request.path.rstrip("/") or "/"
        if path != "/" and not self._has_key(request):
            raise ApiError(
                401,
                "Incorrect API key: send 'Authorization: Bearer …' with the key this server was started with "
                "(the official client takes it from OPENAI_API_KEY).",
                code="invalid_api_key",
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

    def _has_key(self, request: Request) -> bool:
        if self.key is None:
            return True
        given = request.headers.get("authorization", "")
        return compare_digest(given.encode(), f"Bearer {self.key}".encode())

    # --- the model --------------------------------------------------------------------------------

    def _answer(self, wire: Wire, request: Request, now: float) -> Response:
        faults = self._faults_of(request)
        if "refuse" in faults:
            return Response(None, (), (), Delivery(self.stats))
        if error := status_fault(faults, now):
            raise error
        profile = PROFILES[check_profile(request.headers.get("x-sim-profile", self.profile))]
        ask = wire.parse(request.body)
        if (seed := seed_header(request)) is not None:
            ask = replace(ask, seed=seed)
        if "error-event" in faults and not ask.stream:
            raise ApiError(
                500, "The server had an error while it was answering (simulated).", kind="server_error"
            )
        answer = make_answer(ask, thinks=profile.thinks)
        tokens = answer.completion_tokens
        rng = Random(ask.seed if ask.seed is not None else seed_of(ask))
        wait = faults.get("slow-first-byte", 0.0)
        ttft = time_to_first_token(profile, rng)
        due = due_times(profile, rng, first=wait + ttft)
        chunks = pieces(answer.parts, profile, rng, due, break_at=faults.strike[1] if faults.strike else None)
        serial = next(self._serial)
        labels = Labels(f"{wire.ID_PREFIX}sim{serial:08d}", int(now))
        if not ask.stream:
            whole = list(blocking(chunks, wire.body(answer, labels)))
            headers = self._headers("application/json", serial, whole[-1].at)
            struck = break_frames(whole, faults.strike_only(), tokens, wire.ERROR_EVENT)
            return Response(200, headers, struck, Delivery(self.stats, tokens=tokens))
        headers_at = wait + ttft * HEADERS_AT
        frames = wire.stream(ask, answer, chunks, labels, role_at=wait + ttft * ROLE_AT)
        return Response(
            200,
            self._headers("text/event-stream; charset=utf-8", serial, headers_at),
            break_frames(frames, faults, tokens, wire.ERROR_EVENT),
            Delivery(self.stats, tokens=tokens, stream=True),
            headers_at,
        )

    def _models(self, request: Request, now: float) -> Response:
        return self._json(chat.models(int(now)))

    def _model(self, request: Request, now: float) -> Response:
        return self._json(json.dumps(json.loads(chat.models(int(now)))["data"][0]).encode())

    # --- control ----------------------------------------------------------------------------------

    def _page(self, request: Request, now: float) -> Response:
        faults = "".join(f"  {fault.name:17} {fault.what}\n" for fault in FAULTS.values())
        return self._plain(200, "text/plain; charset=utf-8", f"{PAGE}{faults}".encode())

    def _stats(self, request: Request, now: float) -> Response:
        return self._json(json.dumps(self.stats.as_dict()).encode())

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
        return self._show_faults(request, now)

    def _clear_faults(self, request: Request, now: float) -> Response:
        self._pending = ("", 0)
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

    def _headers(self, content_type: str, serial: int, seconds: float) -> tuple[tuple[str, str], ...]:
        return (
            ("content-type", content_type),
            ("cache-control", "no-cache"),
            ("x-request-id", f"req_sim{serial:08d}"),
            ("openai-processing-ms", str(round(seconds * 1000))),
            ("openai-version", "2020-10-01"),
        )

    def _error(self, error: ApiError) -> Response:
        return self._plain(error.status, "application/json", chat.error_body(error), error.headers)

    def _json(self, body: bytes) -> Response:
        return self._plain(200, "application/json", body)

    def _plain(
        self, status: int, content_type: str, body: bytes, more: tuple[tuple[str, str], ...] = ()
    ) -> Response:
        headers = (
            *self._headers(content_type, next(self._serial), 0.0),
            *more,
            ("content-length", str(len(body))),
        )
        return Response(status, headers, (Frame(0.0, body),), Delivery(self.stats))


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
