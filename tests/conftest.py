"""What every test starts from: no state of the person who runs it, no real provider."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home_and_no_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts go to a temporary folder, and no key or address of a real provider reaches a test."""
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "streamlib-home"))
    for name in list(os.environ):
        if name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
