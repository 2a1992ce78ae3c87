"""matplotlib's marks and lines as SVG that a browser shows quickly. Lesson 7.

matplotlib's own renderer writes an element for each mark. For a browser that is a small tree each, several
hundred of them in every frame, and it costs more than all the rest. Here a row of marks is one path: the same
outline again and again, each time moved to another point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Transform

if TYPE_CHECKING:
    from matplotlib.typing import ColorType

COMMANDS = {Path.MOVETO: "m", Path.LINETO: "l", Path.CURVE3: "q", Path.CURVE4: "c"}


class Marks(RendererBase):
    """Draws `matplotlib.lines.Line2D`, with marks or as a line, into `svg`: those are all that the board has.

    One unit is one pixel, at 72 dots per inch. What the methods are given: matplotlib, `RendererBase`.
    """

    def __init__(self, height: int) -> None:
        super().__init__()
        self.svg = ""
        self._flip = Affine2D().scale(1, -1).translate(0, height)  # in SVG y grows downwards

    def draw_path(
        self,
        gc: GraphicsContextBase,
        path: Path,
        transform: Transform,
        rgbFace: ColorType | None = None,
    ) -> None:
        line = "M" + "L".join(f"{x:g} {y:g}" for x, y in self._points(path, transform))
        dashes: Any = gc.get_dashes()[1]
        dashed = f' stroke-dasharray="{" ".join(f"{dash:g}" for dash in dashes)}"' if dashes else ""
        self._write(line, gc, None, gc.get_linewidth(), dashed)

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Path,
        marker_trans: Transform,
        path: Path,
        trans: Transform,
        rgbFace: ColorType | None = None,
    ) -> None:
        points = self._points(path, trans)
        size = marker_trans + Affine2D().scale(1, -1)
        is_circle = marker_path is Path.unit_circle()
        radius = float(size.transform((1, 0))[0] - size.transform((0, 0))[0])
        if is_circle and rgbFace is not None and to_hex(rgbFace) == to_hex(gc.get_rgb()) and alpha(rgbFace):
            # a line of no length with round ends is a dot: the shortest way to say it
            width = 2 * radius + gc.get_linewidth()
            self._write(_at(points, "h0"), gc, None, width, ' stroke-linecap="round"')
        else:
            outline = _circle(radius) if is_circle else _outline(marker_path, size)
            self._write(_at(points, outline), gc, rgbFace, gc.get_linewidth())

    def _points(self, path: Path, transform: Transform) -> list[list[float]]:
        """In tenths of a pixel."""
        found: list[list[float]] = (transform + self._flip).transform(path.vertices).round(1).tolist()
        return found

    def _write(
        self, d: str, gc: GraphicsContextBase, face: ColorType | None, width: float, more: str = ""
    ) -> None:
        fill = to_hex(face) if face is not None and alpha(face) else "none"
        look = f'fill="{fill}" stroke="{to_hex(gc.get_rgb())}" stroke-width="{width:g}"'
        self.svg += f'<path d="{d}" {look} opacity="{alpha(gc.get_rgb()):g}"{more}/>'


def alpha(colour: ColorType) -> float:
    """How opaque a colour of matplotlib's is."""
    return float(colour[3]) if not isinstance(colour, str) and len(colour) == 4 else 1.0


def _at(points: list[list[float]], outline: str) -> str:
    return "".join(f"M{x:g} {y:g}{outline}" for x, y in points)


def _circle(radius: float) -> str:
    half = f"a{radius:g} {radius:g} 0 1 0 "
    return f"m{-radius:g} 0{half}{2 * radius:g} 0{half}{-2 * radius:g} 0z"


def _outline(path: Path, transform: Transform) -> str:
    """A mark's outline, from the point where it stands."""
    parts = []
    x = y = 0.0
    begin = (x, y)
    for vertices, code in path.iter_segments(transform, simplify=False):
        if code == Path.CLOSEPOLY:
            parts.append("z")
            x, y = begin
            continue
        points = vertices.reshape(-1, 2).round(2).tolist()
        parts.append(COMMANDS[code] + " ".join(f"{px - x:.4g} {py - y:.4g}" for px, py in points))
        x, y = points[-1]
        begin = (x, y) if code == Path.MOVETO else begin
    return "".join(parts)
