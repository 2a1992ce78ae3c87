"""The same streams measured twice: by `streamlib.metrics`, and by aiperf, a benchmark for LLM servers.

    python bench/metrics.py

aiperf asks the embedded model through a relay in this process. The relay hands on every byte as it is, and a
`StreamTimer` in it writes down what passes; so both measure the very same streams, each with code of its own:
its own HTTP client, parser, definitions and percentiles. Median beside median, for answers without and with
reasoning. Exits with 1 when two of them are more than 5 per cent apart, or when aiperf saw other streams. Its
clock starts one hop earlier, so its times to the first token are some milliseconds longer.

aiperf brings 800 MB of packages, so it is no dependency: the first run puts it into an environment of its own
under test-artifacts/. The tokenizer it wants is made here; nothing is downloaded while it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from math import nan
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from streamlib.connect import Model, connect
from streamlib.metrics import StreamTimer, kind_of, percentile
from streamlib.sse import SSEParser

AIPERF = "aiperf==0.13.*"
HOME = Path(__file__).parents[1] / "test-artifacts" / "aiperf"
PROFILES = ("typical", "reasoning")
REQUESTS, WARM_UP, AT_ONCE, TOKENS = 32, 4, 4, 128
MOST_APART = 0.05
SECONDS = 300.0  # that one run of aiperf may take

Numbers = dict[str, float]

TOKENIZER = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = {word: number for number, word in enumerate(["[UNK]", *"abcdefghijklmnopqrstuvwxyz"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(sys.argv[1])
"""


# ---- aiperf


def programs() -> Path:
    """The folder of aiperf's programs; made when it is not there."""
    folder = HOME / ("Scripts" if os.name == "nt" else "bin")
    if not any(folder.glob("aiperf*")):
        print(f"installing {AIPERF} into {HOME} …", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(HOME)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(HOME), AIPERF], check=True)
    return folder


async def aiperf(url: str, model: str, folder: Path) -> Numbers:
    """Medians of one run of aiperf, by its own names."""
    tokenizer, out = folder / "tokenizer", folder / "out"
    if not tokenizer.exists():
        await run(programs() / "python", "-c", TOKENIZER, str(tokenizer))
    arguments = f"profile --model {model} --url {url} --endpoint-type chat --streaming --ui-type none"
    arguments += f" --tokenizer {tokenizer} --use-server-token-count --output-artifact-dir {out}"
    arguments += f" --synthetic-input-tokens-mean 20 --output-tokens-mean {TOKENS} --random-seed 1"
    arguments += f" --concurrency {AT_ONCE} --request-count {REQUESTS} --warmup-request-count {WARM_UP}"
    await run(programs() / "aiperf", *arguments.split())
    report = json.loads((out / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    return {
        name: entry["p50"] for name, entry in report.items() if isinstance(entry, dict) and "p50" in entry
    }


async def run(*command: object) -> None:
    """Run a program; what it says is shown when it fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OPENAI_"))
    }
    process = await asyncio.create_subprocess_exec(
        *map(str, command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SystemExit(f"{command[0]} took more than {SECONDS:g} s") from None
    if process.returncode:
        raise SystemExit(f"{said.decode(errors='replace')[-3000:]}\n{command[0]} failed")


# ---- our side: a relay that writes down what passes


class Relay:
    """Hands requests on to the model, with profile and seed, and the bytes of the answers back."""

    def __init__(self, base_url: str, profile: str) -> None:
        self.profile = profile
        self.timers: list[StreamTimer] = []
        self._upstream = httpx2.AsyncClient(base_url=base_url, timeout=60)
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> StreamingResponse:
        timer = StreamTimer()
        self.timers.append(timer)
        headers = {"content-type": "application/json", "x-sim-profile": self.profile}
        headers["x-sim-seed"] = str(len(self.timers))
        call = self._upstream.build_request(
            "POST", "chat/completions", content=await request.body(), headers=headers
        )
        response = await self._upstream.send(call, stream=True)
        return StreamingResponse(
            self._body(response, timer), response.status_code, media_type=response.headers["content-type"]
        )

    async def _body(self, response: httpx2.Response, timer: StreamTimer) -> AsyncIterator[bytes]:
        parser = SSEParser()
        try:
            async for data in response.aiter_bytes():
                for event in parser.feed(data):
                    if event.data == "[DONE]":
                        timer.mark("end")
                        continue
                    chunk = event.json()
                    timer.mark(*kind_of(chunk))
                    timer.usage = (chunk.get("usage") or {}).get("completion_tokens", timer.usage)
                yield data
        finally:
            await response.aclose()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serves on a free port of this machine: the URL."""
        server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning", lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve([listening]))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True
            await serving
        await self._upstream.aclose()

    def medians(self) -> Numbers:
        """What aiperf reports, computed by `streamlib.metrics`: times in ms, rates in tokens/s."""
        streams = [timer.stats() for timer in self.timers[WARM_UP:]]
        if len(streams) != REQUESTS or not all(stats.completed for stats in streams):
            raise SystemExit(
                f"expected {REQUESTS} whole streams after {WARM_UP} to warm up, saw {len(streams)}"
            )

        def p50(values: Iterable[float | None], unit: float = 1.0) -> float:
            found = percentile([value * unit for value in values if value is not None], 50)
            return nan if found is None else found

        return {
            "time_to_first_token": p50((stats.ttft for stats in streams), 1000),
            "time_to_first_output_token": p50((stats.ttfo for stats in streams), 1000),
            "inter_token_latency": p50((stats.itl for stats in streams), 1000),
            "inter_chunk_latency": p50((gap for stats in streams for gap in stats.gaps), 1000),
            "output_token_throughput_per_user": p50(stats.output_rate for stats in streams),
            "e2e_output_token_throughput": p50(stats.throughput for stats in streams),
            "request_latency": p50((stats.end_to_end for stats in streams), 1000),
            "output_sequence_length": p50(stats.tokens for stats in streams),
        }


# ---- side by side

OURS = {
    "time_to_first_token": "ttft, ms",
    "time_to_first_output_token": "ttfo, ms",
    "inter_token_latency": "itl, ms",
    "inter_chunk_latency": "gaps, ms",
    "output_token_throughput_per_user": "output_rate, tokens/s",
    "e2e_output_token_throughput": "throughput, tokens/s",
    "request_latency": "end_to_end, ms",  # aiperf's ends with the last text, ours with the stream
    "output_sequence_length": "tokens",
}


async def compare(model: Model, profile: str, folder: Path) -> bool:
    """One run and its table. Whether all medians are near enough to each other."""
    relay = Relay(model.base_url, profile)
    async with relay.serving() as url:
        theirs = await aiperf(url, model.name, folder)
    ours = relay.medians()
    near = True
    print(f"\n{profile}: {REQUESTS} streams, {AT_ONCE} at once, p50")
    print(f"{'aiperf':34} {'':>10} {'streamlib':>11}  {'':22} ratio")
    for name, value in ours.items():
        other = theirs.get(name, nan)
        ratio = value / other
        apart = not abs(ratio - 1) <= MOST_APART  # nan is never near
        near &= not apart
        print(
            f"{name:34} {other:10.2f} {value:11.2f}  {OURS[name]:22} {ratio:.3f}{'  APART' if apart else ''}"
        )
    return near


async def main() -> None:
    programs()
    model = connect()
    if not model.is_simulated:
        raise SystemExit("this compares on the embedded model: unset OPENAI_BASE_URL and OPENAI_API_KEY")
    with tempfile.TemporaryDirectory() as folder:
        near = [await compare(model, profile, Path(folder, profile)) for profile in PROFILES]
    sys.exit(0 if all(near) else 1)


if __name__ == "__main__":
    asyncio.run(main())
