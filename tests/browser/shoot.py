"""Run a notebook in a real JupyterLab and look at it: ``python -m tests.browser.shoot NOTEBOOK [--out DIR]``.

Writes the whole notebook as numbered pictures (01.png, 02.png, ...), prints what went wrong on the page, and
exits 1 when something did. ``--live`` also takes a picture of the running cell every so many seconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .lab import OpenNotebook, new_page, open_browser, running_lab

RUNNING_CELL = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  const running = cells.find(w => w.model.type === 'code' && w.model.executionState === 'running');
  running?.node.scrollIntoView({block: 'center'});
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: test-artifacts/NOTEBOOK)")
    parser.add_argument(
        "--live", type=float, metavar="SECONDS", help="also a picture every SECONDS while it runs"
    )
    parser.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    parser.add_argument("--no-run", action="store_true", help="open it, run nothing")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for Run All (default: 180)")
    args = parser.parse_args()

    out = args.out or Path("test-artifacts") / args.notebook.stem
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    live: list[float] = []

    with tempfile.TemporaryDirectory() as name, running_lab(Path(name)) as lab, open_browser() as browser:
        shutil.copy(args.notebook, name)
        notebook = OpenNotebook(new_page(browser), lab, args.notebook.name, dark=args.dark)

        def picture() -> None:
            if args.live and (not live or time.monotonic() - live[-1] >= args.live):
                live.append(time.monotonic())
                notebook.page.evaluate(RUNNING_CELL)
                notebook.page.screenshot(path=out / f"live-{len(live):03d}.png")

        problems: list[str] = []
        started = time.monotonic()
        if not args.no_run:
            try:
                notebook.run_all(timeout=args.timeout, while_running=picture)
            except TimeoutError as error:
                problems.append(str(error))
            print(f"Run All took {time.monotonic() - started:.1f} s")
        problems += notebook.problems()
        pictures = notebook.shoot(out)
    for problem in problems:
        print(problem)
    print(f"{len(pictures)} pictures in {out}" + (f", {len(live)} live" if live else ""))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
