"""The board on the screen: its controls, its moving picture, and the picture that stays. Lesson 7.

A board stands in two outputs of its cell. The first is the picture as plain HTML: it is what a saved notebook
keeps. The second is made of widgets, and they live as long as the kernel. A rule of style shows the first
where there is no second: the notebook was exported, or it was opened again and its kernel is gone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from ..sim.timing import PROFILES
from . import view
from .board_picture import Picture
from .board_server import Server

WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = "streamlib-live"
STILL = "streamlib-still"
# Where widgets are not there, or not yet, JupyterLab says "Loading widget" or "model not found" instead.
RULES = (
    f"<style>.jp-OutputArea-child:has(.{STILL}):has(+ .jp-OutputArea-child .{LIVE}),"
    f".jp-OutputArea-child:has(.{STILL}) + .jp-OutputArea-child:not(:has(.{LIVE})) > .lm-Panel"
    "{display:none}</style>"
)

# The empty board, drawn in advance: a picture at once, while the painter process still imports matplotlib.
# Made by: python -m streamlib.widgets.board_picture > streamlib/widgets/board_empty.html
EMPTY = Path(__file__).with_name("board_empty.html").read_text(encoding="utf-8")

NONE = "none"
EVERY = 4  # with a fault chosen, one stream in so many breaks
FAULTS = (
    NONE,
    "status=429",
    "status=500",
    "slow-first-byte=1",
    "cut-after=20",
    "truncate-after=20",
    "error-event=20",
    "clump=0.5",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the controls say."""

    model: str
    concurrency: int
    requests: int
    prompt_words: int
    profile: str = NONE
    fault: str = NONE

    @property
    def label(self) -> str:
        """A label that says what differs from run to run."""
        words = [self.model, f"{self.concurrency} at once", f"prompt of {self.prompt_words} words"]
        if self.profile != NONE:
            words.append(self.profile)
        if self.fault != NONE:
            words.append(f"1 in {EVERY} {self.fault}")
        return ", ".join(words)

    def headers(self, number: int) -> Mapping[str, str]:
        """For the stream with this number."""
        headers = {}
        if self.profile != NONE:
            headers["X-Sim-Profile"] = self.profile
        if self.fault != NONE and number % EVERY == 0:
            headers["X-Sim-Fault"] = self.fault
        return headers


class Screen:
    """The widgets of one board. `show` puts them into the output of the cell that runs."""

    def __init__(
        self,
        model: str,
        *,
        start: Callable[[Choice], None],
        stop: Callable[[], None],
        clear: Callable[[], None],
    ) -> None:
        # One layout and one style for controls that look alike: to the browser each is a model of its own.
        layout, words = ipywidgets.Layout, {"description_width": "initial"}
        number, pick, button = ipywidgets.BoundedIntText, ipywidgets.Dropdown, ipywidgets.Button
        wide: dict[str, Any] = {"layout": layout(width="auto", max_width="330px"), "style": words}
        self.model = pick(options=[model], value=model, description="Model", **wide)
        wide["style"] = words = self.model.style
        narrow = {"layout": layout(width="150px"), "style": words}
        self.concurrency = number(4, min=1, max=200, description="At once", **narrow)
        self.requests = number(12, min=1, max=1000, description="Streams", **narrow)
        self.prompt_words = number(20, min=20, max=4000, step=100, description="Prompt words", **narrow)
        self.profile = pick(options=[NONE, *PROFILES], description="Profile", **wide)
        self.fault = pick(options=FAULTS, description=f"1 in {EVERY} breaks", **wide)
        self.simulated = ipywidgets.HBox([self.profile, self.fault], layout={"display": "none"})
        self.start = button(
            description="Start",
            icon="play",
            button_style="primary",
            tooltip="measure with these settings; the label of the run says them",
            layout={"width": "auto"},
        )
        alike = {"layout": self.start.layout, "style": self.start.style}
        self.stop = button(
            description="Stop",
            icon="stop",
            disabled=True,
            tooltip="end the streams that run; what has arrived stays on the board",
            **alike,
        )
        self.clear = button(description="Clear history", icon="trash", tooltip="forget all runs", **alike)
        self.picture = ipywidgets.HTML(EMPTY)
        alike = {"layout": self.picture.layout, "style": self.picture.style}
        self.axes, self.downloads = ipywidgets.HTML(**alike), ipywidgets.HTML(**alike)
        settings = [self.model, self.concurrency, self.requests, self.prompt_words, self.simulated]
        row = layout(flex_flow="row wrap", align_items="center")
        self.box = ipywidgets.VBox(
            [
                ipywidgets.HBox(settings, layout=row),
                ipywidgets.HBox([self.start, self.stop, self.clear, self.downloads, self.axes], layout=row),
                self.picture,
            ]
        )
        self.box.add_class(LIVE)
        self.start.on_click(lambda _: start(self.choice()))
        self.stop.on_click(lambda _: stop())
        self.clear.on_click(lambda _: clear())
        self._axes: tuple[str, ...] = ()  # those that the page has
        self._outputs: list[Any] = []
        self._still: dict[str, str] = {}

    def choice(self) -> Choice:
        simulated = self.simulated.layout.display != "none"
        return Choice(
            self.model.value,
            self.concurrency.value,
            self.requests.value,
            self.prompt_words.value,
            self.profile.value if simulated else NONE,
            self.fault.value if simulated else NONE,
        )

    def show(self, html: str, text: str) -> None:
        """Put the board into the output of the cell that runs; `html` and `text` until there is a picture."""
        from IPython.display import display

        self._still = self._still or still(html, text)
        self._outputs.append(display(self._still, raw=True, display_id=True))  # type: ignore[no-untyped-call]
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        display({WIDGET: view}, raw=True)  # type: ignore[no-untyped-call]

    def serve(self, server: Server) -> None:
        """Offer what the server has."""
        if server.models:
            chosen = self.model.value
            self.model.options = list(dict.fromkeys([chosen, *server.models]))
            self.model.value = chosen
        self.simulated.layout.display = "flex" if server.is_simulated else "none"

    def draw(self, picture: Picture) -> None:
        """Show it. The axes are sent when they have changed."""
        if picture.axes != self._axes:
            self._axes, self.axes.value = picture.axes, picture.hidden_axes()
        self.picture.value = view._sendable(picture.html)

    def busy(self, running: bool) -> None:
        self.start.disabled = self.clear.disabled = running
        self.stop.disabled = not running

    def keep(self, picture: Picture, text: str) -> None:
        """A picture that stays: in the widgets, and in the saved notebook."""
        self.draw(picture)
        self._still = still(picture.whole(), text)
        for output in self._outputs:
            output.update(self._still, raw=True)

    def offer(self, files: Mapping[str, bytes]) -> None:
        """Files to download, by name. They are in the links themselves: no server has to know them."""
        links = (
            f'<a download="{name}" style="margin-left:12px;text-decoration:underline" '
            f'href="data:application/octet-stream;base64,{base64.b64encode(data).decode()}">{name}</a>'
            for name, data in files.items()
        )
        self.downloads.value = "".join(["Download:", *links]) if files else ""

    def close(self) -> None:
        """Leave the picture, and no widget."""
        open_widgets = [self.box]
        while open_widgets:
            widget = open_widgets.pop()
            open_widgets += getattr(widget, "children", ())
            for part in (widget, widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()


def still(html: str, text: str) -> dict[str, str]:
    """The board as a saved notebook keeps it."""
    return {
        "text/html": f'{RULES}<div class="{STILL}">{view._sendable(html)}</div>',
        "text/plain": view._sendable(text),
    }
