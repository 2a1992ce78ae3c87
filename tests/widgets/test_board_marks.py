"""Marks as SVG: they stand where matplotlib's own renderer puts them, and look as they were asked to."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from streamlib.widgets.board_marks import Marks
from streamlib.widgets.board_picture import MARKS

HEIGHT = 100
XS, YS = [1.0, 2.5, 7.0], [3.0, 9.0, 0.5]
NUMBER = r"-?\d*\.?\d+(?:e-?\d+)?"


def line(*marker: str, **how: Any) -> Any:
    axes = Figure(figsize=(2, HEIGHT / 72), dpi=72).add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(0, 10), ylim=(0, 10))
    return axes.plot(XS, YS, *marker, **how)[0]


def ours(artist: Any) -> str:
    marks = Marks(HEIGHT)
    artist.draw(marks)
    return marks.svg


def theirs(artist: Any) -> str:
    file = io.StringIO()
    artist.draw(RendererSVG(144, HEIGHT, file, image_dpi=72))
    return file.getvalue()


def look(svg: str) -> dict[str, str]:
    return dict(re.findall(r' ([a-z-]+)="([^"]*)"', svg))


def corners(outline: str) -> list[tuple[float, float]]:
    """The points of an outline, whose commands say each from where the last one ended."""
    x = y = 0.0
    begin, found = (x, y), []
    for command, words in re.findall(r"([mlqcz])([^mlqcz]*)", outline):
        numbers = [float(number) for number in re.findall(NUMBER, words)]
        points = [(x + dx, y + dy) for dx, dy in zip(numbers[::2], numbers[1::2], strict=True)]
        found += points
        x, y = begin if command == "z" else points[-1]
        begin = (x, y) if command == "m" else begin
    return found


def test_marks_stand_where_matplotlib_puts_them() -> None:
    artist = line(marker="s", linestyle="none")
    mine = [[float(x), float(y)] for x, y in re.findall(rf"M({NUMBER}) ({NUMBER})m", look(ours(artist))["d"])]
    uses = re.findall(rf'<use [^>]* x="({NUMBER})" y="({NUMBER})"', theirs(artist))
    assert len(mine) == 3
    np.testing.assert_allclose(mine, [[float(x), float(y)] for x, y in uses], atol=0.051)


@pytest.mark.parametrize("marker", [mark for mark, _ in MARKS if mark != "o"] + ["x", "|", "$o$"])
def test_an_outline_is_matplotlib_s(marker: str) -> None:
    outlines = re.split(rf"M{NUMBER} {NUMBER}", look(ours(line(marker=marker, linestyle="none")))["d"])[1:]
    assert len(outlines) == 3
    assert len(set(outlines)) == 1
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    segments = [(points, code) for points, code in path.iter_segments(simplify=False)]
    ends = [points.reshape(-1, 2) for points, code in segments if code != path.CLOSEPOLY]
    expected = np.concatenate(ends) * (6, -6)  # 6 is matplotlib's own size
    np.testing.assert_allclose(corners(outlines[0]), expected, atol=0.05)
    assert outlines[0].count("z") == sum(code == path.CLOSEPOLY for _, code in segments)


def test_after_a_closed_outline_the_next_one_counts_from_where_that_began() -> None:
    move, to, close = Path.MOVETO, Path.LINETO, Path.CLOSEPOLY
    outline = [(-3, -1), (-1, -1), (-1, 1), (0, 0), (1, 0), (3, 3)]
    mark = Path(outline, [move, to, to, close, move, to])
    said = look(ours(line(marker=mark, linestyle="none", markersize=3)))["d"]
    (one,) = {*re.split(rf"M{NUMBER} {NUMBER}", said)[1:]}
    drawn = [
        (x, -y) for x, y in (*outline[:3], *outline[4:])
    ]  # a mark's outline is scaled: at most half a unit
    np.testing.assert_allclose(corners(one), np.array(drawn) / 2, atol=0.02)


def test_a_full_circle_is_a_dot() -> None:
    said = look(ours(line(marker="o", linestyle="none", color="#0072b2", alpha=0.8, markersize=6.5)))
    assert re.fullmatch(rf"(M{NUMBER} {NUMBER}h0){{3}}", said["d"])
    assert (said["stroke"], said["stroke-width"], said["stroke-linecap"]) == ("#0072b2", "7.5", "round")
    assert (said["fill"], said["opacity"]) == ("none", "0.8")


@pytest.mark.parametrize("face", ["none", "#ff0000"])
def test_another_circle_is_drawn_round(face: str) -> None:
    how = {"color": "#0072b2", "markerfacecolor": face, "markersize": 8, "markeredgewidth": 1.8}
    said = look(ours(line(marker="o", linestyle="none", **how)))
    assert said["d"].endswith("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z")
    assert (said["fill"], said["stroke"], said["stroke-width"]) == (face, "#0072b2", "1.8")
    assert said["opacity"] == "1"


def test_a_full_mark_is_filled() -> None:
    said = look(ours(line(marker="^", linestyle="none", color="#009e73", alpha=0.4)))
    assert (said["fill"], said["stroke"], said["opacity"]) == ("#009e73", "#009e73", "0.4")


@pytest.mark.parametrize(("linestyle", "dashes"), [("-", None), ("--", 2), ((0, (6, 1, 1, 1, 1, 1)), 6)])
def test_a_line_is_one_path_with_its_dashes(linestyle: Any, dashes: int | None) -> None:
    artist = line(linestyle=linestyle, linewidth=2, color="#cc79a7")
    said = look(ours(artist))
    mine = re.findall(rf"[ML]({NUMBER}) ({NUMBER})", said["d"])
    drawn = re.search(r' d="([^"]*)"', theirs(artist))
    assert drawn is not None
    points = re.findall(rf"[ML] ({NUMBER}) ({NUMBER})", drawn[1])
    np.testing.assert_allclose(np.array(mine, float), np.array(points, float), atol=0.051)
    assert said["d"].count("M") == 1
    assert (said["fill"], said["stroke"], said["stroke-width"]) == ("none", "#cc79a7", "2")
    assert len(said["stroke-dasharray"].split()) == dashes if dashes else "stroke-dasharray" not in said
