"""A fixture of these tests: a model that takes no time."""

from __future__ import annotations

import pytest

from streamlib.sim.timing import PROFILES, Profile


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles as fast as the loop goes: where what arrives is tested, not when."""
    for name, thinks in (("instant", False), ("instant-reasoning", True)):
        profile = Profile(
            ttft=0.001, ttft_spread=0.01, rate=1e5, gap_spread=0.1, chunk=(0.6, 0.4), thinks=thinks
        )
        monkeypatch.setitem(PROFILES, name, profile)
