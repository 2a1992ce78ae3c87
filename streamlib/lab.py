"""``streamlib lab``: the course's notebooks -> a work folder of the learner's own -> JupyterLab, open there.

The notebooks in the checkout are the course's, those in the work folder the learner's: git ignores that
folder, so running a notebook never stands in the way of a pull. Nothing a learner wrote is ever overwritten:
what decides is a manifest of what was put there (`deliver`). Part of the set-up, not of a lesson.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MANIFEST = ".streamlib.json"
START = "00_start_here.ipynb"


# Where things are


def checkout() -> Path | None:
    """The folder of the course's git checkout when this code runs from one; None for an installed wheel."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir() else None


def shipped_notebooks() -> Path:
    """The folder with the notebooks as the course ships them."""
    top = checkout()
    return top / "notebooks" if top else Path(__file__).resolve().parent / "_notebooks"


def default_work() -> Path:
    """``work/`` in the checkout; for an installed wheel, in the folder the command is called from."""
    return (checkout() or Path.cwd()) / "work"


# What the learner has done to a notebook


def fingerprint(path: Path) -> str:
    """What a person wrote in a file, as a hash: of a notebook the sources alone.

    Running a notebook changes its outputs and execution counts, and JupyterLab adds an empty cell when the
    last one is run: none of that is a learner's change. A notebook that cannot be read counts byte for byte.
    """
    content = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            cells = json.loads(content)["cells"]
            written = [[cell["cell_type"], _source(cell), cell.get("attachments")] for cell in cells]
            content = json.dumps([cell for cell in written if cell[1].strip()], sort_keys=True).encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
    return hashlib.sha256(content).hexdigest()


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]  # the format allows one string or a list of lines
    return source if isinstance(source, str) else "".join(source)


def with_outputs_of(present: Path, new: bytes) -> bytes:
    """The new version of a notebook, with the present outputs in every cell of the same id and source."""
    if present.suffix != ".ipynb":
        return new
    before = {cell.get("id"): cell for cell in json.loads(present.read_bytes())["cells"]}
    notebook = json.loads(new)
    carried = False
    for cell in notebook["cells"]:
        last = before.get(cell.get("id"))
        if cell["cell_type"] == "code" and last and _source(last) == _source(cell) and last.get("outputs"):
            cell["outputs"], cell["execution_count"] = last["outputs"], last.get("execution_count")
            carried = True
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode() if carried else new


# Delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """What happens to one file: `new` or `updated` in the work folder, or put `beside` a changed one."""

    what: Literal["new", "updated", "beside"]
    name: str
    path: Path


def deliver(shipped: Path, work: Path) -> list[Delivery]:
    """Bring the work folder up to date with the shipped files, never over a learner's changes.

    A file the learner has not changed is updated in place (a notebook keeps the outputs of the cells that
    stayed the same); of one that was changed the new version arrives beside it, once, as
    ``NAME.update.ipynb``; a missing one comes anew. The manifest lists every version ever put into the
    folder: a file is unchanged when it is one of them. Without a manifest every differing file counts as
    changed. Every write is whole or not at all; a run that was interrupted is completed by the next one.

    Raises OSError when the folder cannot be written.
    """
    manifest = _read_manifest(work / MANIFEST)
    deliveries = []
    for source in sorted(_files(shipped)):
        name = source.relative_to(shipped).as_posix()
        content, version = source.read_bytes(), fingerprint(source)
        versions = manifest.setdefault(name, [])
        delivery = _decide(work / name, name, version, versions)

        # A file beside is written before its version is noted: interrupted in between, it comes again. A file
        # in place is written after: interrupted, it must not be taken for a learner's.
        if delivery and delivery.what == "beside":
            _write(delivery.path, content)
        if version not in versions:
            versions.append(version)
            _write(work / MANIFEST, json.dumps({"version": 1, "shipped": manifest}, indent=1).encode())
        if delivery and delivery.what == "new":
            _write(delivery.path, content)
        if delivery and delivery.what == "updated":
            _write(delivery.path, with_outputs_of(delivery.path, content))
        if delivery:
            deliveries.append(delivery)
    return deliveries


def _decide(target: Path, name: str, version: str, versions: list[str]) -> Delivery | None:
    """What is to be done with a file whose `version` ships now; `versions` were put there before."""
    if not target.exists():
        return Delivery("new", name, target)
    found = fingerprint(target)
    if found == version:
        return None
    if found in versions:
        return Delivery("updated", name, target)
    if version in versions:  # the learner's own work, and this version was in their hands before
        return None
    return Delivery("beside", name, _free_place_beside(target, [*versions, version]))


def _free_place_beside(target: Path, versions: list[str]) -> Path:
    """The first of ``X.update.ipynb``, ``X.update-2.ipynb`` … that is free, or that nobody changed."""
    number = 1
    while True:
        mark = ".update" if number == 1 else f".update-{number}"
        place = target.with_name(target.stem + mark + target.suffix)
        if not place.exists() or fingerprint(place) in versions:
            return place
        number += 1


def _files(folder: Path) -> Iterator[Path]:
    """All files under a folder, but for hidden ones and caches."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path


def _read_manifest(path: Path) -> dict[str, list[str]]:
    """Name -> hashes of the versions put into the work folder; empty for a missing or damaged manifest."""
    try:
        shipped = json.loads(path.read_bytes())["shipped"]
        return {str(name): [str(version) for version in versions] for name, versions in shipped.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a reader, or a crash, sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# JupyterLab


def prefer_this_environment() -> None:
    """Let Jupyter find this environment's own kernel before one of the same name in the user's home."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"


def run_lab(*, work: Path | None = None, port: int = 8888, browser: bool = True) -> int:
    """Update the work folder, say what arrived, and serve JupyterLab there until it is stopped.

    On loopback, with Jupyter's token. A taken port gives way to the next ones, as Jupyter does. Returns an
    exit code.
    """
    work = (work or default_work()).resolve()
    try:
        deliveries = deliver(shipped_notebooks(), work)
    except OSError as error:
        print(f"streamlib lab: cannot write to the work folder {work}: {error.strerror}", file=sys.stderr)
        print("Name another one: streamlib lab --work DIR", file=sys.stderr)
        return 1
    print(summary(work, deliveries), flush=True)

    prefer_this_environment()
    own_settings = str(Path(__file__).resolve().parent / "_jupyter")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), own_settings])
    )
    import traitlets
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp

    class Server(ServerApp):
        """Jupyter's server with the course's style; where to look for one is not among its options."""

        @traitlets.default("static_custom_path")
        def _course_style(self) -> list[str]:
            return [own_settings]

    LabApp.serverapp_class = Server
    LabApp.launch_instance(lab_arguments(work, port=port, browser=browser))
    return 0


def summary(work: Path, deliveries: list[Delivery]) -> str:
    """What arrived, in a few lines."""
    counts = [(what, sum(delivery.what == what for delivery in deliveries)) for what in ("new", "updated")]
    arrived = ", ".join(f"{count} {what}" for what, count in counts if count) or "up to date"
    lines = [f"Your notebooks are in {work} ({arrived})."]
    lines += [
        f"{delivery.name} has your changes; the new version is beside it: {delivery.path.name}"
        for delivery in deliveries
        if delivery.what == "beside"
    ]
    return "\n".join(lines)


def lab_arguments(work: Path, *, port: int, browser: bool) -> list[str]:
    """JupyterLab's command line: this folder, this machine only, its tabs kept apart from other work's."""
    import zmq

    workspaces = work / ".jupyter" / "workspaces"
    seen = any(workspaces.glob("*.jupyterlab-workspace"))
    arguments = [
        f"--ServerApp.root_dir={work}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--Application.log_level=ERROR",  # so that the address is not lost in a page of messages
        f"--LabApp.workspaces_dir={workspaces}",
        "--LabApp.custom_css=True",
        # The first time, the first notebook; after that, the tabs as they were left.
        f"--LabApp.default_url={'/lab' if seen or not (work / START).exists() else f'/lab/tree/{START}'}",
    ]
    if zmq.has("curve"):
        arguments.append(
            "--KernelManager.transport_encryption=auto"
        )  # else every kernel warns of eavesdroppers
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # a container's usual user; the server listens on loopback alone
    return arguments
