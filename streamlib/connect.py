"""Where tokens come from: the server the environment names, else the embedded model, started here (lesson 0).

``OPENAI_BASE_URL`` or ``OPENAI_API_KEY`` choose a server; ``OPENAI_MODEL`` chooses among its models. With
neither set, ``connect()`` starts the simulated model as a process of its own and writes its address into
``os.environ``, under the names that the official OpenAI, Anthropic and Google clients read. So a lesson
shows real code: ``AsyncOpenAI()``.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sim.verdict import ClientReport

OPENAI_URL = "https://api.openai.com/v1"
PLACEHOLDER_KEY = "no-key-needed"  # the official clients refuse to start without a key
# What the official clients read besides: a key that would go to the simulated model or start a warning, and
# what would send Google's client to another service or to a version of the API that is not there.
MISLEADING = (
    "ANTHROPIC_AUTH_TOKEN",
    "GEMINI_API_KEY",
    "GOOGLE_GENAI_USE_ENTERPRISE",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_API_VERSION",
)
START_SECONDS = 30.0  # it takes well under two; a loaded machine is no reason to give up


class ConnectError(Exception):
    """No model can be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that answers: its name for ``model=``, and the base URL it answers at (without any key)."""

    name: str
    base_url: str
    is_simulated: bool

    def report(self, client: str | None = None) -> ClientReport:
        """What the embedded model thinks of your client: a card, as the last line of a cell.

        It covers the requests since the start or the last ``forget()``; with ``client``, those that carry
        this name in the header ``X-Sim-Client``. Call it when your client is done: a stream that still runs
        counts as left open. Another server than the embedded model says nothing.
        """
        from .sim.verdict import UNKNOWN, ClientReport

        if not self.is_simulated:
            return UNKNOWN
        report = ClientReport.from_dict(self._verdict("GET", client))
        if "left-open" in report.ids:
            time.sleep(0.1)  # the server may be about to notice that the connection is closed
            report = ClientReport.from_dict(self._verdict("GET", client))
        return report

    def forget(self) -> None:
        """Let the next ``report()`` begin here."""
        if self.is_simulated:
            self._verdict("DELETE")

    def _verdict(self, method: str, client: str | None = None) -> Any:
        import httpx2

        response = httpx2.request(
            method,
            f"{self.base_url.removesuffix('/v1')}/sim/verdict",
            params={} if client is None else {"client": client},
            headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', PLACEHOLDER_KEY)}"},
            timeout=10.0,
        )
        response.raise_for_status()
        return response.json()


@dataclass(slots=True)
class _Embedded:
    process: subprocess.Popen[str]
    model: Model
    environment: dict[str, str]  # what was written into os.environ for it


_lock = threading.Lock()
_embedded: _Embedded | None = None


def connect() -> Model:
    """The model of this session, ready to answer; prints one line that says which.

    Calling it again gives the same model, or a new embedded one when the first has died. Raises
    ``ConnectError`` when the server that the environment names cannot be used.
    """
    with _lock:
        base_url, key = _chosen_server()
        model = _external(base_url, key) if base_url else _start_embedded()
        if base_url and model.is_simulated:  # a class server, say: it speaks to the others' clients too
            os.environ.update(_other_providers(base_url, key or PLACEHOLDER_KEY))
    where = f"at {model.base_url}" if base_url else "on this machine"
    kind = f"simulated, {where}" if model.is_simulated else where
    print(f"{model.name} answers ({kind}). All is well.")
    return model


# --- a server that the environment names ----------------------------------------------------------


def _chosen_server() -> tuple[str | None, str | None]:
    """Base URL and key that the person chose: what the environment holds beyond what ``connect`` put
    there."""
    ours = _embedded.environment if _embedded else {}

    def chosen(name: str) -> str | None:
        value = os.environ.get(name, "").strip()
        return value if value and value != ours.get(name) else None

    base_url, key = chosen("OPENAI_BASE_URL"), chosen("OPENAI_API_KEY")
    if base_url is None and key is None:
        return None, None
    if base_url is None and ours:
        os.environ.pop("OPENAI_BASE_URL", None)  # ours: a real key must not go to the simulated model
    if key is None:
        os.environ["OPENAI_API_KEY"] = PLACEHOLDER_KEY
    return (base_url or OPENAI_URL).rstrip("/"), key or PLACEHOLDER_KEY


def _external(base_url: str, key: str | None) -> Model:
    import httpx2  # here: the embedded model needs no client

    named = os.environ.get("OPENAI_MODEL", "").strip() or None
    chosen_by = "OPENAI_BASE_URL" if os.environ.get("OPENAI_BASE_URL") else "OPENAI_API_KEY"
    here = f"{chosen_by} is set, so the model is sought at {base_url}"
    mend = "or unset OPENAI_BASE_URL and OPENAI_API_KEY to use the embedded model."
    try:
        response = httpx2.get(f"{base_url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10.0)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ConnectError(
            f"{here}, but nothing answers there ({type(error).__name__}: {error}). "
            f"Start that server, correct the address, {mend}"
        ) from None
    if response.status_code in (401, 403):
        raise ConnectError(
            f"{here}, but it refuses the key in OPENAI_API_KEY (status {response.status_code}). "
            f"Set the right key, {mend}"
        )
    listed = _listed_models(response)
    names = [str(model["id"]) for model in listed]
    if named is None and not names:
        hint = "" if base_url.endswith("/v1") else "Most base URLs end in /v1. "
        raise ConnectError(
            f"{here}, but {base_url}/models lists no model (status {response.status_code}). "
            f"{hint}Set OPENAI_MODEL to a model's name, {mend}"
        )
    if named is None and len(names) > 1:
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise ConnectError(
            f"{here}. It has {len(names)} models ({some}): set OPENAI_MODEL to the one to use, {mend}"
        )
    simulated = any(model.get("owned_by") == "streamlib-simulator" for model in listed)
    return Model(named or names[0], base_url, simulated)


def _listed_models(response: Any) -> list[dict[str, Any]]:
    """The models in the answer of ``GET /models``; none when it is not such an answer."""
    if response.status_code != 200:
        return []
    with suppress(ValueError):
        data = response.json()
        if isinstance(data, dict) and isinstance(data.get("data"), list):
            return [model for model in data["data"] if isinstance(model, dict) and model.get("id")]
    return []


# --- the embedded model ---------------------------------------------------------------------------


def _start_embedded() -> Model:
    global _embedded
    if _embedded and _embedded.process.poll() is None:
        os.environ.update(_embedded.environment)
        return _embedded.model
    process, base_url = start_process()
    environment = {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": PLACEHOLDER_KEY,
        **_other_providers(base_url, PLACEHOLDER_KEY),
    }
    if any(name.lower() in ("http_proxy", "all_proxy") for name in os.environ):
        # the way to this machine leads through no proxy
        direct = [*(os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").split(","), "127.0.0.1"]
        environment["NO_PROXY"] = environment["no_proxy"] = ",".join(dict.fromkeys(filter(None, direct)))
    os.environ.update(environment)
    _embedded = _Embedded(process, Model("sim-1", base_url, is_simulated=True), environment)
    return _embedded.model


def _other_providers(base_url: str, key: str) -> dict[str, str]:
    """What points the Anthropic and Google clients at the simulated model; what would mislead them is taken
    away."""
    for name in MISLEADING:
        os.environ.pop(name, None)
    root = base_url.removesuffix("/v1")
    return {
        "ANTHROPIC_BASE_URL": root,
        "ANTHROPIC_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": root,
        "GOOGLE_API_KEY": key,
    }


def start_process() -> tuple[subprocess.Popen[str], str]:
    """The server process and its base URL.

    It ends when the pipe to its standard input closes, which the system does when this process ends in any
    way. It has a session of its own: the Stop button interrupts the kernel and everything in the kernel's
    group.
    """
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    # -P: a random.py or token.py beside the notebook must not become the server's
    command = [sys.executable, "-P", "-m", "streamlib", "serve", "--exit-with-stdin"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, **group
        )
        stdout = process.stdout
        assert stdout is not None
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        base_url = stdout.readline().strip()  # empty when the process dies
        watchdog.cancel()
        if not base_url.startswith("http"):
            process.kill()
            process.wait()
            complaints.seek(0)
            said = complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise ConnectError(f"The embedded model did not start: {said[0]}. Run 'streamlib doctor'.")
    return process, base_url


def _stop_embedded() -> None:
    """End the embedded model with this process, without a complaint about a process that still runs."""
    if _embedded:
        _embedded.process.kill()
        _embedded.process.wait()
        _close(_embedded.process.stdin)
        _close(_embedded.process.stdout)


def _forget_embedded() -> None:
    """In a forked child: the model is the parent's. Let go of its pipe, or it would live as long as the
    child does."""
    global _embedded, _lock
    _lock = threading.Lock()
    if _embedded:
        _close(_embedded.process.stdin)
        _close(_embedded.process.stdout)
        _embedded = None  # from here on it is a server that the environment names


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()


atexit.register(_stop_embedded)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_embedded)
