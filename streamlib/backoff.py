"""After a failed attempt: is another one worth it, and how long to wait before it. Lesson 5.

Both are read off the error, and alike from the errors of the official clients, of httpx2 and of
`streamlib.chat`. Retry-After is RFC 9110, section 10.2.3. "Full jitter" is named and compared with its rivals
in the AWS architecture blog, "Exponential backoff and jitter".
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import repeat
from json import JSONDecodeError

import httpx2

__all__ = ["backoff_delays", "is_transient", "retry_after"]


def backoff_delays(
    told: Iterable[float | None] = repeat(None),
    *,
    base: float = 0.5,
    cap: float = 30.0,
    rng: random.Random | None = None,
) -> Iterator[float]:
    """A delay in seconds for each failed attempt: random, up to `base`, then to twice that, at most to `cap`.

    Random from 0 on ("full jitter"), so that clients that failed together do not come back together. `told`
    holds what the server asked for each time, in seconds, or None. That is a floor, whatever the cap: the
    random part is added to it, or all who were told "3 seconds" would come back after exactly 3.

    Raises ValueError when `base` or `cap` is not a number from 0 up.
    """
    if not (base >= 0 and cap >= 0):
        raise ValueError(f"backoff_delays needs base and cap from 0 up, got {base!r} and {cap!r}")
    draw = (rng or random).uniform

    def delays() -> Iterator[float]:
        bound = min(base, cap)
        for floor in told:
            yield (floor or 0.0) + draw(0, bound)
            bound = min(2 * bound, cap)

    return delays()


def retry_after(error: BaseException, now: float | None = None) -> float | None:
    """The seconds from `now` (Unix time) that the server asked to wait, or None when it did not say.

    Read from ``error.retry_after``, else from the header in ``error.response.headers``: seconds, or a date.
    A date in the past is 0. What is neither is None.
    """
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = getattr(error, "retry_after", None) or headers.get("retry-after") or ""
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", str(said)):
        return float(said)
    try:
        date = parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return None
    seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - (time.time() if now is None else now)
    return max(0.0, seconds)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later.

    By HTTP status: 408, 409, 429 and from 500 up; any other 4xx says that the request is wrong, and a wrong
    request stays wrong. Without such a status: broken connections, timeouts, broken events and errors inside
    the stream are transient, errors of the program (TypeError and the like) are not. An account without money
    (OpenAI's 429 with the code "insufficient_quota") has none a moment later. Being cancelled is no error to
    retry.
    """
    if getattr(error, "code", None) == "insufficient_quota":
        return False
    status = _status(error)
    if status is not None and status >= 400:
        return status in (408, 409, 429) or status >= 500
    if isinstance(error, (OSError, httpx2.TransportError, JSONDecodeError)):
        return True
    if isinstance(error.__cause__, JSONDecodeError):  # google-genai: a ValueError of its own around it
        return True
    # streamlib.chat's errors have a status (None inside a stream), openai's the request that failed.
    return hasattr(error, "status") or "request" in vars(error)


def _status(error: BaseException) -> int | None:
    """The HTTP status: `status_code` for openai and anthropic, `status` for ours, `code` for google-genai."""
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            if isinstance(status := getattr(owner, name, None), int):
                return status
    return None
