"""The official clients behind one face: seven ways to stream, each with ``read`` and with ``aread``.

A way is how it is opened and what one of its events says; whether it is read with ``for`` or ``async for``
makes no difference to either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from dataclasses import dataclass, field
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI

from streamlib.sim import SimTransport
from streamlib.sim.core import Simulator

QUESTION = "Explain Server-Sent Events in about 40 words."


@dataclass
class Seen:
    """What a reader got to see of one stream."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)  # name and arguments, as the client gives them
    finish: str | None = None
    tokens: int | None = None
    events: int = 0
    error: BaseException | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(frozen=True)
class Path:
    """One way to stream: ``open(client, **request)`` and ``take(seen, event)``."""

    provider: str
    open: Callable[..., Any]
    take: Callable[[Seen, Any], None]


# --- what an event says ------------------------------------------------------------------------------


def take_chat(seen: Seen, chunk: Any) -> None:
    seen.tokens = chunk.usage.completion_tokens if chunk.usage else seen.tokens
    for choice in chunk.choices:
        seen.texts.append(choice.delta.content or "")
        seen.thoughts.append(getattr(choice.delta, "reasoning_content", None) or "")
        for call in choice.delta.tool_calls or ():
            if call.id:
                seen.calls.append((call.function.name, ""))
            name, arguments = seen.calls[call.index]
            seen.calls[call.index] = (name, arguments + (call.function.arguments or ""))
        seen.finish = choice.finish_reason or seen.finish


def take_chat_helper(seen: Seen, event: Any) -> None:
    if event.type == "chunk":
        take_chat(seen, event.chunk)


def take_responses(seen: Seen, event: Any) -> None:
    match event.type:
        case "response.output_text.delta":
            seen.texts.append(event.delta)
        case "response.reasoning_summary_text.delta":
            seen.thoughts.append(event.delta)
        case "response.function_call_arguments.done":
            seen.calls.append((event.name, event.arguments))
        case "response.completed" | "response.incomplete":
            seen.finish, seen.tokens = event.response.status, event.response.usage.output_tokens


def take_anthropic(seen: Seen, event: Any) -> None:
    match event.type:
        case "content_block_start" if event.content_block.type == "tool_use":
            seen.calls.append((event.content_block.name, ""))
        case "content_block_delta" if event.delta.type == "text_delta":
            seen.texts.append(event.delta.text)
        case "content_block_delta" if event.delta.type == "thinking_delta":
            seen.thoughts.append(event.delta.thinking)
        case "content_block_delta" if event.delta.type == "input_json_delta":
            name, arguments = seen.calls[-1]
            seen.calls[-1] = (name, arguments + event.delta.partial_json)
        case "message_delta":
            seen.finish, seen.tokens = event.delta.stop_reason, event.usage.output_tokens


def take_google(seen: Seen, chunk: Any) -> None:
    usage, candidate = chunk.usage_metadata, chunk.candidates[0]
    for part in candidate.content.parts or ():
        if part.function_call:
            seen.calls.append((part.function_call.name, part.function_call.args))
        elif part.thought:
            seen.thoughts.append(part.text)
        else:
            seen.texts.append(part.text)
    if candidate.finish_reason:
        seen.finish = candidate.finish_reason.value
        seen.tokens = usage.candidates_token_count + (usage.thoughts_token_count or 0)


# --- how it is opened --------------------------------------------------------------------------------


def open_chat(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    return client.chat.completions.create(
        model="sim-1",
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=headers,
        **fields,
    )


def open_chat_helper(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    return client.chat.completions.stream(
        model="sim-1",
        messages=[{"role": "user", "content": prompt}],
        stream_options={"include_usage": True},
        extra_headers=headers,
        **fields,
    )


def open_responses(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    return client.responses.create(model="sim-1", input=prompt, stream=True, extra_headers=headers, **fields)


def open_responses_helper(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    return client.responses.stream(model="sim-1", input=prompt, extra_headers=headers, **fields)


def open_messages(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return client.messages.create(
        model="sim-1", messages=messages, stream=True, extra_headers=headers, **{"max_tokens": 1000, **fields}
    )


def open_messages_helper(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return client.messages.stream(
        model="sim-1", messages=messages, extra_headers=headers, **{"max_tokens": 1000, **fields}
    )


def open_google(client: Any, prompt: str, headers: dict[str, str], **fields: Any) -> Any:
    config = types.GenerateContentConfig(http_options=types.HttpOptions(headers=headers), **fields)
    return client.models.generate_content_stream(model="sim-1", contents=prompt, config=config)


PATHS = {
    "chat": Path("openai", open_chat, take_chat),
    "chat helper": Path("openai", open_chat_helper, take_chat_helper),
    "responses": Path("openai", open_responses, take_responses),
    "responses helper": Path("openai", open_responses_helper, take_responses),
    "messages": Path("anthropic", open_messages, take_anthropic),
    "messages helper": Path("anthropic", open_messages_helper, take_anthropic),
    "google": Path("google", open_google, take_google),
}


# --- clients and reading -----------------------------------------------------------------------------


def simulated(profile: str = "instant", **options: Any) -> SimTransport:
    """A model of its own, in this process. The fixture ``instant`` adds the profiles that take no time."""
    return SimTransport(Simulator(profile=profile, **options))


def client_of(
    provider: str,
    transport: Any = None,
    *,
    base: str = "http://sim",
    timeout: float = 20.0,
    key: str = "none",
    asynchronous: bool = False,
) -> Any:
    """A provider's client without retries, over that transport (a socket when there is none)."""
    http: dict[bool, Any] = {True: None, False: None}
    if transport:
        http[False] = httpx2.Client(transport=transport, timeout=timeout)
        http[True] = httpx2.AsyncClient(transport=transport, timeout=timeout)
    if provider == "google":
        options = types.HttpOptions(
            base_url=base,
            timeout=round(timeout * 1000),
            httpx_client=http[False],
            httpx_async_client=http[True],  # given both it makes none, which costs 50 ms
        )
        client = genai.Client(api_key=key, http_options=options)
        return client.aio if asynchronous else client
    client_class: Any = {
        ("openai", False): OpenAI,
        ("openai", True): AsyncOpenAI,
        ("anthropic", False): Anthropic,
        ("anthropic", True): AsyncAnthropic,
    }[provider, asynchronous]
    url = f"{base}/v1" if provider == "openai" else base
    options = {"base_url": url, "api_key": key, "max_retries": 0, "timeout": timeout}
    return client_class(http_client=http[asynchronous], **options)


def read(
    way: str,
    transport: Any,
    fault: str = "",
    *,
    prompt: str = QUESTION,
    stop_after: int = 10**6,
    **options: Any,
) -> Seen:
    """Everything the synchronous client gives; an exception is noted, not raised. Leaves after ``stop_after``
    pieces of text."""
    path, seen = PATHS[way], Seen()
    timeout = options.pop("timeout", 20.0)
    profile = options.pop("profile", None)
    headers = {"X-Sim-Fault": fault} if fault else {}
    headers |= {"X-Sim-Profile": profile} if profile else {}
    try:
        client = client_of(path.provider, transport, timeout=timeout)
        with ExitStack() as stack:
            stream = path.open(client, prompt, headers, **options)
            if path.provider == "google":
                stack.enter_context(closing(stream))
            else:
                stream = stack.enter_context(stream)
            for event in stream:
                seen.events += 1
                path.take(seen, event)
                if len(seen.texts) >= stop_after:
                    break
    except Exception as error:
        seen.error = error
    return seen


async def aread(
    way: str,
    transport: Any,
    fault: str = "",
    *,
    prompt: str = QUESTION,
    stop_after: int = 10**6,
    **options: Any,
) -> Seen:
    """The same with the asynchronous client."""
    path, seen = PATHS[way], Seen()
    timeout = options.pop("timeout", 20.0)
    profile = options.pop("profile", None)
    headers = {"X-Sim-Fault": fault} if fault else {}
    headers |= {"X-Sim-Profile": profile} if profile else {}
    try:
        client = client_of(path.provider, transport, timeout=timeout, asynchronous=True)
        async with AsyncExitStack() as stack:
            stream = path.open(client, prompt, headers, **options)
            if isinstance(stream, Awaitable):
                stream = await stream
            if path.provider == "google":
                await stack.enter_async_context(aclosing(stream))
            else:
                stream = await stack.enter_async_context(stream)
            async for event in stream:
                seen.events += 1
                path.take(seen, event)
                if len(seen.texts) >= stop_after:
                    break
    except Exception as error:
        seen.error = error
    return seen
