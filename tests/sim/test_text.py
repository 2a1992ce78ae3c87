"""What the simulated model says."""

from __future__ import annotations

import pytest

from streamlib.sim.model import Message
from streamlib.sim.text import ABOUT_ME, best_topic, reply, sentences, topics
from streamlib.sim.tokens import count_tokens


def say(prompt: str) -> str:
    return reply([Message("user", prompt)])


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("What is SSE?", "Server-Sent Events"),
        ("Explain server-sent events to a beginner.", "Server-Sent Events"),
        ("Explain how LLM streaming works.", "Streaming"),
        ("why does streaming feel faster?", "Streaming"),
        ("What is a token?", "Tokens"),
        ("What is the difference between a chunk and a token?", "Tokens"),
        ("What is time to first token?", "Time to first token"),
        ("what does throughput mean", "Inter-token latency"),
        ("How do async generators work?", "Async generators"),
        ("Why does asyncio.run fail in a notebook?", "The event loop"),
        ("Explain backpressure in one sentence", "Backpressure"),
        ("How do I cancel a stream?", "Cancelling"),
        ("When should I retry?", "Retries"),
        ("Why add jitter?", "Jitter"),
        ("My stream hangs. Which timeouts help?", "Timeouts"),
        ("How does a pipeline of stages work?", "Pipelines"),
        ("How do I serve tokens with FastAPI?", "Serving"),
        ("Why does nginx spoil streaming?", "Proxies"),
        ("Why report percentiles?", "Measuring"),
        ("What does finish_reason tell me?", "Incomplete answers"),
        ("How do tool calls arrive?", "JSON and tools"),
        ("How many bytes has an emoji in UTF-8?", "Unicode"),
        ("What does it cost?", "Cost"),
        ("A semaphore or a rate limiter?", "Many streams at once"),
        ("WebSocket or long polling?", "WebSockets and polling"),
        ("What is chunked transfer encoding in HTTP?", "HTTP underneath"),
        ("Write a haiku about streaming", "A haiku"),
        ("Tell me a joke", "A joke"),
    ],
)  # fmt: skip
def test_the_words_of_a_prompt_lead_to_its_topic(prompt: str, title: str) -> None:
    topic = best_topic(prompt)
    assert topic is not None
    assert topic.title == title
    assert say(prompt).split("\n\n")[0][:40] in "\n".join(topic.paragraphs)


def test_every_paragraph_holds_a_character_outside_ascii() -> None:
    plain = [paragraph for topic in topics() for paragraph in topic.paragraphs if paragraph.isascii()]
    assert plain == []


def test_a_prompt_about_nothing_it_knows_gets_an_honest_sentence_first() -> None:
    said = say("What is the capital of France?")
    assert said.startswith("I am a simulation and know nothing about that")
    assert count_tokens(said) > 50


@pytest.mark.parametrize(
    "prompt", ["Who are you?", "which model is this", "Are you a real AI?", "What are you"]
)
def test_it_says_what_it_is(prompt: str) -> None:
    assert say(prompt) == ABOUT_ME


def test_a_conversation_without_a_question_gets_an_introduction() -> None:
    assert reply([Message("system", "Be brief.")]) == ABOUT_ME


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Repeat after me: one  two", "one  two"),
        ("Say exactly: Hello\nthere\u2028!", "Hello\nthere\u2028!"),
        ("please echo this text: ok", "ok"),
        ("Count from 3 to 6", "3, 4, 5, 6."),
        ("Please count to 3", "1, 2, 3."),
        ("count from 3 to 1", "3, 2, 1."),
    ],
)
def test_it_repeats_and_counts(prompt: str, said: str) -> None:
    assert say(prompt) == said


@pytest.mark.parametrize(
    ("prompt", "least", "most"),
    [
        ("Explain SSE in 500 words", 500, 750),
        ("Write 300 tokens about retries", 240, 300),
        ("Explain TTFT, 20 tokens long", 10, 20),
        ("An essay about streaming, please", 250, 400),
        ("Explain tokens", 60, 200),
    ],
)
def test_the_answer_has_the_length_that_is_asked_for(prompt: str, least: int, most: int) -> None:
    assert least <= count_tokens(say(prompt)) <= most


@pytest.mark.parametrize(
    ("prompt", "number"),
    [("Explain SSE in one sentence", 1), ("Three sentences about tokens", 3), ("Briefly: what is TTFT?", 2)],
)
def test_sentences_are_counted(prompt: str, number: int) -> None:
    assert len(sentences(say(prompt))) == number


def test_a_very_long_answer_goes_round_its_text() -> None:
    assert count_tokens(say("Write 8000 tokens about streaming")) > 7800


@pytest.mark.parametrize("unit", ["tokens", "words", "sentences", "paragraphs"])
def test_an_answer_without_bounds_is_bounded(unit: str) -> None:
    assert count_tokens(say(f"Write 999999 {unit} about streaming")) < 250_000


DOCUMENT = (
    "The harbour of the town freezes every winter. "
    "Ships then wait outside the harbour until an icebreaker comes. "
    "My aunt likes tea. In 1921 the icebreaker came too late and the harbour stayed closed for ten weeks. "
    "The town ran out of coal, since coal came by ship through the harbour."
)


@pytest.mark.parametrize(
    "prompt",
    [
        f"Summarise: {DOCUMENT}",
        f"Summarize the following text in two sentences.\n\n{DOCUMENT}",
        f"{DOCUMENT}\n\nGive me a summary of this.",
        f"TL;DR: {DOCUMENT}",
    ],
)
def test_a_summary_is_made_of_the_texts_own_sentences_in_order(prompt: str) -> None:
    found = [DOCUMENT.index(sentence) for sentence in sentences(say(prompt))]
    assert found == sorted(found)
    assert 1 <= len(found) < 4
    assert "aunt" not in say(prompt)


def test_a_summary_takes_as_many_sentences_as_asked() -> None:
    assert len(sentences(say(f"Summarise in one sentence: {DOCUMENT}"))) == 1


QUESTION = Message("user", "What is backpressure?")


@pytest.mark.parametrize(
    "turns",
    [
        lambda said: [QUESTION, Message("assistant", said)],
        lambda said: [QUESTION, Message("assistant", said), Message("user", "Continue where you stopped.")],
        lambda said: [QUESTION, Message("assistant", said.rstrip()), Message("user", "go on")],
        lambda said: [QUESTION, Message("assistant", said + "\n"), Message("user", "Please continue")],
    ],
    ids=["prefilled", "asked", "stripped", "padded"],
)  # fmt: skip
def test_an_answer_that_broke_off_is_continued_where_it_stopped(turns) -> None:  # type: ignore[no-untyped-def]
    whole = reply([QUESTION])
    for cut in (1, 30, 31, 100, len(whole) - 1):
        rest = reply(turns(whole[:cut]))
        assert whole.endswith(rest)
        assert whole[:cut].rstrip() + rest.lstrip() == whole[:cut].rstrip() + whole[cut:].lstrip()


def test_an_answer_that_is_all_there_is_continued_with_nothing() -> None:
    assert reply([QUESTION, Message("assistant", reply([QUESTION]))]) == ""


def test_an_answer_that_broke_off_after_its_last_word_is_continued_with_nothing() -> None:
    assert reply([QUESTION, Message("assistant", reply([QUESTION]))]) == ""


def test_what_tools_answered_is_told() -> None:
    said = reply([Message("user", "weather?"), Message("tool", "18 °C"), Message("tool", "rain")])
    assert "18 °C; rain" in said


def test_an_earlier_question_counts_when_the_last_names_no_topic() -> None:
    said = reply(
        [Message("user", "What is jitter?"), Message("assistant", "…"), Message("user", "And then?")]
    )
    assert "herd" in said
