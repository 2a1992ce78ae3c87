"""Where tokens come from: the embedded model and its life, and servers that the environment names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from google import genai
from openai import AsyncOpenAI, OpenAI

import streamlib.connect as module
from streamlib.connect import ConnectError, Model, connect


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever ``connect`` writes is undone, and no embedded model is left behind."""
    before = dict(os.environ)
    monkeypatch.setattr(module, "_embedded", None)
    yield
    module._stop_embedded()
    os.environ.clear()
    os.environ.update(before)


# --- the embedded model ----------------------------------------------------------------------------


def test_without_any_setting_the_embedded_model_answers() -> None:
    model = connect()
    assert model == Model("sim-1", os.environ["OPENAI_BASE_URL"], is_simulated=True)
    assert model.base_url.startswith("http://127.0.0.1:")
    assert model.base_url.endswith("/v1")
    with OpenAI() as client:
        answer = client.chat.completions.create(
            model=model.name, messages=[{"role": "user", "content": "Repeat: yes"}]
        )
    assert answer.choices[0].message.content == "yes"


async def test_it_works_inside_a_running_loop() -> None:
    model = connect()
    async with AsyncOpenAI() as client:
        assert [found.id async for found in client.models.list()] == [model.name]


def test_it_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = connect()
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert model.name in said
    assert "simulated" in said


def test_a_second_call_gives_the_same_model() -> None:
    assert connect() == connect()


def test_a_model_that_has_died_is_replaced() -> None:
    first = connect()
    assert module._embedded is not None
    module._embedded.process.kill()
    module._embedded.process.wait()
    second = connect()
    assert second.base_url != first.base_url
    assert os.environ["OPENAI_BASE_URL"] == second.base_url
    assert httpx2.get(f"{second.base_url}/models").status_code == 200


def test_the_other_providers_clients_are_pointed_at_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a real one")
    monkeypatch.setenv("GEMINI_API_KEY", "a real one")
    root = connect().base_url.removesuffix("/v1")
    assert os.environ["ANTHROPIC_BASE_URL"] == os.environ["GOOGLE_GEMINI_BASE_URL"] == root
    assert "a real one" not in os.environ.values()
    assert os.environ["ANTHROPIC_API_KEY"] == os.environ["GOOGLE_API_KEY"] == os.environ["OPENAI_API_KEY"]


def test_the_official_clients_of_all_providers_need_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in module.MISLEADING:
        monkeypatch.setenv(name, "true")
    model = connect()
    question = "Repeat: yes"
    with OpenAI() as openai:
        assert openai.responses.create(model=model.name, input=question).output_text == "yes"
    with Anthropic() as anthropic:
        message = anthropic.messages.create(
            model=model.name, max_tokens=50, messages=[{"role": "user", "content": question}]
        )
        assert message.content[0].text == "yes"  # type: ignore[union-attr]
    with warnings.catch_warnings(action="error", category=UserWarning):
        google = genai.Client()
    assert google.models.generate_content(model=model.name, contents=question).text == "yes"


def test_a_proxy_does_not_stand_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    connect()
    with OpenAI() as client:
        assert client.models.list().data
    assert os.environ["NO_PROXY"].split(",") == ["example.org", "127.0.0.1"]


def test_a_module_beside_the_notebook_does_not_get_into_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "uvicorn", "streamlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert connect().is_simulated


def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named uvicorn' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConnectError, match=r"no module named uvicorn.*streamlib doctor"):
        connect()


# --- its end ---------------------------------------------------------------------------------------

KERNEL = """
import sys, time
from streamlib import connect
connect.connect()
print(connect._embedded.process.pid, flush=True)
{then}
"""


def started(then: str = "time.sleep(600)") -> tuple[subprocess.Popen[str], int]:
    """A process that connects and does something, as a kernel does; and the pid of its model."""
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL.format(then=then)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert kernel.stdout is not None
    kernel.stdout.readline()
    return kernel, int(kernel.stdout.readline())


def is_gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True  # dead, and only not yet collected
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_model_ends_with_its_kernel(how: signal.Signals) -> None:
    kernel, pid = started()
    kernel.send_signal(how)
    kernel.communicate()
    assert is_gone(pid)


def test_the_model_ends_when_its_kernel_ends_by_itself() -> None:
    kernel, pid = started(then="")
    kernel.communicate()
    assert kernel.returncode == 0
    assert is_gone(pid)


@posix
def test_the_model_outlives_an_interrupt_of_the_kernels_group() -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True)"
    kernel, pid = started(f"{ignore}; time.sleep(600)")
    assert kernel.stdout is not None
    kernel.stdout.readline()
    os.killpg(kernel.pid, signal.SIGINT)
    try:
        assert not is_gone(pid, seconds=1.0)
    finally:
        kernel.kill()
        kernel.communicate()
    assert is_gone(pid)


@posix
def test_a_forked_child_does_not_keep_the_model_alive() -> None:
    kernel, pid = started("import os\nif os.fork() == 0: print('forked', flush=True)\ntime.sleep(600)")
    assert kernel.stdout is not None
    kernel.stdout.readline()
    group = kernel.pid
    kernel.kill()
    try:
        assert is_gone(pid)
    finally:
        os.killpg(group, signal.SIGKILL)
        kernel.communicate()


def test_a_child_process_uses_the_model_of_its_parent() -> None:
    model = connect()
    script = "from streamlib.connect import connect; m = connect(); print(m.name, m.base_url, m.is_simulated)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.splitlines()[-1] == f"sim-1 {model.base_url} True"


# --- a server that the environment names -----------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[Any]:
    """A server of somebody else: ``provider.status`` and ``provider.body`` are what /v1/models answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.keys.append(self.headers["Authorization"])
            body = server.body if self.path == "/v1/models" else b"not found"
            self.send_response(server.status if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server: Any = HTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.keys = 200, []
    server.body = b'{"object": "list", "data": [{"id": "llama", "object": "model", "owned_by": "me"}]}'
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_server_that_the_environment_names_is_used(
    provider: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    model = connect()
    assert model == Model("llama", provider.url, is_simulated=False)
    assert provider.keys == ["Bearer sk-secret"]
    assert capsys.readouterr().out == f"llama answers (at {provider.url}). All is well.\n"
    assert module._embedded is None
    assert "sk-secret" not in repr(model)
    assert "ANTHROPIC_BASE_URL" not in os.environ


def test_a_server_without_a_key_gets_a_placeholder(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url + "/")
    assert connect().base_url == provider.url
    with OpenAI() as client:  # would refuse to start without any key
        assert client.models.list().data[0].id == "llama"


def test_a_key_alone_means_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr(httpx2, "get", lambda url, **_: httpx2.Response(200, json={"data": [{"id": url}]}))
    assert connect().base_url == "https://api.openai.com/v1"


def test_a_model_can_be_named(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.body = b'{"data": [{"id": "a"}, {"id": "b"}]}'
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_MODEL", "b")
    assert connect().name == "b"


def test_a_named_model_needs_no_list(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.status, provider.body = 404, b"no such thing"
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_MODEL", "b")
    assert connect().name == "b"


def test_another_simulated_server_is_known_as_one(sim_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim_server)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a real one")
    assert connect() == Model("sim-1", sim_server, is_simulated=True)
    assert module._embedded is None
    root = sim_server.removesuffix("/v1")
    assert os.environ["ANTHROPIC_BASE_URL"] == os.environ["GOOGLE_GEMINI_BASE_URL"] == root
    assert "a real one" not in os.environ.values()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            200,
            b'{"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}',
            r"3 models \(a, b, c\): set OPENAI_MODEL",
        ),
        (401, b"{}", "refuses the key in OPENAI_API_KEY"),
        (500, b"oops", "lists no model"),
        (200, b"<html>", "lists no model"),
        (200, b'{"data": []}', "Set OPENAI_MODEL"),
        (200, b"[1]", "lists no model"),
    ],
)
def test_a_server_that_cannot_be_used_is_told(
    provider: Any, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, says: str
) -> None:
    provider.status, provider.body = status, body
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(ConnectError, match=says) as caught:
        connect()
    assert "unset OPENAI_BASE_URL" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_base_url_without_v1_is_told(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url.removesuffix("/v1"))
    with pytest.raises(ConnectError, match="end in /v1"):
        connect()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "nonsense", "http://[::bad/v1"])
def test_a_server_that_is_not_there_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ConnectError, match="nothing answers there"):
        connect()


def test_a_real_key_set_later_does_not_go_to_the_simulated_model(monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    os.environ["OPENAI_API_KEY"] = "sk-secret"
    monkeypatch.setattr(httpx2, "get", lambda url, **_: httpx2.Response(200, json={"data": [{"id": "real"}]}))
    assert connect() == Model("real", "https://api.openai.com/v1", is_simulated=False)
    assert "OPENAI_BASE_URL" not in os.environ
