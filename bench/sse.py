"""`streamlib.sse` beside its peers, on the same streams, in one run: `python bench/sse.py`, under a minute.

Timed is the framing alone: chunks of bytes in, one event after the other out, its data looked at. Peers that
read text get it from an incremental UTF-8 decoder, as they do behind their HTTP client. "naive loop" is the
one that tutorials show, `for line in response.iter_lines(): if line.startswith("data: ")`, with the lines of
httpx2. It makes no events, forgets their names and cuts a line at U+2028.

The clock is the CPU time of this thread, so that other work on the machine counts little. All peers run in
every round, in rotating order; a ratio is taken inside a round, and the table shows the median of the rounds.
"""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median

import anthropic._streaming
import httpx2._decoders
import httpx2._sse
import httpx_sse._decoders
import openai._streaming
import sseclient

from streamlib.sse import iter_events

EVENTS, ROUNDS = 3000, 11
LONG_LINE, LONG_ROUNDS = 4 * 1024 * 1024, 5
PAYLOAD = (
    '{"id":"chatcmpl-AbCdEf0123456789","object":"chat.completion.chunk","created":1795000000,'
    '"model":"some-model","service_tier":"default","system_fingerprint":"fp_0123456789",'
    '"choices":[{"index":0,"delta":{"content":" token%d"},"logprobs":null,"finish_reason":null}]}'
)


def text(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk)


# Each peer reads the chunks of one response and returns how many characters of data it saw.


def ours(chunks: list[bytes]) -> int:
    return sum_data(iter_events(chunks))


def sum_data(events: Iterable[object]) -> int:
    size = 0
    for event in events:
        size += len(event.data)
    return size


def httpx_sse_decoders(chunks: list[bytes]) -> int:
    line_decoder = httpx_sse._decoders.SSELineDecoder()
    decoder = httpx_sse._decoders.SSEDecoder()
    size = 0
    for piece in text(chunks):
        for line in line_decoder.decode(piece):
            event = decoder.decode(line)
            if event is not None:
                size += len(event.data)
    return size


def httpx2_parser(chunks: list[bytes]) -> int:
    parser = httpx2._sse._SSEParser()
    size = 0
    for piece in text(chunks):
        for event in parser.decode(piece):
            size += len(event.data)
    return size


def openai_decoder(chunks: list[bytes]) -> int:
    return sum_data(openai._streaming.SSEDecoder().iter_bytes(iter(chunks)))


def anthropic_decoder(chunks: list[bytes]) -> int:
    return sum_data(anthropic._streaming.SSEDecoder().iter_bytes(iter(chunks)))


def sseclient_py(chunks: list[bytes]) -> int:
    return sum_data(sseclient.SSEClient(chunks).events())


def iter_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """What `httpx2.Response.iter_lines` does."""
    decoder = httpx2._decoders.LineDecoder()
    for piece in text(chunks):
        yield from decoder.decode(piece)


def naive_loop(chunks: list[bytes]) -> int:
    size = 0
    for line in iter_lines(chunks):
        if line.startswith("data: "):
            size += len(line[6:])
    return size


Peer = Callable[[list[bytes]], int]
PEERS: dict[str, Peer] = {
    "streamlib": ours,
    "httpx-sse": httpx_sse_decoders,
    "httpx2": httpx2_parser,
    "openai": openai_decoder,
    "anthropic": anthropic_decoder,
    "sseclient-py": sseclient_py,
    "naive loop": naive_loop,
}
AT_LEAST = dict.fromkeys(PEERS, 1.0) | {
    "httpx-sse": 1.4,
    "openai": 3.5,
}  # times as fast as this peer, in every column


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


def columns() -> Iterator[tuple[str, list[bytes], int]]:
    """(title, chunks, characters of data in them)."""
    payloads = [PAYLOAD % i for i in range(EVENTS)]
    size = sum(map(len, payloads))
    for style, newline in (("LF", "\n"), ("CRLF", "\r\n")):
        for head in ("", f"event: response.output_text.delta{newline}"):
            events = [f"{head}data: {payload}{newline}{newline}".encode() for payload in payloads]
            title = f"{style}, named" if head else style
            yield f"{title}\n1 event", events, size
            yield f"{title}\n4 KiB", cut(b"".join(events), 4 * 1024), size
            yield f"{title}\n64 KiB", cut(b"".join(events), 64 * 1024), size


def race(chunks: list[bytes], size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per peer and round."""
    names = list(PEERS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # also the warm-up
        seen = PEERS[name](chunks)
        assert seen == size, f"{name} saw {seen} characters of data, the stream has {size}"
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            start = time.thread_time()
            PEERS[name](chunks)
            seconds[name].append(time.thread_time() - start)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as fast as each peer we are."""
    return {
        name: median(peer / own for peer, own in zip(times, seconds["streamlib"], strict=True))
        for name, times in seconds.items()
    }


def main() -> int:
    table: dict[str, list[str]] = {name: [] for name in PEERS}
    titles: list[str] = []
    lowest = dict.fromkeys(PEERS, float("inf"))
    for title, chunks, size in columns():
        titles.append(title)
        seconds = race(chunks, size, ROUNDS)
        for name, ratio in ratios(seconds).items():
            table[name].append(f"{ratio:.2f}x")
            lowest[name] = min(lowest[name], ratio)
        table["streamlib"][-1] = f"{median(seconds['streamlib']) / EVENTS * 1e6:.2f}"

    print("First row: microseconds per event. Others: how many times as long the peer takes.\n")
    for part in range(2):
        print(" " * 14 + "".join(title.split("\n")[part].rjust(12) for title in titles))
    for name, cells in table.items():
        print(name.ljust(14) + "".join(cell.rjust(12) for cell in cells))

    line = b"data: " + b"x" * LONG_LINE + b"\n\n"
    long = race(cut(line, 1460), LONG_LINE, LONG_ROUNDS)
    long_ratios = ratios(long)
    print(f"\nOne data line of {LONG_LINE >> 20} MiB in pieces of 1460 bytes, milliseconds:")
    print("  ".join(f"{name} {median(times) * 1000:.1f}" for name, times in long.items()))

    print("\nBars:")
    held = True
    bars = [(f"every column: {name}", lowest[name], AT_LEAST[name]) for name in PEERS if name != "streamlib"]
    for what, ratio, bar in [*bars, ("long line: httpx-sse", long_ratios["httpx-sse"], 1.0)]:
        held = held and ratio >= bar
        print(f"{'holds' if ratio >= bar else 'FAILS'}  {what}: at least {bar:.1f}x, lowest {ratio:.2f}x")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
