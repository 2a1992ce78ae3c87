"""``streamlib doctor``: what the course needs -> one line each, OK or FAIL, and for each FAIL the mend.

The limits are not typed here: they come from the package's own metadata, so from pyproject.toml. Lesson 0
shows the same lines. Part of the set-up, not of a lesson.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .connect import ConnectError, connect, start_process
from .lab import checkout, default_work, prefer_this_environment

if TYPE_CHECKING:
    from packaging.requirements import Requirement

WIDGET_EXTENSION = "@jupyter-widgets/jupyterlab-manager"
PATIENCE = 20.0  # seconds until a program that does not answer counts as broken


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement: is it met, what was found, and how to mend it when it is not."""

    ok: bool
    text: str
    mend: str = ""

    def __str__(self) -> str:
        return f"OK    {self.text}" if self.ok else f"FAIL  {self.text}\n      mend: {self.mend}"


def run_doctor(*, work: Path | None = None) -> int:
    """Print the findings as they come; returns 0 when all is well, else 1."""
    failed = 0
    for finding in examine(work=work):
        failed += not finding.ok
        print(finding, flush=True)
    print(f"\n{failed} FAIL: see the mends above." if failed else "\nAll is well.")
    return 1 if failed else 0


def examine(*, work: Path | None = None) -> Iterator[Finding]:
    """All findings, one after the other. A check that breaks down is a FAIL too, never an exception."""
    yield from _guarded("Python", check_python)
    yield from _guarded("the installation", check_installation)
    yield from _guarded("the packages", check_packages)
    yield from _guarded("the kernel", check_kernel)
    yield from _guarded("the widgets", check_widgets)
    yield from _guarded("a free port", check_port)
    yield from _guarded("the embedded model", check_model)
    yield from _guarded("the model server", check_server)
    yield from _guarded("the folders", lambda: check_folders(work or default_work()))


def _guarded(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(False, f"{what}: could not be checked ({_one_line(error)})", _install_again())


# The environment


def check_python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    needed = SpecifierSet(metadata.metadata("streamlib")["Requires-Python"])
    found = platform.python_version()
    mend = f"install Python {needed} and set the course up again with it"
    yield Finding(needed.contains(found, prereleases=True), f"Python {found} (needs {needed})", mend)


def check_installation() -> Iterator[Finding]:
    """In a checkout: does what is installed still match pyproject.toml, which a pull may have changed?"""
    from packaging.requirements import Requirement

    top = checkout()
    if top is None:
        return
    declared = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = {str(Requirement(line)) for line in declared}
    known = {str(line) for line in _requirements()}
    if wanted == known:
        yield Finding(True, "the installation matches pyproject.toml")
    else:
        changed = ", ".join(sorted(wanted ^ known))
        yield Finding(
            False, f"pyproject.toml has changed since the installation ({changed})", _install_again()
        )


def check_packages() -> Iterator[Finding]:
    """Every dependency: is it there, within its limits, and can it be imported?"""
    modules: dict[str, list[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        for name in distributions:
            modules.setdefault(_normal(name), []).append(module)

    for requirement in _requirements():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue  # for another system
        name, needed = requirement.name, str(requirement.specifier) or "any version"
        mend = _pip(f'install "{name}{requirement.specifier}"')
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(False, f"{name} is not installed (needs {needed})", mend)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield Finding(False, f"{name} {found} (needs {needed})", mend)
            continue
        try:
            for module in modules.get(_normal(name), []):
                if module.isidentifier() and not module.startswith("_"):
                    importlib.import_module(module)
        except Exception as error:
            again = _pip(f'install --force-reinstall --no-deps "{name}{requirement.specifier}"')
            yield Finding(False, f"{name} {found} cannot be imported ({_one_line(error)})", again)
            continue
        yield Finding(True, f"{name} {found} (needs {needed})")


# JupyterLab


def check_kernel() -> Iterator[Finding]:
    """Does the kernel that notebooks ask for, python3, run the Python of this environment?"""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    prefer_this_environment()
    mend = f"{_python()} -m ipykernel install --sys-prefix --name python3"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield Finding(False, "the kernel python3 is not installed", mend)
        return
    if program in {
        "python",
        "python3",
        f"python3.{sys.version_info.minor}",
    }:  # Jupyter puts its own Python there
        program = sys.executable
    try:
        # Comparing paths would not do: the interpreters of two environments can be links to one file.
        prefix = subprocess.run(
            [program, "-c", "import sys; print(sys.prefix)"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(False, f"the kernel python3 cannot start {program} ({_one_line(error)})", mend)
        return
    if Path(prefix).resolve() == Path(sys.prefix).resolve():
        yield Finding(True, "the kernel python3 runs this environment's Python")
    else:
        yield Finding(False, f"the kernel python3 runs the Python of {prefix}, not of {sys.prefix}", mend)


def check_widgets() -> Iterator[Finding]:
    """Is the part of ipywidgets that runs in the browser installed, and not disabled?"""
    from jupyter_core.paths import jupyter_path
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.config import get_page_config

    prefer_this_environment()
    page = get_page_config(jupyter_path("labextensions"), str(Path(get_app_dir()) / "settings"))
    if WIDGET_EXTENSION not in {extension["name"] for extension in page["federated_extensions"]}:
        mend = _pip("install --force-reinstall --no-deps jupyterlab-widgets")
        yield Finding(False, f"JupyterLab's widget extension {WIDGET_EXTENSION} is not installed", mend)
        return
    disabled = [name for name in page["disabledExtensions"] if name.partition(":")[0] == WIDGET_EXTENSION]
    if disabled:
        mend = f"{_python()} -m jupyter labextension enable {disabled[0]}"
        yield Finding(False, f"JupyterLab's widget extension is disabled ({', '.join(disabled)})", mend)
        return
    yield Finding(True, "JupyterLab's widget extension is installed and on")


# The model, the network, the disk


def check_port() -> Iterator[Finding]:
    """JupyterLab and the embedded model listen on a port of this machine."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield Finding(True, f"a port of 127.0.0.1 can be opened (tried {server.getsockname()[1]})")
    except OSError as error:
        mend = "allow Python to listen on 127.0.0.1 (a firewall or security program forbids it)"
        yield Finding(False, f"no port of 127.0.0.1 can be opened ({_one_line(error)})", mend)


def check_model() -> Iterator[Finding]:
    """Start the embedded model as connect() does, and stream one answer from it."""
    import httpx2

    mend = f"run `{_python()} -P -m streamlib serve` and read what it says"
    try:
        process, url = start_process()
    except ConnectError as error:
        yield Finding(False, _one_line(error), mend)
        return
    with process:
        try:
            events = _one_stream(url)
        except (httpx2.HTTPError, ValueError, LookupError) as error:
            yield Finding(False, f"the embedded model does not answer ({_one_line(error)})", mend)
            return
        finally:
            process.kill()
    if len(events) > 2 and events[-1] == "data: [DONE]":
        yield Finding(True, "the embedded model streams")
    else:
        yield Finding(False, f"the embedded model's stream is not whole ({len(events)} events)", mend)


def _one_stream(url: str) -> list[str]:
    """The data lines of one streamed answer."""
    import httpx2

    with httpx2.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        name = client.get("models").raise_for_status().json()["data"][0]["id"]
        request = {"model": name, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        with client.stream("POST", "chat/completions", json=request) as response:
            return [line for line in response.raise_for_status().iter_lines() if line.startswith("data:")]


def check_server() -> Iterator[Finding]:
    """The server that OPENAI_BASE_URL or OPENAI_API_KEY name, when they are set: can connect() use it?"""
    if not (os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")):
        return
    try:
        with redirect_stdout(io.StringIO()):
            model = connect()
    except ConnectError as error:
        what, _, mend = str(error).partition(". ")  # its message ends with what to do
        yield Finding(False, what, mend)
    else:
        yield Finding(True, f"{model.name} answers at {model.base_url}")


def check_folders(work: Path) -> Iterator[Finding]:
    """The work folder and the folder of your progress: can a file be written there?"""
    yield _writable("the work folder", work, "name another one: streamlib lab --work DIR")
    home = Path(os.environ.get("STREAMLIB_HOME") or Path.home() / ".streamlib")
    yield _writable("your progress", home, "name another one in the environment variable STREAMLIB_HOME")


def _writable(what: str, folder: Path, mend: str) -> Finding:
    present = folder
    while not present.exists() and present != present.parent:
        present = present.parent  # where it will be created
    try:
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(b"a line\n")
            file.flush()
    except OSError as error:
        mend = f"make room or give yourself the right to write there; or {mend}"
        return Finding(False, f"{what}: {folder} cannot be written ({_one_line(error)})", mend)
    return Finding(True, f"{what}: {folder} can be written")


# Words for the mends


def _requirements() -> list[Requirement]:
    """The dependencies as pyproject.toml declares them, without those of the extras."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in metadata.requires("streamlib") or []]
    return [line for line in lines if "extra" not in str(line.marker)]


def _python() -> str:
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable


def _pip(arguments: str) -> str:
    """A pip command for this environment; uv's, where pip itself is not installed."""
    if importlib.util.find_spec("pip"):
        return f"{_python()} -m pip {arguments}"
    return f"uv pip {arguments} --python {_python()}"


def _install_again() -> str:
    """The command that installs the tested set anew."""
    top = checkout()
    return _pip(
        f'install -c "{top / "constraints.txt"}" -e "{top}"' if top else "install --force-reinstall streamlib"
    )


def _normal(name: str) -> str:
    """A distribution's name in the one spelling that can be compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _one_line(error: BaseException) -> str:
    """An exception as a short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
