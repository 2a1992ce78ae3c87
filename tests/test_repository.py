"""What no file of the repository may contain: a machine's paths, a registry's host, a key."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

# Each pattern is written so that it does not find itself.
FORBIDDEN = {
    "a path of one machine": r"/w[o]rk/|/r[o]ot/|/f[a]rm/|/h[o]me/[a-z]+/|/U[s]ers/[a-zA-Z]+/|C:\\U[s]ers",
    "the host of a package registry": r"(p[y]pi|p[y]thonhosted|n[p]mjs|d[e]bian|a[n]aconda)\.(org|com)",
    "an API key": r"sk-(proj-|ant-)?[A-Za-z0-9_-]{20,}|A[I]za[A-Za-z0-9_-]{30,}|g[h]p_[A-Za-z0-9]{20,}",
}


@cache
def tracked() -> dict[str, str]:
    """Path -> text of every text file in the repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=True).stdout
    texts = {}
    for name in filter(None, listing.decode().split("\0")):
        path = TOP / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content[:8000]:
            texts[name] = content.decode("utf-8", errors="replace")
    return texts


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name}:{number}: {match.group()}"
        for name, text in tracked().items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert not found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /" + "root/.venv"),
        ("a path of one machine", "/" + "home/anna/course"),
        ("the host of a package registry", "https://" + "pypi" + ".org/simple"),
        ("an API key", "key = 'sk-" + "a1B2" * 8 + "'"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, text: str) -> None:
    assert re.search(FORBIDDEN[what], text)


def test_no_folder_that_makes_binder_overlook_environment_yml() -> None:
    assert not [name for name in tracked() if name.startswith(("binder/", ".binder/"))]


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    names = {re.match(r"[\w.-]+", line)[0] for line in lines}  # type: ignore[index]
    pinned = set(re.findall(r"^([\w.-]+)==", (TOP / "constraints.txt").read_text(), re.MULTILINE))
    assert names - pinned == set()


@pytest.mark.xdist_group("a group")
def test_groups_of_tests_stay_in_one_process() -> None:
    """pytest-xdist shows by the name that it has seen the mark; some versions of pytest hide it from it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert "@a group" in os.environ["PYTEST_CURRENT_TEST"]
