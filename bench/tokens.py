"""Counting tokens while they arrive: three ways side by side, as a table of ratios.

    python bench/tokens.py

- `TokenCounter`: exact after every chunk (streamlib.tokens).
- encode all: the whole text so far is encoded again at every chunk. Exact as well.
- add up: ``len(encode(chunk))`` of every chunk, summed. Not exact: the column says by how much.

Chunks are the tokens of the text, or words with a blank behind them, which is what many mock servers send.
Rounds of the three are interleaved, so a busy machine slows all alike: look at the ratios, not at the times.
Four times the text is four times the work for one way, and sixteen times for the other: the ratio grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import streamlib
from streamlib.tokens import TokenCounter, encoding

ROUNDS = 3
SIZES = (1000, 4000)  # tokens


def incremental(chunks: list[str]) -> int:
    counter = TokenCounter()
    for chunk in chunks:
        counter.add(chunk)
    return counter.count


def encode_all(chunks: list[str]) -> int:
    encode = encoding().encode_ordinary
    text, count = "", 0
    for chunk in chunks:
        text += chunk
        count = len(encode(text))
    return count


def add_up(chunks: list[str]) -> int:
    encode = encoding().encode_ordinary
    count = 0
    for chunk in chunks:
        count += len(encode(chunk))
    return count


WAYS: dict[str, Callable[[list[str]], int]] = {
    "TokenCounter": incremental,
    "encode all": encode_all,
    "add up": add_up,
}


def texts() -> dict[str, str]:
    """Prose and code from the package itself, and two texts without a single blank."""
    here = Path(streamlib.__file__).parent
    return {
        "English": (here / "sim" / "topics.md").read_text(encoding="utf-8"),
        "Python": "".join(path.read_text(encoding="utf-8") for path in sorted(here.glob("*.py"))),
        "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 400,
        "one piece": "漢字仮名交じり文" * 2000,
    }


def by_token(text: str, size: int) -> list[str]:
    """The first `size` tokens of `text`, as chunks. A character that is cut comes with its last token."""
    chunks, pending = [], b""
    for token in encoding().decode_tokens_bytes(encoding().encode_ordinary(text)[:size]):
        pending += token
        try:
            chunks.append(pending.decode())
        except UnicodeDecodeError:
            continue
        pending = b""
    return chunks


def by_word(text: str, size: int) -> list[str]:
    return [word + " " for word in "".join(by_token(text, size)).split()]


def measure(chunks: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds and the final count of each way, over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    counts: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, count in WAYS.items():
            start = time.perf_counter()
            counts[name] = count(chunks)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}, counts


def main() -> None:
    encoding().encode_ordinary("load the vocabulary before the clock runs")
    print("| text | chunks | n | TokenCounter, us a chunk | encode all / TokenCounter | add up: error |")
    print("|---|---|---|---|---|---|")
    for name, text in texts().items():
        for how, cut in (("tokens", by_token), ("words", by_word)):
            if how == "words" and " " not in text:
                continue
            for size in SIZES:
                chunks = cut(text, size)
                seconds, counts = measure(chunks)
                exact = len(encoding().encode_ordinary("".join(chunks)))
                assert counts["TokenCounter"] == counts["encode all"] == exact, (
                    name,
                    how,
                    size,
                    counts,
                    exact,
                )
                each = seconds["TokenCounter"] / len(chunks) * 1e6
                ratio = seconds["encode all"] / seconds["TokenCounter"]
                error = counts["add up"] / exact - 1
                print(
                    f"| {name} | {how} | {len(chunks)} | {each:.1f} | {ratio:.0f} | {error:+.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
