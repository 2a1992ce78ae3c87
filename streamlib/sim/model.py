"""The words the simulator's modules share: what was asked, what is answered, and a frame on its way out.

Nothing here knows a provider's format or does I/O. A *wire* (``chat.py``) turns a request body into an
``Ask`` and an ``Answer`` back into ``Frame``s; ``text.py`` turns the one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MODEL_NAME = "sim-1"
MAX_PROMPT_TOKENS = 32_768
MAX_OUTPUT_TOKENS = 8192


Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. Header names are lower case, ``query`` is what stands after the question mark."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model makes: ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation, as plain text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, in no provider's format."""

    messages: tuple[Message, ...]
    seed: int | None = None
    max_tokens: int = MAX_OUTPUT_TOKENS
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"  # "auto", "none", "required", or the name of one tool
    parallel_tools: bool = True
    json: bool = False
    schema: dict[str, Any] | None = None  # with json: the schema to fill
    stream: bool = False
    include_usage: bool = False
    background: bool = False  # made whether anybody reads it or not
    thinks: bool = False  # thoughts before the answer, also where the profile has none


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the answer: thoughts, text, or the arguments of one tool call, cut into tokens."""

    kind: Literal["reasoning", "text", "tool"]
    tokens: tuple[str, ...]
    tool: ToolCall | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to an ``Ask``. ``prompt_tokens`` and the parts' tokens are real counts."""

    parts: tuple[Part, ...]
    finish: Finish
    prompt_tokens: int
    stopped_by: str | None = None  # the stop sequence that ended it, which is not part of it

    @property
    def completion_tokens(self) -> int:
        return sum(len(part.tokens) for part in self.parts)

    @property
    def reasoning_tokens(self) -> int:
        return sum(len(part.tokens) for part in self.parts if part.kind == "reasoning")


@dataclass(frozen=True, slots=True)
class Labels:
    """What names one answer: its id, when it was made (Unix seconds), which model made it."""

    id: str
    created: int
    model: str = MODEL_NAME


@dataclass(slots=True)  # not frozen, nor is Frame: that costs three times as much, 50,000 times a second
class Piece:
    """What one chunk carries: one to a few tokens of one part. ``at`` is in seconds after the request."""

    at: float
    part: int  # index in Answer.parts
    tokens: tuple[str, ...]


@dataclass(slots=True)
class Frame:
    """Bytes to send ``at`` seconds after the request, and how many tokens they stand for.

    ``made`` counts tokens the model has produced at that time, ``sent`` those that leave with these bytes:
    they differ where an answer is held back (a blocking request, a buffering proxy). ``then`` says what
    happens after the bytes: go on, cut the connection, or fall silent with the connection open.
    """

    at: float
    data: bytes = b""
    made: int = 0
    sent: int = 0
    then: Literal["go on", "cut", "stall"] = "go on"


class ApiError(Exception):
    """A request that gets an error instead of an answer: status, sentence, and the fields clients look at."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers
