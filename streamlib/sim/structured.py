"""Answers with a shape: JSON for ``response_format``, arguments for tool calls (lessons 2 and 4).

``fill`` builds a value that a JSON schema allows. For a tool call it takes what the prompt offers (quoted
text, names, numbers), for a JSON answer the sentences that the model would have said. It knows the common
part of JSON Schema: types, properties, required, items, enum, const, anyOf, $ref, bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, cycle
from typing import Any
from zlib import crc32

from . import text
from .model import ApiError, Ask, Tool, ToolCall

Schema = dict[str, Any]
DEEPEST = 4  # levels of lists and objects; a schema that refers to itself ends here
MOST_VALUES = 300  # of one answer

_FORMATS = {
    "date": "2026-11-21",
    "date-time": "2026-11-21T10:00:00Z",
    "time": "10:00:00Z",
    "email": "reader@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Values:
    """Where ``fill`` takes strings and numbers from: one after another, then round again."""

    def __init__(self, prompt: str, strings: list[str]) -> None:
        self.prompt = prompt
        self.room = MOST_VALUES
        self.strings: Iterator[str] = cycle(strings)
        found = [float(number) for number in re.findall(r"-?\b\d{1,9}(?:\.\d{1,9})?", prompt)]
        self.numbers: Iterator[float] = chain(found, cycle([1.0, 2.0, 3.0]))


def fill(schema: Schema, values: Values, root: Schema | None = None, depth: int = 0) -> Any:
    """A value that ``schema`` allows. Properties that are not required are left out."""
    root = schema if root is None else root
    schema = resolve(schema, root, depth)
    values.room -= 1
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        options = schema["enum"] or [None]
        return next((one for one in options if str(one).lower() in values.prompt.lower()), options[0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    match kind:
        case "object":
            return fill_object(schema, values, root, depth)
        case "array":
            least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 3))
            size = max(least, min(most, 3)) if depth < DEEPEST else least
            items = schema.get("items") or {}
            return [fill(items, values, root, depth + 1) for _ in range(min(size, values.room))]
        case "integer" | "number":
            number = within(next(values.numbers), schema)
            return round(number) if kind == "integer" else number
        case "boolean":
            return True
        case "null":
            return None
    said = _FORMATS.get(schema.get("format", "")) or next(values.strings)
    return said[: int(schema["maxLength"])] if "maxLength" in schema else said


def fill_object(schema: Schema, values: Values, root: Schema, depth: int) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties") or {}
    wanted = schema.get("required", list(properties))
    filled = {}
    for name in wanted:
        if values.room <= 0:
            break
        filled[name] = fill(properties.get(name) or {}, values, root, depth + 1)
    return filled


def resolve(schema: Schema, root: Schema, depth: int) -> Schema:
    """The schema behind ``$ref``, ``anyOf`` and their like: the first choice that is not null, or null when
    deep."""
    for _ in range(10):
        if isinstance(ref := schema.get("$ref"), str):
            target: Any = root
            for step in ref.lstrip("#/").split("/"):
                target = target.get(step, {}) if isinstance(target, dict) and step else target
            schema = target if isinstance(target, dict) else {}
        elif choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            nulls = [one for one in choices if one.get("type") == "null"]
            others = [one for one in choices if one.get("type") != "null"]
            schema = (nulls + others if depth >= DEEPEST else others + nulls)[0]
        else:
            return schema
    return {"type": "null"}


def within(number: float, schema: Schema) -> float:
    """``number`` moved into the schema's bounds; where they leave no room, the upper one counts."""
    least = [schema[key] + by for key, by in (("minimum", 0), ("exclusiveMinimum", 1)) if key in schema]
    most = [schema[key] - by for key, by in (("maximum", 0), ("exclusiveMaximum", 1)) if key in schema]
    return float(min([max([number, *least]), *most]))


# --- JSON -----------------------------------------------------------------------------------------

ANY_OBJECT: Schema = {
    "properties": {
        "topic": {"type": "string"},
        "summary": {"type": "string"},
        "points": {"type": "array", "items": {"type": "string"}},
    }
}


def reply(ask: Ask) -> str:
    """The answer as JSON: the schema filled, else the keys that the prompt quotes, else topic, summary and
    points."""
    prompt = last_prompt(ask)
    plain = text.reply(ask.messages, ask.seed)
    topic = text.best_topic(prompt)
    strings = [topic.title if topic else "Streaming", *text.sentences(plain)]
    keys = re.findall(r"[\"'`]([A-Za-z_]\w*)[\"'`]", prompt)
    schema = ask.schema or (ANY_OBJECT if not keys else {"properties": {key: by_name(key) for key in keys}})
    return fill_text(schema, Values(prompt, strings))


def fill_text(schema: Schema, values: Values) -> str:
    """``fill`` as JSON text. A schema that is none is an ``ApiError`` 400."""
    try:
        return json.dumps(fill(schema, values), ensure_ascii=False)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise ApiError(400, f"The JSON schema cannot be used: {error}.", code="invalid_schema") from None


def by_name(key: str) -> Schema:
    """A plural is a list, a count is a number, the rest is text."""
    if re.fullmatch(r"age|count|number|total|year|n|.*_count", key):
        return {"type": "integer"}
    return {"type": "array", "items": {"type": "string"}} if key.endswith("s") else {"type": "string"}


# --- tool calls -----------------------------------------------------------------------------------


def choose_calls(ask: Ask) -> list[ToolCall]:
    """The tool calls to make instead of an answer; none without tools, or when their results are already
    there."""
    last = ask.messages[-1]
    if not ask.tools or ask.tool_choice == "none" or (last.role == "tool" and ask.tool_choice == "auto"):
        return []
    prompt = last_prompt(ask)
    if ask.tool_choice == "auto" and (text.introduce(prompt) or text.greet(prompt)):
        return []
    tool = best_tool(ask, prompt)
    subjects = named_things(prompt)
    calls = max(1, len(subjects)) if ask.parallel_tools and takes_one_thing(tool.parameters) else 1
    made = []
    for i in range(calls):
        strings = subjects[i:] + subjects[:i] or [" ".join(text.keywords(prompt)) or prompt or "streaming"]
        arguments = fill_text(tool.parameters, Values(prompt, strings))
        made.append(ToolCall(f"call_{crc32(arguments.encode()):08x}{i}", tool.name, arguments))
    return made


def best_tool(ask: Ask, prompt: str) -> Tool:
    """The tool that was asked for by name, else the one that shares most words with the prompt."""
    for tool in ask.tools:
        if tool.name == ask.tool_choice:
            return tool
    asked = set(text.keywords(prompt))
    return max(ask.tools, key=lambda tool: len(asked & set(text.keywords(f"{tool.name} {tool.description}"))))


def takes_one_thing(parameters: Schema) -> bool:
    """Whether the tool has exactly one free text to give: then two names in the prompt mean two calls."""
    match parameters:
        case {"properties": dict(properties), "required": list(wanted)}:
            needed = [properties[name] for name in properties if name in wanted]
        case {"properties": dict(properties)}:
            needed = list(properties.values())
        case _:
            return False
    free = [one for one in needed if isinstance(one, dict) and "enum" not in one]
    return len(free) == 1 and free[0].get("type") == "string"


def named_things(prompt: str) -> list[str]:
    """What a prompt names: quoted text, else capitalised words that do not begin a sentence. At most four."""
    quoted = re.findall(r"[\"“`]([^\"”`]{1,80})[\"”`]|(?<!\w)'([^']{1,80})'(?!\w)", prompt)
    names = [one or other for one, other in quoted]
    if not names:
        capitalised = r"(?<=[\w,;:)]\s)[A-Z][\w'-]+(?:\s[A-Z][\w'-]+)*"
        names = [name for name in re.findall(capitalised, prompt) if name not in ("I", "I'm", "I'd")]
    return list(dict.fromkeys(names))[:4]


def last_prompt(ask: Ask) -> str:
    """The text of the last user message."""
    return next((message.text for message in reversed(ask.messages) if message.role == "user"), "")
