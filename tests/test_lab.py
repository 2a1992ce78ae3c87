"""The work folder: what arrives, and that nothing a learner wrote is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlib import lab
from streamlib.lab import MANIFEST, deliver, fingerprint, lab_arguments, run_lab, summary

NAME = "01_raw_sse.ipynb"


def notebook(*sources: str, outputs: list[Any] | None = None, **metadata: Any) -> str:
    """A notebook with one code cell per source; the cells' ids are a, b, c ..."""
    cells = [
        {
            "cell_type": "code",
            "id": chr(97 + number),
            "metadata": {},
            "source": source.splitlines(keepends=True),
            "outputs": outputs or [],
            "execution_count": 1 if outputs else None,
        }
        for number, source in enumerate(sources)
    ]
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


PRINTED = [{"output_type": "stream", "name": "stdout", "text": ["hello\n"]}]


class Course:
    """A course's folder and a learner's work folder."""

    def __init__(self, folder: Path) -> None:
        self.shipped = folder / "notebooks"
        self.work = folder / "work"
        self.shipped.mkdir()

    def ship(self, content: str, name: str = NAME) -> None:
        path = self.shipped / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def write(self, content: str, name: str = NAME) -> None:
        (self.work / name).write_text(content, encoding="utf-8")

    def read(self, name: str = NAME) -> str:
        return (self.work / name).read_text(encoding="utf-8")

    def deliver(self) -> list[tuple[str, str]]:
        return [(delivery.what, delivery.path.name) for delivery in deliver(self.shipped, self.work)]


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


# What arrives


def test_first_run_copies_everything(course: Course) -> None:
    course.ship(notebook("1"))
    course.ship("a text", "data/letter.txt")
    assert course.deliver() == [("new", NAME), ("new", "letter.txt")]
    assert course.read() == notebook("1")
    assert course.read("data/letter.txt") == "a text"


def test_second_run_has_nothing_to_do(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    assert course.deliver() == []


def test_an_untouched_notebook_is_updated_in_place(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.ship(notebook("2"))
    assert course.deliver() == [("updated", NAME)]
    assert course.read() == notebook("2")


def test_an_untouched_data_file_is_updated_in_place(course: Course) -> None:
    course.ship("old", "letter.txt")
    course.deliver()
    course.ship("new", "letter.txt")
    assert course.deliver() == [("updated", "letter.txt")]
    assert course.read("letter.txt") == "new"


def test_a_new_lesson_arrives_in_a_used_folder(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("lesson 2"), "02.ipynb")
    assert course.deliver() == [("new", "02.ipynb")]


def test_a_deleted_notebook_comes_anew(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    (course.work / NAME).unlink()
    assert course.deliver() == [("new", NAME)]


def test_hidden_files_and_caches_stay_behind(course: Course) -> None:
    course.ship("{}", ".ipynb_checkpoints/01-checkpoint.ipynb")
    course.ship("x", "__pycache__/helper.pyc")
    assert course.deliver() == []


# What a learner wrote


def test_a_changed_notebook_is_kept_and_the_update_arrives_beside_it(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("2"))
    assert course.deliver() == [("beside", "01_raw_sse.update.ipynb")]
    assert course.read() == notebook("mine")
    assert course.read("01_raw_sse.update.ipynb") == notebook("2")


def test_a_changed_notebook_is_left_alone_when_the_course_did_not_change(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    assert course.deliver() == []
    assert course.read() == notebook("mine")


def test_an_update_beside_comes_once(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("2"))
    course.deliver()
    assert course.deliver() == []
    (course.work / "01_raw_sse.update.ipynb").unlink()  # read, not wanted
    assert course.deliver() == []


def test_the_next_update_replaces_an_untouched_one_beside(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    for content in (notebook("2"), notebook("3")):
        course.ship(content)
        assert course.deliver() == [("beside", "01_raw_sse.update.ipynb")]
    assert course.read("01_raw_sse.update.ipynb") == notebook("3")


def test_the_next_update_spares_a_changed_one_beside(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("2"))
    course.deliver()
    course.write(notebook("mine too"), "01_raw_sse.update.ipynb")
    course.ship(notebook("3"))
    assert course.deliver() == [("beside", "01_raw_sse.update-2.ipynb")]
    assert course.read("01_raw_sse.update.ipynb") == notebook("mine too")


def test_taking_the_update_in_ones_own_place_settles_it(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("2"))
    course.deliver()
    (course.work / "01_raw_sse.update.ipynb").replace(course.work / NAME)
    course.ship(notebook("3"))
    assert course.deliver() == [("updated", NAME)]


@pytest.mark.parametrize("damage", ["", "not JSON", "[]", '{"shipped": 3}', '{"shipped": {"a": 1}}'])
def test_without_a_manifest_a_differing_notebook_counts_as_changed(course: Course, damage: str) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(damage, MANIFEST)
    course.ship(notebook("2"))
    assert course.deliver() == [("beside", "01_raw_sse.update.ipynb")]
    assert course.read() == notebook("1")


def test_without_a_manifest_an_equal_notebook_is_known_again(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    (course.work / MANIFEST).unlink()
    assert course.deliver() == []
    course.ship(notebook("2"))
    assert course.deliver() == [("updated", NAME)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}'])
def test_an_unreadable_notebook_of_the_learner_is_kept(course: Course, content: str) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(content)
    course.ship(notebook("2"))
    assert course.deliver() == [("beside", "01_raw_sse.update.ipynb")]
    assert course.read() == content


# What counts as a change


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        pytest.param(
            lambda nb: nb["cells"][0].update(outputs=PRINTED, execution_count=7), True, id="outputs"
        ),
        pytest.param(
            lambda nb: nb["metadata"].update(language_info={"version": "3.13"}), True, id="metadata"
        ),
        pytest.param(lambda nb: nb["cells"][0]["metadata"].update(scrolled=True), True, id="cell metadata"),
        pytest.param(lambda nb: nb["cells"][0].update(source="a\nb"), True, id="one string for lines"),
        pytest.param(
            lambda nb: nb["cells"].append({"cell_type": "code", "source": [], "metadata": {}}),
            True,
            id="the empty cell JupyterLab adds",
        ),
        pytest.param(lambda nb: nb["cells"][0].update(source="a\nc"), False, id="a character"),
        pytest.param(lambda nb: nb["cells"].pop(), False, id="a cell removed"),
        pytest.param(lambda nb: nb["cells"].reverse(), False, id="cells moved"),
        pytest.param(lambda nb: nb["cells"][0].update(cell_type="markdown"), False, id="code made text"),
        pytest.param(
            lambda nb: nb["cells"][0].update(attachments={"a.png": {"image/png": ""}}), False, id="attachment"
        ),
    ],
)
def test_what_counts_as_a_change(tmp_path: Path, edit: Callable[[Any], Any], same: bool) -> None:
    before, after = tmp_path / "before.ipynb", tmp_path / "after.ipynb"
    content = json.loads(notebook("a\nb", "c"))
    before.write_text(json.dumps(content))
    edit(content)
    after.write_text(json.dumps(content))
    assert (fingerprint(before) == fingerprint(after)) is same


def test_an_update_keeps_the_outputs_of_the_cells_that_stayed_the_same(course: Course) -> None:
    course.ship(notebook("a", "b"))
    course.deliver()
    course.write(notebook("a", "b", outputs=PRINTED))
    course.ship(notebook("a", "changed"))
    assert course.deliver() == [("updated", NAME)]
    same, changed = json.loads(course.read())["cells"]
    assert (same["outputs"], same["execution_count"]) == (PRINTED, 1)
    assert (changed["outputs"], changed["execution_count"]) == ([], None)


# Interruptions


class Killed(BaseException):
    """The machine goes down here."""


def test_an_interrupted_run_is_completed_by_the_next_one(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the delivery at every rename in turn: the next run must end as if nothing had happened."""
    replace = Path.replace

    def interrupted_at(step: int) -> bool:
        """Deliver version 2 over an untouched and a changed notebook, killed at one rename."""
        for name in ("01.ipynb", "02.ipynb"):
            course.ship(notebook("1"), name)
        course.deliver()
        course.write(notebook("mine"), "02.ipynb")
        for name in ("01.ipynb", "02.ipynb", "03.ipynb"):
            course.ship(notebook("2"), name)
        count = 0

        def killing_replace(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == step:
                raise Killed
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killing_replace)
            try:
                course.deliver()
            except Killed:
                return True
        return False

    step = 1
    while interrupted_at(step):
        course.deliver()
        assert course.read("01.ipynb") == course.read("03.ipynb") == notebook("2"), step
        assert course.read("02.ipynb") == notebook("mine"), step
        assert course.read("02.update.ipynb") == notebook("2"), step
        assert sorted(path.name for path in course.work.iterdir() if path.name != MANIFEST) == [
            "01.ipynb",
            "02.ipynb",
            "02.update.ipynb",
            "03.ipynb",
        ], step
        for path in [*course.work.iterdir(), *course.shipped.iterdir()]:
            path.unlink()
        step += 1
    assert step > 5


def test_a_write_that_fails_half_way_leaves_the_old_file(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.ship(notebook("2"))

    def disk_full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space"):
        course.deliver()
    assert course.read() == notebook("1")
    assert not list(course.work.glob(".*.part"))


ACTIONS = st.lists(
    st.sampled_from(["update", "edit", "edit beside", "run", "delete", "lose manifest", "deliver"]),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_nothing_a_learner_wrote_is_ever_lost(
    actions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    course = Course(tmp_path_factory.mktemp("course"))
    written: set[str] = set()
    course.ship(notebook("version 0"))
    course.deliver()
    for number, action in enumerate(actions):
        mine, beside = course.work / NAME, course.work / "01_raw_sse.update.ipynb"
        if action == "update":
            course.ship(notebook(f"version {number}"))
        elif action == "deliver":
            course.deliver()
        elif action == "lose manifest":
            (course.work / MANIFEST).unlink(missing_ok=True)
        elif action == "delete":
            written -= {fingerprint(mine)} if mine.exists() else set()
            mine.unlink(missing_ok=True)
        elif action == "run" and mine.exists():
            content = json.loads(mine.read_text())
            content["cells"][0]["outputs"] = PRINTED
            mine.write_text(json.dumps(content))
        elif action.startswith("edit"):
            path = mine if action == "edit" else beside
            if path.exists():
                written -= {fingerprint(path)}
                path.write_text(notebook(f"mine {number}"))
                written.add(fingerprint(path))
    course.deliver()
    assert written <= {fingerprint(path) for path in course.work.glob("*.ipynb")}


# The command


def test_summary_says_what_arrived_and_what_lies_beside(course: Course) -> None:
    course.ship(notebook("1"))
    course.deliver()
    course.write(notebook("mine"))
    course.ship(notebook("2"))
    course.ship(notebook("lesson 2"), "02.ipynb")
    assert summary(course.work, deliver(course.shipped, course.work)) == (
        f"Your notebooks are in {course.work} (1 new).\n"
        "01_raw_sse.ipynb has your changes; the new version is beside it: 01_raw_sse.update.ipynb"
    )
    assert summary(course.work, []) == f"Your notebooks are in {course.work} (up to date)."


def test_a_work_folder_that_cannot_be_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run_lab(work=tmp_path / "file" / "work") == 1
    message = capsys.readouterr().err
    assert "cannot write to the work folder" in message
    assert "streamlib lab --work DIR" in message


def test_jupyterlab_listens_on_loopback_with_its_token(tmp_path: Path) -> None:
    arguments = " ".join(lab_arguments(tmp_path, port=8890, browser=False))
    assert "--ServerApp.ip=127.0.0.1" in arguments
    assert "--ServerApp.port=8890" in arguments
    assert "--no-browser" in arguments
    assert "token" not in arguments  # none set: Jupyter makes one


def test_the_first_visit_opens_the_first_notebook_and_a_later_one_the_tabs_as_left(tmp_path: Path) -> None:
    (tmp_path / lab.START).write_text(notebook())
    assert "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in lab_arguments(
        tmp_path, port=1, browser=True
    )
    (tmp_path / ".jupyter" / "workspaces").mkdir(parents=True)
    (tmp_path / ".jupyter" / "workspaces" / "default.jupyterlab-workspace").write_text("{}")
    assert "--LabApp.default_url=/lab" in lab_arguments(tmp_path, port=1, browser=True)


def test_the_work_folder_of_a_checkout_is_git_ignored() -> None:
    top = lab.checkout()
    assert top is not None
    assert lab.default_work() == top / "work"
    assert "work/" in (top / ".gitignore").read_text().splitlines()


def test_a_wheel_brings_the_notebooks_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checkout around it, the package looks inside itself and works where it was called."""
    package = tmp_path / "site-packages" / "streamlib"
    (package / "_notebooks").mkdir(parents=True)
    monkeypatch.setattr(lab, "__file__", str(package / "lab.py"))
    monkeypatch.chdir(tmp_path)
    assert lab.checkout() is None
    assert lab.shipped_notebooks() == package / "_notebooks"
    assert lab.default_work() == tmp_path / "work"


def test_a_wrong_command_line_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from streamlib.__main__ import main

    with pytest.raises(SystemExit) as exit_:
        main(["lab", "--port", "eighty"])
    assert exit_.value.code == 2
    assert "a port is a number from 0 to 65535, got 'eighty'" in capsys.readouterr().err


def test_python_dash_m_streamlib_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamlib", "--version"], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.startswith("streamlib ")
