"""What the live views cost the streams they show, in a real JupyterLab: ``python -m bench.widgets``.

    python -m bench.widgets                    every view, three rounds each: about a quarter of an hour
    python -m bench.widgets --rounds 1 Board   one view, one round: does the bench work?

Each round measures the same streams in the same kernel four times: with the view on the screen of a headless
Chromium, twice without, and with it again, so that a machine that gets slower meanwhile is the same to both.
The streams come from a process of its own that sends on an absolute schedule. Their lengths differ, the same
in every run, so that after the first instant they do not all begin at once. Every number is a median over
rounds. Exit code 1 when a bar does not hold.

- throughput, TTFT p50, p99 of the gaps between tokens: with the view, against without.
- frames: how often the browser changed the picture, by a MutationObserver in the page. The painter
  process has started before: a kernel's first view has no moving picture for that second or two.
- kernel: its processor time for one frame: of the task that shows one picture after the other, and of all
  threads but the one in which the streams are received. Measured itself, and not as a difference of two runs:
  a virtual machine is not equally fast for long, and the browser and the painter on the other processor slow
  down whatever the kernel does.
- first picture: from running the cell in a fresh kernel to the picture on the page, imports included.

The Board measures its own streams. Beside a view of one stream, four more are measured that it does not show.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import nbformat

from streamlib.metrics import percentile

RATE, TOKENS, AT_ONCE, STREAMS = 100, "41-60", 4, 60  # about 11 seconds
MANY_RATE, MANY_TOKENS, MANY, MANY_STREAMS = 20, "21-60", 50, 320  # about 14 seconds
WAIT = 0.2  # seconds to the first token

SETUP = f"""
import asyncio, gc, json, threading, time, types
from pathlib import Path
from streamlib.chat import stream_chat
from streamlib.widgets import Board, Flow, Race, Retries, Wire, view
from streamlib.widgets.ask import Ask
from streamlib.widgets.board_load import Load
from streamlib.widgets.painter import Painter

async def on_board(model, at_once, requests, show):
    if not show:
        return await Load(Ask("Hi", model), label="off", concurrency=at_once, requests=requests).run()
    board = Board("Hi", model=model)
    rest = board._rest
    async def ended():  # what follows is the picture that stays, and files to download
        mark()
        await rest()
    board._rest = ended
    run = await board.run("on", concurrency=at_once, requests=requests)
    board.close()
    return run

async def beside(shown, show):
    load = Load(Ask("Hi", "{RATE}x{TOKENS}"), label="beside", concurrency={AT_ONCE}, requests={STREAMS})
    watched = asyncio.ensure_future(shown if show else shown.receive())
    run = await load.run()
    mark()
    await watched
    return run

spent = dict(frames=0, moving=0.0)
keep_moving, paint = view.keep_moving, Painter.paint

@types.coroutine
def timed(coroutine):
    step, argument = coroutine.send, None
    while True:
        began = time.thread_time()
        try:
            waits_for = step(argument)
        except StopIteration as end:
            return end.value
        finally:
            spent["moving"] += time.thread_time() - began
        try:
            step, argument = coroutine.send, (yield waits_for)
        except BaseException as error:
            step, argument = coroutine.throw, error

async def timed_keep_moving(*arguments):
    await timed(keep_moving(*arguments))

async def counted_paint(*arguments):
    spent["frames"] += 1
    return await paint(*arguments)

view.keep_moving, Painter.paint = timed_keep_moving, counted_paint

def other_threads():
    here = threading.get_native_id()
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(here)]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

marks = []
def mark():
    marks.append((time.perf_counter(), spent["frames"], spent["moving"] + other_threads()))

async def measure(work):
    gc.collect()
    marks.clear()
    mark()
    run = await work
    mark()  # of no account, when the streams' end was marked
    seconds, frames, cpu = [after - before for before, after in zip(*marks[:2])]
    assert not run.failed, run.results
    ttfts = sorted(stats.ttft for stats in run.streams)
    gaps = [gap for stats in run.streams for gap in stats.gaps]
    result = dict(ttfts=ttfts, gaps=gaps, throughput=run.tokens_per_second)
    print(json.dumps(result | dict(seconds=seconds, frames=frames, cpu=cpu)))

for show in (False, True):  # warm up; the first picture of a kernel starts the painter, too
    await on_board("200x10", 2, 2, show)
"""
LONG = f'"{RATE}x{int(RATE * STREAMS / AT_ONCE * (50 / RATE + WAIT))}"'  # one stream, as long as the load
WORK = {
    "Board": f'on_board("{RATE}x{TOKENS}", {AT_ONCE}, {STREAMS}, SHOW)',
    f"Board, {MANY} streams": f'on_board("{MANY_RATE}x{MANY_TOKENS}", {MANY}, {MANY_STREAMS}, SHOW)',
    "Race": f'beside(Race("Hi", model={LONG}), SHOW)',
    "Wire": f'beside(Wire("Hi", model={LONG}), SHOW)',
    "Flow": f'beside(Flow(stream_chat("Hi", model={LONG})), SHOW)',
    "Retries": f'beside(Retries("Hi", model={LONG}), SHOW)',
}
FIRST = """
from streamlib.widgets import {name}
view = {view}
{show}
"""
FIRSTS = {
    "Board": ("Board(model='100x100')", "view"),
    "Race": ("Race('Hi', model='100x100')", "await view"),
    "Wire": ("Wire('Hi', model='100x100')", "await view"),
    "Flow": ("Flow(__import__('streamlib.chat').chat.stream_chat('Hi', model='100x100'))", "await view"),
    "Retries": ("Retries('Hi', model='100x100')", "await view"),
}

# Counts the distinct pictures that the page gets, and notes when the first one is there.
WATCH = """() => {
  window.seen = {frames: 0, first: null, began: performance.now()};
  let last = '';
  window.watcher?.disconnect();
  window.watcher = new MutationObserver(() => {
    const pictures = document.querySelectorAll('.jp-OutputArea .widget-html-content');
    const now = Array.from(pictures, picture => picture.innerHTML).join();
    if (now === last) return;
    last = now;
    if (!now.includes('<svg')) return;
    window.seen.frames += 1;
    window.seen.first ??= performance.now() - window.seen.began;
  });
  const notebook = document.querySelector('.jp-Notebook');
  window.watcher.observe(notebook, {childList: true, subtree: true, characterData: true});
}"""


# -- the server: so many tokens a second, on an absolute schedule ------------------------------------------


asked_for: Counter[str] = Counter()


def length(tokens: str) -> int:
    """How many tokens to send: "200", or for "41-60" each of these lengths once before any comes again."""
    low, _, high = tokens.partition("-")
    lengths = range(int(low), int(high or low) + 1)
    asked_for[tokens] += 1
    return lengths[7 * asked_for[tokens] % len(lengths)]  # in steps of 7, which divides no number of lengths


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection. The model is what to send: "100x200" is 200 tokens, 100 a second."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = next(
                (int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0
            )
            body = await reader.readexactly(size)
            began = loop.time()
            if not body:
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}')
                continue
            asked = json.loads(body)
            rate, tokens = asked["model"].split("x")
            rate, tokens = int(rate), length(tokens)
            if asked["stream"]:
                writer.write(
                    b"HTTP/1.1 200 OK\r\n"
                    b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                data = b'data: {"choices": [{"delta": {"content": " token"}, "finish_reason": null}]}\n\n'
                for number in range(tokens):
                    await asyncio.sleep(began + WAIT + number / rate - loop.time())
                    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                data = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
                writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            else:
                await asyncio.sleep(WAIT + tokens / rate)
                data = b'{"choices": [{"message": {"content": "token"}}]}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until who started it is gone


@contextmanager
def serving() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.widgets", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


# -- JupyterLab ----------------------------------------------------------------------------------------------


def run_cell(notebook: Any, source: str, timeout: float = 120) -> tuple[str, dict[str, Any]]:
    """Put `source` into the last cell, run it, wait; what it printed, and what the page saw meanwhile."""
    page = notebook.page
    page.evaluate(
        """source => {
          const notebook = window.jupyterapp.shell.currentWidget.content;
          notebook.activeCellIndex = notebook.widgets.length - 1;
          notebook.activeCell.model.sharedModel.setSource(source);
        }""",
        source,
    )
    page.evaluate(WATCH)
    notebook.command("notebook:run-cell", wait=False)
    page.wait_for_function(
        "count => { const cell = window.jupyterapp.shell.currentWidget.content.activeCell.model;"
        "return cell.executionState === 'idle' && cell.executionCount > count; }",
        arg=notebook.count,
        timeout=1000 * timeout,
    )
    notebook.count = notebook.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.activeCell.model.executionCount"
    )
    seen: dict[str, Any] = page.evaluate("() => { return window.seen; }")
    outputs = notebook.cells()["cells"][-1]["outputs"]
    for output in outputs:
        if output["output_type"] == "error":
            raise RuntimeError("\n".join([output["ename"], output["evalue"], source]))
    return "".join(output.get("text", "") for output in outputs), seen


def first_picture(notebook: Any, name: str) -> float:
    """Seconds from running a cell with a view, in a fresh kernel, to its picture."""
    page = notebook.page
    page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
    )
    page.wait_for_timeout(2500)
    notebook.wait_for_kernel()
    notebook.count = 0
    run_cell(notebook, "from streamlib.connect import connect")
    view, show = FIRSTS[name]
    run_cell(notebook, FIRST.format(name=name, view=view, show=show))
    page.wait_for_function("() => window.seen.first !== null", timeout=30_000)
    return float(page.evaluate("() => window.seen.first")) / 1000


def compare(on: list[dict[str, Any]], off: list[dict[str, Any]]) -> dict[str, float]:
    """One round: what the view did to the streams."""

    def p(runs: list[dict[str, Any]], name: str, q: float) -> float:
        return percentile([value for run in runs for value in run[name]], q) or 0.0

    def total(runs: list[dict[str, Any]], name: str) -> float:
        return float(sum(run[name] for run in runs))

    return {
        "throughput": total(on, "throughput") / total(off, "throughput"),
        "ttft": 1000 * (p(on, "ttfts", 50) - p(off, "ttfts", 50)),
        "gaps": p(on, "gaps", 99) / p(off, "gaps", 99),
        "frames": total(on, "seen") / total(on, "seconds"),
        "kernel": 1000 * total(on, "cpu") / total(on, "frames"),
    }


HEAD = ("view", "throughput", "TTFT p50, ms", "p99 gap", "frames/s", "kernel, ms/frame", "first picture, s")
BARS = {
    "throughput": (">=", 0.99),
    "ttft": ("<=", 1.0),
    "gaps": ("<=", 1.25),
    "kernel": ("<", 3.0),
    "first": ("<=", 1.5),
}


def holds(name: str, value: float, view: str) -> bool:
    if name == "frames":
        return value >= (5 if str(MANY) in view else 10)
    sign, bar = BARS[name]
    return value >= bar if sign == ">=" else value <= bar


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("views", nargs="*", metavar="VIEW", help=f"of {', '.join(FIRSTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return 0

    from tests.browser.lab import OpenNotebook, new_page, open_browser, running_lab

    work = {name: code for name, code in WORK.items() if not args.views or name.split(",")[0] in args.views}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in work}
    firsts: dict[str, list[float]] = {name: [] for name in work if name in FIRSTS}
    with tempfile.TemporaryDirectory() as folder, serving() as base_url:
        cells = [nbformat.v4.new_code_cell("")]
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        empty = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
        nbformat.write(empty, Path(folder) / "bench.ipynb")
        address = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none"}
        with running_lab(Path(folder), environment=address) as lab, open_browser() as browser:
            notebook: Any = OpenNotebook(new_page(browser), lab, "bench.ipynb")
            for turn in range(args.rounds):
                for name in firsts:
                    firsts[name].append(first_picture(notebook, name))
                run_cell(notebook, SETUP)
                for name, code in work.items():
                    results: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
                    for show in (True, False, False, True):
                        text, seen = run_cell(notebook, f"await measure({code.replace('SHOW', str(show))})")
                        results[show].append(json.loads(text.splitlines()[-1]) | {"seen": seen["frames"]})
                    rounds[name].append(compare(results[True], results[False]))
                    print(f"round {turn + 1}, {name}: {rounds[name][-1]}", file=sys.stderr)
            notebook.close()
    return report(rounds, firsts)


def report(rounds: dict[str, list[dict[str, float]]], firsts: dict[str, list[float]]) -> int:
    """The table; 1 when a bar does not hold."""
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    broken = []
    for view, measured in rounds.items():
        values = {name: median(one[name] for one in measured) for name in measured[0]}
        if view in firsts:
            values["first"] = median(firsts[view])
        cells = []
        for name, value in values.items():
            good = holds(name, value, view)
            if not good:
                broken.append(f"{view}: {name}")
            cells.append(
                f"{value:.3f}"
                if name == "throughput"
                else f"{value:+.2f}"
                if name == "ttft"
                else f"{value:.2f}"
            )
            cells[-1] += "" if good else " ✗"
        print(f"| {view} | {' | '.join(cells)} |")
    print("bars: throughput >= 0.99, TTFT p50 <= +1 ms, p99 gap <= 1.25, frames/s >= 10 (many streams: 5), ")
    print(
        "kernel < 3 ms, first picture <= 1.5 s. "
        + (f"Broken: {'; '.join(broken)}" if broken else "All hold.")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
