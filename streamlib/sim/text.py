"""What the simulated model says: a conversation in, the text of an answer out. No I/O, no clock.

There is no neural network here. ``reply`` goes through a short list of skills (repeat, count, continue,
introduce itself, summarise) and the first that fits answers; else ``explain`` picks paragraphs from
``topics.md`` by the words the prompt shares with them. The same conversation and seed give the same text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain, islice
from random import Random

from .model import MAX_OUTPUT_TOKENS, Message
from .tokens import count_tokens, split_tokens

USUAL_LENGTH = 90  # tokens of an answer when the prompt asks for no length
ABOUT_ME = (
    "I am sim-1, the simulated model of the course Token by Token: no neural network, only a small text "
    "about streaming and a clock — set OPENAI_BASE_URL or OPENAI_API_KEY to talk to a real model."
)


# --- words ----------------------------------------------------------------------------------------

_STOPWORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """
        a about above after again all also am an and answer any are as at be because been before being
        below between both but by can could describe did do does doing down during each else explain
        few for from further get give had has have having he her here him his how i if in into is it
        its just know let like long me mean means more most must my need no nor not now of off on once
        one only or other our out over own please really same say says she should show so some
        something such tell than thank thanks that the their them then there these they thing this
        those through to too under until up use used using very want was we were what when where which
        while who whom why will with word words sentence sentences paragraph paragraphs would write you
        your
        """,
    )
)


def stem(word: str) -> str:
    """A word without its commonest English endings: ``streaming``, ``streams`` and ``stream`` meet in one."""
    for ending, instead in (
        ("ies", "y"),
        ("ing", ""),
        ("ers", ""),
        ("ed", ""),
        ("er", ""),
        ("es", ""),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return (word[: -len(ending)] + instead).removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


def keywords(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order."""
    return [stem(word) for word in re.findall(r"[^\W_]+", text.lower()) if word not in _STOPWORDS]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end mark and without the blanks around it."""
    return [
        found.strip() for found in re.split(r"(?<=[.!?…])\s+(?=[^\s\d]|\d)|\n\s*\n", text) if found.strip()
    ]


# --- how long -------------------------------------------------------------------------------------

_NUMBERS = {"one": 1, "a single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10}
_LENGTH = re.compile(
    rf"(\d{{1,6}}|{'|'.join(_NUMBERS)})[\s-]+(?:or so |short |more )?(token|word|sentence|paragraph)s?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Length:
    """How long the answer should be. ``sentences`` wins over ``tokens``."""

    tokens: int = USUAL_LENGTH
    sentences: int | None = None


def wanted_length(prompt: str) -> Length:
    """The length a prompt asks for: ``in 500 words``, ``200 tokens long``, ``two sentences``, ``briefly``."""
    if found := _LENGTH.search(prompt):
        number = min(_NUMBERS.get(found[1].lower()) or int(found[1]), MAX_OUTPUT_TOKENS)
        match found[2].lower():
            case "token":
                return Length(tokens=number)
            case "word":
                return Length(tokens=min(math.ceil(number * 1.4), MAX_OUTPUT_TOKENS))  # 1.4 tokens to a word
            case "sentence":
                return Length(sentences=number)
            case "paragraph":
                return Length(tokens=min(number * 75, MAX_OUTPUT_TOKENS))
    if re.search(r"\b(brief|briefly|short|shortly)\b", prompt, re.IGNORECASE):
        return Length(sentences=2)
    if re.search(r"\b(essay|in detail|detailed|at length|long answer|long text)\b", prompt, re.IGNORECASE):
        return Length(tokens=4 * USUAL_LENGTH)
    return Length()


def fit(paragraphs: Iterator[str], length: Length) -> str:
    """As much of ``paragraphs`` as the length asks for, ending with a whole sentence."""
    if length.sentences is not None:
        found: list[str] = []
        for paragraph in paragraphs:
            found += sentences(paragraph)
            if len(found) >= length.sentences:
                break
        return " ".join(found[: length.sentences])
    taken, tokens = [], 0
    for paragraph in paragraphs:
        taken.append(paragraph)
        tokens += count_tokens(paragraph) + 1  # the blank line between two is a token
        if tokens > length.tokens:
            break
    text = "\n\n".join(taken)
    if length == Length():
        return text  # the usual length is a wish: end with the paragraph
    return cut_at_sentence("".join(split_tokens(text)[: length.tokens]))


def cut_at_sentence(text: str) -> str:
    """``text`` up to its last full sentence; all of it when there is none."""
    ends = [found.end() for found in re.finditer(r"[.!?…](?=\s|$)", text)]
    return text[: ends[-1]] if ends else text


# --- what the model knows -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Topic:
    """A heading of ``topics.md``: the stems that lead to it, its paragraphs, and all stems in either."""

    title: str
    words: frozenset[str]
    paragraphs: tuple[str, ...]
    all_words: frozenset[str]


@cache
def topics() -> tuple[Topic, ...]:
    """The topics of ``topics.md``, in its order."""
    text = files(__package__).joinpath("topics.md").read_text(encoding="utf-8")
    found = []
    for section in text.split("\n## ")[1:]:
        title, words, body = re.split(r"\n+", section.strip(), maxsplit=2)
        leading = frozenset(keywords(f"{title} {words}"))
        found.append(Topic(title, leading, tuple(body.split("\n\n")), leading | set(keywords(body))))
    return tuple(found)


def rarity(word: str) -> float:
    """How much a word tells: one over the number of topics that use it. ``stream`` tells next to nothing."""
    return 1 / max(1, sum(word in topic.all_words for topic in topics()))


def best_topic(prompt: str) -> Topic | None:
    """The topic whose words the prompt shares, rare ones first; None when it shares none."""
    asked = set(keywords(_LENGTH.sub(" ", prompt)))

    def score(topic: Topic) -> float:
        return sum(rarity(word) for word in asked & topic.words)

    best = max(topics(), key=score)  # of equals, the one that stands first in the file
    return best if score(best) else None


# --- skills ---------------------------------------------------------------------------------------


def repeat(prompt: str) -> str | None:
    """``Repeat after me: …``, ``Say exactly: …``: the text after the colon, unchanged."""
    found = re.match(
        r"\s*(?:please\s+)?(?:repeat|say|echo)\b[^:\n]{0,40}:\s?(.+)", prompt, re.IGNORECASE | re.DOTALL
    )
    return found[1] if found else None


def count(prompt: str) -> str | None:
    """``Count from 3 to 7``, ``count to 20``: the numbers, one after another."""
    found = re.search(r"\bcount\s+(?:from\s+(\d{1,4})\s+)?(?:up\s+)?to\s+(\d{1,4})\b", prompt, re.IGNORECASE)
    if not found:
        return None
    first, last = int(found[1] or 1), int(found[2])
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return ", ".join(map(str, numbers)) + "."


def introduce(prompt: str) -> str | None:
    """``Who are you?``: the truth."""
    asked = (
        r"\b(who|what) (are|r) you\b|\b(which|what) (model|llm) (are you|is this|am i)|\byour name\b"
        r"|\bare you (a |an |the )?(real|human|robot|bot|ai\b|llm|gpt|chatgpt|claude|gemini|simulat)"
    )
    return ABOUT_ME if re.search(asked, prompt, re.IGNORECASE) else None


def greet(prompt: str) -> str | None:
    """``Hello!``: a greeting, and what there is to ask about."""
    if not re.fullmatch(
        r"\s*(hi|hello|hey|good (morning|evening|day))\b[\s\w]{0,12}[!.,]*\s*", prompt, re.IGNORECASE
    ):
        return None
    return "Hello! I am this course's simulated model → ask me about tokens, events, generators, retries."


def summarise(prompt: str) -> str | None:
    """``Summarise: <text>``: its most telling sentences, in their own order (an extractive summary)."""
    if not re.search(r"\b(summar[iy]|tl;?dr)", prompt, re.IGNORECASE):
        return None
    text = text_to_summarise(prompt)
    found = sentences(text)
    if len(found) < 2:
        return None
    length = wanted_length(prompt.replace(text, ""))
    weight = Counter(keywords(text))

    def value(sentence: str) -> float:
        words = keywords(sentence)
        return sum(weight[word] for word in words) / (
            len(words) + 4
        )  # + 4: a three-word sentence tells little

    ranked = sorted(range(len(found)), key=lambda i: (-value(found[i]), i))
    if length.sentences is not None:
        chosen = ranked[: length.sentences]
    elif length == Length():
        chosen = ranked[: max(1, min(3, len(found) // 2))]
    else:
        chosen, room = [], length.tokens
        for i in ranked:
            room -= count_tokens(found[i])
            if room >= 0 or not chosen:
                chosen.append(i)
    return " ".join(found[i] for i in sorted(chosen))


def text_to_summarise(prompt: str) -> str:
    """What follows the instruction: after its blank line, after its first colon, or after its first
    sentence."""
    for cut in (r"\n\s*\n", r":\s", r"(?<=[.!?])\s"):
        parts = re.split(cut, prompt.strip(), maxsplit=1)
        if len(parts) == 2 and len(sentences(parts[1])) >= 2:
            longer = max(parts, key=len)  # the instruction may also stand below the text
            return longer.strip().strip("\"'`")
    return prompt


_SKILLS: tuple[Callable[[str], str | None], ...] = (repeat, count, introduce, greet, summarise)


def explain(asked: Sequence[str], seed: int | None) -> str:
    """Paragraphs about the topic of the last prompt; of an earlier one when the last names none."""
    length = wanted_length(asked[-1])
    for prompt in reversed(asked):
        if topic := best_topic(prompt):
            # who asks for no length gets no other topic: a haiku is a haiku
            most = len(topic.paragraphs) if length == Length() else None
            return fit(islice(told(topic, prompt), most), length)
    names = ", ".join(topic.title for topic in topics()[:6])
    opening = (
        f"I am a simulation and know nothing about that — ask me about {names}. Here is something I do know."
    )
    topic = Random(f"{seed} {asked[-1]}").choice(topics()[:6])
    return fit(chain([opening], told(topic, "")), length)


def told(topic: Topic, prompt: str) -> Iterator[str]:
    """The topic's paragraphs, then the other topics', round and round.

    The paragraph begins that shares most words with the prompt, beside those that led to the topic.
    """
    asked = set(keywords(_LENGTH.sub(" ", prompt))) - topic.words
    nearest = max(
        range(len(topic.paragraphs)), key=lambda i: (len(asked & set(keywords(topic.paragraphs[i]))), -i)
    )
    yield from (*topic.paragraphs[nearest:], *topic.paragraphs[:nearest])
    order = topics()
    at = order.index(topic)
    while True:
        for other in (*order[at + 1 :], *order[:at]):
            yield from other.paragraphs
        yield from topic.paragraphs


# --- the whole ------------------------------------------------------------------------------------


def reply(messages: Sequence[Message], seed: int | None = None) -> str:
    """What the model says to a conversation."""
    asked = [message.text for message in messages if message.role == "user" and message.text.strip()]
    if not asked:
        return ABOUT_ME
    if messages[-1].role == "tool":
        return report(messages)
    if (rest := go_on(messages, seed)) is not None:
        return rest
    for skill in _SKILLS:
        if (text := skill(asked[-1])) is not None:
            return text
    return explain(asked, seed)


def go_on(messages: Sequence[Message], seed: int | None) -> str | None:
    """The rest of an answer that broke off: the last turn is the model's own, or asks it to continue."""
    *before, last = messages
    if last.role == "user" and before and re.search(r"\b(continue|go on|carry on|resume)\b", last.text, re.I):
        *before, last = before
    if last.role != "assistant" or not any(message.role == "user" for message in before):
        return None
    whole = reply(before, seed)
    if last is messages[-1] and last.text == whole:
        return ""  # it broke off before it said that this was all
    for said in (last.text, last.text.rstrip()):
        if said and whole.startswith(said) and whole != said:
            return whole.removeprefix(said)
    return None


def report(messages: Sequence[Message]) -> str:
    """What the tools answered, told to the reader."""
    results = [
        message.text for message in messages[last_of(messages, "user") + 1 :] if message.role == "tool"
    ]
    return f"The tools answered → {'; '.join(results)}. That is all I know about it."


def last_of(messages: Sequence[Message], role: str) -> int:
    """The index of the last message of that role, -1 when there is none."""
    return max((i for i, message in enumerate(messages) if message.role == role), default=-1)


def think(prompt: str) -> str:
    """The thoughts of the reasoning profile: what it looks at before it answers."""
    topic = best_topic(prompt)
    about = topic.title if topic else "something outside my small text"
    words = ", ".join(dict.fromkeys(keywords(prompt)[:6])) or "nothing in particular"
    return (
        f"The reader asks about {about}. The words that matter here: {words}. "
        "First I look for the paragraph that shares most of them, then for the length that is wanted. "
        "A short answer → one paragraph; a longer one → the neighbours of that paragraph too. "
        "I must not invent anything, so I stay with the text I have. Now I can answer."
    )
