"""What a server says about itself: its models; and the embedded model also how late it sends. Lesson 7.

The embedded model knows when each of its tokens is due. On a machine that is too busy they leave late, and a
measurement says more about the machine than about the model: then the run is invalid.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from statistics import median

import httpx2

from .board_run import Run

MOST_LAG = 0.1  # of the time between two tokens


@dataclass(frozen=True, slots=True)
class Server:
    """Who answers: the names of its models; and whether it is the embedded model, which breaks on demand."""

    models: tuple[str, ...] = ()
    is_simulated: bool = False


async def look_at(client: httpx2.AsyncClient) -> Server:
    """Its models, and whether it is the embedded one; nothing when it does not say."""
    with suppress(httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        listed = (await client.get("models")).json()["data"]
        simulated = any(model.get("owned_by") == "streamlib-simulator" for model in listed)
        return Server(tuple(str(model["id"]) for model in listed), simulated)
    return Server()


async def forget_lag(client: httpx2.AsyncClient, server: Server) -> None:
    """Let the embedded model forget how late it sent what it sent before this run."""
    if server.is_simulated:
        with suppress(httpx2.HTTPError):
            await client.delete(client.base_url.join("../sim/stats"))


async def lag(client: httpx2.AsyncClient, server: Server) -> float:
    """How late the embedded model sent what it sent: the 99th percentile, in seconds."""
    if server.is_simulated:
        with suppress(httpx2.HTTPError, ValueError, KeyError, TypeError):
            answer = await client.get(client.base_url.join("../sim/stats"))
            return float(answer.json()["schedule_lag"]["p99"])
    return 0.0


def too_late(run: Run, late: float) -> str:
    """Why a run of the embedded model is invalid: this machine was too busy to send on time. Else ""."""
    latencies = [stats.itl for stats in run.whole if stats.itl]
    if not latencies or late <= MOST_LAG * median(latencies):
        return ""
    return (
        f"this machine was too busy: the embedded model sent up to {1000 * late:.1f} ms late (p99), more "
        f"than {MOST_LAG:.0%} of the {1000 * median(latencies):.1f} ms between two tokens"
    )
