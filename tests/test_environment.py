"""environment.yml, as far as it can be verified without conda, and the make targets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from streamlib.lab import checkout

TOP = checkout() or Path()


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    content = yaml.safe_load((TOP / "environment.yml").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_conda_gives_python_and_pip_and_nothing_else(environment: dict[str, Any]) -> None:
    specs = [line for line in environment["dependencies"] if isinstance(line, str)]
    assert sorted(spec.partition("=")[0] for spec in specs) == ["pip", "python"]
    assert environment["channels"] == ["conda-forge"]
    assert environment.keys() == {"name", "channels", "dependencies"}


def test_its_python_is_one_the_course_runs_on(environment: dict[str, Any]) -> None:
    (spec,) = [line for line in environment["dependencies"] if str(line).startswith("python")]
    assert Version(spec.partition("=")[2]) >= Version("3.11")


def test_its_pip_part_is_the_pinned_course(environment: dict[str, Any]) -> None:
    assert pip_part(environment) == ["-c constraints.txt", "-e ."]


def test_its_pip_part_installs_into_a_fresh_environment(environment: dict[str, Any], tmp_path: Path) -> None:
    """As conda does: pip's lines, from the folder of environment.yml. uv stands in for pip, for its speed."""
    uv = [sys.executable, "-m", "uv"]
    python = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    arguments = [word for line in pip_part(environment) for word in shlex.split(line)]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(tmp_path / "env")], check=True)
    subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *arguments], cwd=TOP, check=True)

    listed = subprocess.run(
        [*uv, "pip", "list", "--python", str(python), "--format", "json"], capture_output=True, check=True
    )
    installed = {line["name"]: line["version"] for line in json.loads(listed.stdout)}
    pins = [Requirement(line) for line in (TOP / "constraints.txt").read_text().splitlines() if "==" in line]
    wanted = {pin.name: pin for pin in pins if pin.marker is None or pin.marker.evaluate()}
    unpinned = {name for name in installed if name not in wanted} - {"streamlib"}
    assert unpinned == set(), "constraints.txt does not fix these"
    assert all(wanted[name].specifier.contains(installed[name]) for name in installed if name in wanted)

    done = subprocess.run(
        [str(python), "-m", "streamlib", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("streamlib "), done.stderr


def test_a_wheel_carries_all_that_the_library_reads(tmp_path: Path) -> None:
    """Notebooks, settings, texts: whatever is tracked under streamlib/ and notebooks/ is in the wheel."""
    subprocess.run(
        [sys.executable, "-m", "uv", "build", "-q", "--wheel", "--out-dir", str(tmp_path), str(TOP)],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    listing = subprocess.run(
        ["git", "ls-files", "streamlib", "notebooks"], cwd=TOP, capture_output=True, text=True, check=True
    )
    tracked = [name for name in listing.stdout.splitlines() if (TOP / name).exists()]
    assert {re.sub("^notebooks/", "streamlib/_notebooks/", name) for name in tracked} <= names


def pip_part(environment: dict[str, Any]) -> list[str]:
    (part,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    return list(part)


# make


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make on a copy of the files it looks at, with nothing set up."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(TOP / name, folder)
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=os.environ)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def fake_python(folder: Path, script: str) -> str:
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"PYTHON={path}"


@needs_make
def test_make_alone_says_what_there_is(tmp_path: Path) -> None:
    done = make(tmp_path)
    assert "make lab" in done.stdout
    assert "make test" in done.stdout


@needs_make
@pytest.mark.parametrize("python", ["exit 1", "exit 127"])
def test_make_says_when_python_is_too_old_or_missing(tmp_path: Path, python: str) -> None:
    done = make(tmp_path, "lab", fake_python(tmp_path, python))
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_make_says_when_venv_is_missing(tmp_path: Path) -> None:
    done = make(tmp_path, "lab", fake_python(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac'))
    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()
