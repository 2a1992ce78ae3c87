"""The picture of a board: a mark for each stream, time to first token against output rate. Lesson 7.

matplotlib draws, in the painter process, as SVG text: sharp at every size, letters in the font of the page,
and one picture for light and for dark, since its ink is `currentColor`. A whole figure takes 20 ms to draw.
What moves is little, so the axes are drawn once and kept, and a frame draws the marks alone. Nor are the axes
sent with every frame: see `Picture`.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..drawing import frame
from ..palette import ERROR, WAITING
from .board_run import RATE_PERCENTILES, TTFT_PERCENTILES, row
from .board_scene import Group, Points, Scene, make_scene

if TYPE_CHECKING:  # matplotlib takes long to import, and the kernel does not need it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

INK = "#010203"  # in matplotlib; `currentColor` on the page
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "board",  # the same names for the same shapes
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}

# Colours that are readable on white and on black and differ for colour-blind readers too (Okabe and Ito,
# without the vermillion of errors); and marks, of which there is one more: together they repeat after 30.
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = (("o", "●"), ("^", "▲"), ("s", "■"), ("D", "◆"), ("v", "▼"), ("P", "✚"))
LINES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 2)))

HELP = (
    "Each mark is one stream. Further left its first token came sooner, further up its tokens came faster: "
    "the best streams are at the top left."
)
NAMES = (
    "TTFT: seconds from the request to the first text. Rate: tokens/s of one stream, from its first text to "
    "its last; p10: one stream in ten is slower."
)


# The head of the table: names, and what stands under them.
HEAD = (
    ("label", 1),
    ("streams", 2),
    ("TTFT (s)", 3),
    ("rate of a stream (tokens/s)", 3),
    ("together", 1),
    ("tokens", 1),
)
UNDER = (
    *("", "done", "failed"),
    *(f"p{q}" for q in TTFT_PERCENTILES),
    *(f"p{q}" for q in RATE_PERCENTILES),
    *("tokens/s", "by"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """`html` shows `axes` that are in another place of the same page: most of a picture is sent once."""

    html: str
    axes: tuple[str, ...] = ()

    def whole(self) -> str:
        """A piece of a page that needs nothing else."""
        return reduce(lambda html, axes: html.replace(use_of(axes), axes), self.axes, self.html)

    def hidden_axes(self) -> str:
        """The other place: it shows nothing by itself."""
        parts = "".join(f'<g id="{name_of(axes)}">{axes}</g>' for axes in self.axes)
        style = 'width="0" height="0" style="position:absolute"'
        return f'<svg aria-hidden="true" {style}><defs>{parts}</defs></svg>'


def name_of(axes: str) -> str:
    """The same axes have the same name, in every picture."""
    return f"board-{crc32(axes.encode()):08x}"


def use_of(axes: str) -> str:
    return f'<use href="#{name_of(axes)}"/>'


def draw_board(scene: Scene) -> Picture:
    """The picture as HTML and SVG, for light and dark."""
    columns = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:0 16px"
    cloud, together = _panel(CLOUD, scene), _panel(TOGETHER, scene)
    html = frame(
        f"<div><b>Board</b> {escape(scene.title)}</div>",
        f'<div style="{columns}">{cloud[0]}{together[0]}</div>',
        _legend(),
        _table(scene.groups),
        "".join(f'<div style="color:{ERROR}">✗ {escape(sentence)}</div>' for sentence in scene.remarks),
        f'<div style="opacity:0.8">{HELP} {NAMES}</div>',
    )
    return Picture(html, (cloud[1], together[1]))


def draw_file(request: tuple[Scene, str]) -> bytes:
    """The picture as a file, "png" or "svg": black on white, with a legend of its own."""
    from matplotlib.figure import Figure

    scene, kind = request
    with style(ink="black"):
        figure = Figure(figsize=(11, 5), layout="constrained", facecolor="white")
        for panel, axes in zip((CLOUD, TOGETHER), figure.subplots(1, 2, width_ratios=(1.4, 1)), strict=True):
            panel.prepare(axes, panel.limits(scene))
            for artist in panel.put(axes, scene):
                artist.set_animated(False)
        handles = []
        for place, group in enumerate(scene.groups):
            colour, (mark, _) = look(place)
            words = row(group.summary)
            name = f"{words[0]}: {words[1]} streams, TTFT p50 {words[3]} s, rate p50 {words[6]} tokens/s"
            handles += figure.axes[0].plot([], [], mark, color=colour, label=name)
        if handles:
            figure.legend(handles=handles, loc="outside upper left", frameon=False)
        figure.supxlabel(HELP, fontsize=9)
        file = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(file, format=kind, dpi=144, metadata=metadata)
    return file.getvalue()


def look(place: int) -> tuple[str, tuple[str, str]]:
    """Colour and mark (matplotlib's name, and as a character) of the group at this place."""
    return COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]


# -- the two panels --------------------------------------------------------------------------------------


class Panel(ABC):
    """One pair of axes."""

    title: str
    x: str
    y: str
    width: int  # pixels, at most a little more on the page
    height: int = 310

    @abstractmethod
    def limits(self, scene: Scene) -> tuple[float, float]:
        """The ends of the axes; both begin at 0."""

    @abstractmethod
    def put(self, axes: Axes, scene: Scene) -> Iterator[Artist]:
        """Put the marks of a scene on the axes."""

    def prepare(self, axes: Axes, limits: tuple[float, float]) -> None:
        """What does not move."""
        axes.set(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel=self.x, ylabel=self.y, title=self.title)


class Cloud(Panel):
    """A mark for each stream: TTFT against output rate."""

    title = "one mark is one stream"
    x, y = "time to first token, TTFT (s)", "output rate of a stream (tokens/s)"
    width = 580

    def limits(self, scene: Scene) -> tuple[float, float]:
        points = [p for g in scene.groups for p in (g.done, g.streaming, g.failed, g.faint) if p]
        waits = [wait for group in scene.groups for wait in group.waiting]
        right = max([*waits, *(max(p[::2]) for p in points)], default=0.0)
        return nice(1.05 * right, 0.5), nice(1.1 * max((max(p[1::2]) for p in points), default=0.0), 50)

    def prepare(self, axes: Axes, limits: tuple[float, float]) -> None:
        super().prepare(axes, limits)
        axes.text(0.012, 0.975, "↖ better", transform=axes.transAxes, va="top", alpha=0.6)

    def put(self, axes: Axes, scene: Scene) -> Iterator[Artist]:
        for place, group in enumerate(scene.groups):
            colour, (mark, _) = look(place)
            hollow = {"markerfacecolor": "none", "markeredgewidth": 1.8, "markersize": 8}
            waits = array("d", (number for wait in group.waiting for number in (wait, 0.0)))
            rows: tuple[tuple[Points, str, dict[str, Any]], ...] = (
                (group.faint, mark, {"color": colour, "alpha": 0.4, "markersize": 6}),
                (group.done, mark, {"color": colour, "alpha": 0.8, "markersize": 6.5}),
                (group.streaming, mark, {"color": colour, **hollow}),
                (waits, "|", {"color": WAITING, "markersize": 18, "markeredgewidth": 2}),
                (group.failed, "x", {"color": ERROR, "markersize": 8, "markeredgewidth": 2}),
            )
            for points, kind, how in rows:
                if points:
                    yield _marks(axes, points, kind, **how)


class Together(Panel):
    """A line for each label: the tokens of all its streams, over the time of its last run."""

    title = "all streams of a run together"
    x, y = "seconds since the run began", "throughput (tokens/s)"
    width = 400

    def limits(self, scene: Scene) -> tuple[float, float]:
        top = max((rate for group in scene.groups for _, rate in group.rates), default=0.0)
        return nice(scene.seconds, 2), nice(1.1 * top, 100)

    def put(self, axes: Axes, scene: Scene) -> Iterator[Artist]:
        for place, group in enumerate(scene.groups):
            if group.rates:
                points = array("d", (0.0, 0.0, *chain.from_iterable(group.rates)))
                alpha = 0.4 if group.summary.invalid else 1.0
                dashes: Any = LINES[place % len(LINES)]
                yield _marks(
                    axes, points, "", color=look(place)[0], linestyle=dashes, linewidth=2, alpha=alpha
                )


CLOUD, TOGETHER = Cloud(), Together()


def _marks(axes: Axes, points: Points, marker: str, linestyle: Any = "none", **how: Any) -> Artist:
    """Put marks at the points. They are `animated`: `savefig` leaves them out."""
    xs, ys = points[::2], points[1::2]
    how |= {"marker": marker, "linestyle": linestyle, "clip_on": False, "animated": True}
    return axes.plot(xs, ys, **how)[0]


def nice(value: float, least: float) -> float:
    """A round end for an axis that holds `value`: it jumps now and then, it does not creep."""
    step = 10.0**-3
    while True:
        for end in (1, 1.5, 2, 3, 4, 5, 6, 8):
            if end * step >= max(value, least):
                return end * step
        step *= 10


# -- from matplotlib to a page -----------------------------------------------------------------------------


@contextmanager
def style(ink: str = INK) -> Iterator[None]:
    """matplotlib with our settings, and without a trace of them afterwards."""
    import matplotlib

    settings: Any = {key: ink if value == INK else value for key, value in STYLE.items()}
    with matplotlib.rc_context(settings):
        yield


@lru_cache(maxsize=32)
def axes_of(panel: Panel, limits: tuple[float, float]) -> tuple[Axes, str]:
    """The empty axes and their SVG, kept until their limits change."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel.width / 72, panel.height / 72), dpi=72)  # one unit is one pixel
    figure.patch.set_visible(False)
    left, top, bottom = 56, 26, 44
    axes = figure.add_axes(
        (
            left / panel.width,
            bottom / panel.height,
            1 - (left + 14) / panel.width,
            1 - (top + bottom) / panel.height,
        )
    )
    axes.patch.set_visible(False)
    panel.prepare(axes, limits)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return axes, for_page(file.getvalue())


def _panel(panel: Panel, scene: Scene) -> tuple[str, str]:
    """One panel: the marks of this scene over a reference to its axes; and these."""
    from .board_marks import Marks

    marks = Marks(panel.height)
    with style():
        axes, drawn = axes_of(panel, panel.limits(scene))
        for artist in panel.put(axes, scene):
            artist.draw(marks)
            artist.remove()
    streams = sum(group.summary.streams for group in scene.groups)
    label = f"{panel.title}: {panel.y} against {panel.x}, {streams} streams. The table has the numbers."
    html = (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {panel.width} {panel.height}" '
        f'style="flex:{panel.width} 1 {0.8 * panel.width:.0f}px;max-width:{1.15 * panel.width:.0f}px;'
        f'min-width:0;overflow:visible" stroke-linejoin="round">{use_of(drawn)}{marks.svg}</svg>'
    )
    return html, drawn


def for_page(document: str) -> str:
    """What is inside an SVG document of matplotlib, for a page: its ink and fonts, no style sheet."""
    inside = document[document.index("</defs>") + len("</defs>") : document.rindex("</svg>")]
    inside = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|[xy]tick)_\d+"', "", inside)
    inside = re.sub(r"font-family: [^;\"]*", "font-family: inherit", inside)
    return re.sub(r">\s+<", "><", inside).replace(INK, "currentColor")


def _legend() -> str:
    signs = (
        ("currentColor", "●", "done"),
        ("currentColor", "○", "still streaming: it moves"),
        (WAITING, "┃", "waiting: its clock to the first token runs"),
        (ERROR, "✕", "failed"),
        (WAITING, "●", "faint: stopped or invalid; like those that failed, in no number"),
    )
    words = " &emsp; ".join(
        f'<span style="color:{colour}">{sign}</span> {word}' for colour, sign, word in signs
    )
    return f"<div>{words}</div>"


def _table(groups: Sequence[Group]) -> str:
    """The numbers, with each label's mark before it."""
    if not groups:
        return ""
    rows = []
    for place, group in enumerate(groups):
        colour, (_, sign) = look(place)
        label, *numbers = (escape(word) for word in row(group.summary))
        rows.append([f'<span style="color:{colour}">{sign}</span> {label}', *numbers])
    how = "padding:1px 8px;text-align:"
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{how}{"right" if i else "left"}">{word}</td>' for i, word in enumerate(words))
        + "</tr>"
        for words in rows
    )
    top = "".join(
        f'<th colspan="{span}" style="{how}{"center" if span > 1 else "left"}">{escape(name)}</th>'
        for name, span in HEAD
    )
    names = "".join(f'<th style="{how}right">{escape(name)}</th>' for name in UNDER)
    # A wide table scrolls in a narrow window, and does not push the rest of the picture out of it. The grid
    # says that its least width is none; without it the least width of the table would be that of the picture.
    return (
        '<div style="display:grid;grid-template-columns:minmax(0,1fr)"><div style="overflow-x:auto">'
        f'<table style="margin:8px 0"><tr>{top}</tr><tr>{names}</tr>{body}</table></div></div>'
    )


if __name__ == "__main__":
    print(draw_board(make_scene((), (), {})).whole())
