"""`streamlib doctor`: each requirement is broken once, and the doctor must say so, with a mend."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamlib import doctor
from streamlib.doctor import Finding, run_doctor

Monkey = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def jupyter_of_its_own(tmp_path: Path, monkeypatch: Monkey) -> None:
    """The user's Jupyter settings say nothing here."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter-data"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")


def only(check: Callable[[], Iterator[Finding]]) -> Finding:
    (finding,) = check()
    return finding


def failed(finding: Finding, *words: str) -> None:
    """It is a FAIL that says these words, in one line, and how to mend it."""
    assert not finding.ok
    assert all(word in finding.text for word in words), finding.text
    assert "\n" not in finding.text
    assert finding.mend
    assert str(finding) == f"FAIL  {finding.text}\n      mend: {finding.mend}"


def test_a_healthy_environment_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamlib", "doctor", "--work", str(tmp_path)], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines[:-2] if not line.startswith("OK    ")] == []
    assert lines[-1] == "All is well."
    assert done.returncode == 0
    assert done.stderr == ""


def test_the_exit_code_tells_of_a_fail(monkeypatch: Monkey, capsys: pytest.CaptureFixture[str]) -> None:
    findings = [Finding(True, "this"), Finding(False, "that", "do so")]
    monkeypatch.setattr(doctor, "examine", lambda work: iter(findings))
    assert run_doctor() == 1
    assert (
        capsys.readouterr().out
        == "OK    this\nFAIL  that\n      mend: do so\n\n1 FAIL: see the mends above.\n"
    )


def test_every_dependency_of_pyproject_has_its_line() -> None:
    names = {finding.text.split()[0] for finding in doctor.check_packages()}
    assert {"openai", "httpx2", "jupyterlab", "ipykernel", "ipywidgets", "matplotlib", "fastapi"} <= names


# Broken on purpose


def test_a_python_too_old(monkeypatch: Monkey) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.10.13")
    failed(only(doctor.check_python), "Python 3.10.13", ">=3.11")


def test_a_pyproject_changed_by_a_pull(tmp_path: Path, monkeypatch: Monkey) -> None:
    top = doctor.checkout()
    assert top is not None
    project = (top / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(
        project.replace("dependencies = [", 'dependencies = ["anthropic>=9",', 1)
    )
    monkeypatch.setattr(doctor, "checkout", lambda: tmp_path)
    finding = only(doctor.check_installation)
    failed(finding, "pyproject.toml has changed", "anthropic>=9")
    assert f'-e "{tmp_path}"' in finding.mend


def require(monkeypatch: Monkey, *lines: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: list(lines))


def test_a_package_missing(monkeypatch: Monkey) -> None:
    require(monkeypatch, "there-is-no-such-package>=1.5")
    finding = only(doctor.check_packages)
    failed(finding, "there-is-no-such-package is not installed", ">=1.5")
    assert finding.mend.endswith('install "there-is-no-such-package>=1.5"')


def test_a_package_too_old(monkeypatch: Monkey) -> None:
    require(monkeypatch, "openai>=99")
    failed(only(doctor.check_packages), f"openai {metadata.version('openai')} (needs >=99)")


def test_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: Monkey) -> None:
    (tmp_path / "cracked.py").write_text(
        "raise ImportError('libcracked.so: cannot open\\nshared object file')"
    )
    info = tmp_path / "cracked-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Cracked\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("cracked\n")
    monkeypatch.syspath_prepend(tmp_path)
    require(monkeypatch, "cracked>=1")
    failed(only(doctor.check_packages), "cracked 1.0 cannot be imported", "ImportError: libcracked.so")


def test_a_package_for_another_system_is_not_asked_for(monkeypatch: Monkey) -> None:
    require(monkeypatch, 'nowhere>=1; sys_platform == "amiga"', 'peer>=1; extra == "test"')
    assert list(doctor.check_packages()) == []


def kernel_runs(folder: Path, monkeypatch: Monkey, program: str) -> None:
    """A kernel named python3 that starts `program`, found before the environment's own."""
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [program, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder))


def test_a_kernel_of_another_environment(tmp_path: Path, monkeypatch: Monkey) -> None:
    venv.create(tmp_path / "other", symlinks=True)
    program = tmp_path / "other" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    kernel_runs(tmp_path, monkeypatch, str(program))
    finding = only(doctor.check_kernel)
    failed(finding, "runs the Python of", str(tmp_path / "other"))
    assert "ipykernel install --sys-prefix --name python3" in finding.mend


def test_a_kernel_whose_python_is_gone(tmp_path: Path, monkeypatch: Monkey) -> None:
    kernel_runs(tmp_path, monkeypatch, str(tmp_path / "gone" / "python"))
    failed(only(doctor.check_kernel), "cannot start", "gone")


def test_no_kernel(monkeypatch: Monkey) -> None:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def none(self: Any, name: str) -> None:
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    failed(only(doctor.check_kernel), "python3 is not installed")


def test_the_widgets_not_installed(monkeypatch: Monkey) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *parts: [])
    failed(only(doctor.check_widgets), "is not installed")


def test_the_widgets_disabled(tmp_path: Path) -> None:
    (tmp_path / "jupyter" / "labconfig").mkdir(parents=True)
    disabled = {"disabledExtensions": {f"{doctor.WIDGET_EXTENSION}:plugin": True}}
    (tmp_path / "jupyter" / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    failed(only(doctor.check_widgets), "is disabled")


def test_no_port(monkeypatch: Monkey) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", forbidden)
    failed(only(doctor.check_port), "no port of 127.0.0.1 can be opened", "Permission denied")


def test_an_embedded_model_that_does_not_start(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false" if sys.platform != "win32" else "where.exe")
    failed(only(doctor.check_model), "did not start")


def test_an_embedded_model_that_does_not_answer(monkeypatch: Monkey) -> None:
    def silent(url: str) -> list[str]:
        raise httpx2.ReadTimeout("nothing for 20 s")

    monkeypatch.setattr(doctor, "_one_stream", silent)
    failed(only(doctor.check_model), "does not answer", "ReadTimeout")


def test_an_embedded_model_whose_stream_is_cut(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(doctor, "_one_stream", lambda url: ["data: {}", "data: {}", "data: {}"])
    failed(only(doctor.check_model), "not whole (3 events)")


def test_a_server_of_ones_own_that_does_not_answer(monkeypatch: Monkey) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-nobody-may-see")
    finding = only(doctor.check_server)
    failed(finding, f"http://127.0.0.1:{port}/v1")
    assert "unset OPENAI_BASE_URL" in finding.mend
    assert "a-key-nobody-may-see" not in str(finding)


def test_a_work_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    work, _ = doctor.check_folders(tmp_path / "file" / "work")
    failed(work, "the work folder", str(tmp_path / "file" / "work"))
    assert "streamlib lab --work DIR" in work.mend


def test_a_folder_of_progress_that_cannot_be_written(tmp_path: Path, monkeypatch: Monkey) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "file" / "home"))
    _, home = doctor.check_folders(tmp_path)
    failed(home, "your progress", str(tmp_path / "file" / "home"))
    assert "STREAMLIB_HOME" in home.mend


def test_a_check_that_breaks_down_is_a_fail_and_the_others_go_on(monkeypatch: Monkey) -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("two\nlines")

    for name in ("check_python", "check_packages", "check_kernel", "check_widgets", "check_model"):
        monkeypatch.setattr(doctor, name, broken)
    findings = list(doctor.examine())
    assert [finding.ok for finding in findings] == [False, True, False, False, False, True, False, True, True]
    failed(findings[0], "Python: could not be checked (RuntimeError: two lines)")


def test_not_installed_at_all_is_a_fail_with_the_installation_as_mend(monkeypatch: Monkey) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    finding = next(doctor.examine())
    failed(finding, "PackageNotFoundError")
    assert "constraints.txt" in finding.mend


def test_the_mend_uses_uv_where_pip_is_not_installed(monkeypatch: Monkey) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert doctor._pip("install x") == f"uv pip install x --python {sys.executable}"
