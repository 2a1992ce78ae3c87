"""The command line: ``streamlib lab | serve | doctor | progress``, also as ``python -m streamlib``.

Each command imports what it needs when it is called, so that ``streamlib --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__


def serve(args: argparse.Namespace) -> int:
    """Run the embedded model in the foreground until Ctrl-C."""
    from .sim.server import serve as serve_model

    serve_model(
        host=args.host,
        port=args.port,
        key=args.key,
        profile=args.profile,
        exit_with_stdin=args.exit_with_stdin,
    )
    return 0


def lab(args: argparse.Namespace) -> int:
    """Bring the notebooks up to date in the work folder, then open JupyterLab there."""
    from .lab import run_lab

    return run_lab(work=args.work, port=args.port, browser=args.browser)


def doctor(args: argparse.Namespace) -> int:
    """Print one OK or FAIL line per requirement; 1 when anything fails."""
    from .doctor import run_doctor

    return run_doctor(work=args.work)


def progress(args: argparse.Namespace) -> int:
    """Print which exercises are solved."""
    from . import progress as exercises_progress

    print(repr(exercises_progress()))
    return 0


def port_number(text: str) -> int:
    """A TCP port, 0 for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamlib", description="Token by Token: LLM streaming in Python.")
    parser.add_argument("--version", action="version", version=f"streamlib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("lab", help="copy the notebooks to a work folder and open JupyterLab there")
    command.add_argument(
        "--work", type=Path, metavar="DIR", help="work folder (default: work/ in the course's folder)"
    )
    command.add_argument("--port", type=port_number, default=8888, help="first port to try (default: 8888)")
    command.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print the address, open nothing"
    )
    command.set_defaults(run=lab)

    command = commands.add_parser("serve", help="run the embedded model as an OpenAI-compatible server")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port", type=port_number, default=0, help="port to listen on (default: any free one)"
    )
    command.add_argument(
        "--key", help="API key that clients must send (needed when others can reach the host)"
    )
    command.add_argument(
        "--profile", default="typical", help="fast, typical, slow, reasoning, congested or loaded"
    )
    command.add_argument("--exit-with-stdin", action="store_true", help="end when standard input closes")
    command.set_defaults(run=serve)

    command = commands.add_parser("doctor", help="check the environment: OK, or FAIL and the mend")
    command.add_argument(
        "--work", type=Path, metavar="DIR", help="work folder to check (default: as for lab)"
    )
    command.set_defaults(run=doctor)

    command = commands.add_parser("progress", help="show which exercises are solved")
    command.set_defaults(run=progress)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (2 for a wrong command line, as argparse does)."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
