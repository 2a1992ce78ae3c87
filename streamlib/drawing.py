"""Pictures made of text: HTML with SVG inside, which every notebook shows and every export keeps.

Time goes from left (0 %) to right (100 % = `span` seconds), so that a picture is as wide as its notebook;
heights and letters are in pixels, so that words stay readable at every width. Words take the colours and the
letters of the page, light or dark. What others wrote is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .palette import WAITING

DIAMOND = "M0-6 6 0 0 6-6 0Z"  # the first token
CROSS = "M-5-5 5 5M-5 5 5-5"  # an error


def frame(*parts: str) -> str:
    """A whole picture: words in the colours and letters of the page, light or dark."""
    style = (
        "color:var(--jp-ui-font-color1,inherit);font:13px/1.45 var(--jp-ui-font-family,sans-serif);"
        "font-variant-numeric:tabular-nums;padding:4px 12px 4px 2px"
    )
    return f'<div style="{style}">{"".join(parts)}</div>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words; the first row is the head."""
    head, *body = [[escape(cell) for cell in row] for row in rows]
    cells = '<td style="text-align:left">'
    return (
        '<table style="margin:8px 0"><tr>'
        + "".join(f'<th style="text-align:left">{cell}</th>' for cell in head)
        + "".join(f"</tr><tr>{''.join(f'{cells}{cell}</td>' for cell in row)}" for row in body)
        + "</tr></table>"
    )


def head(title: str, words: str, clock: float) -> str:
    """The first line: what this is, and a clock."""
    return (
        '<div style="display:flex;justify-content:space-between;align-items:baseline">'
        f"<span><b>{escape(title)}</b>: {escape(words)}</span>"
        f'<span style="font-size:22px;line-height:1">{clock:.1f} s</span></div>'
    )


def reading_help(words: str) -> str:
    """How to read a picture, in a sentence."""
    return f'<div style="font-size:12px;opacity:0.75;margin-top:2px">{escape(words)}</div>'


def legend(keys: Iterable[str]) -> str:
    """What the signs in a picture mean. Each key is HTML, and stays on one line where that can be."""
    spans = "".join(f'<span style="display:inline-block;margin-right:14px">{key}</span>' for key in keys)
    return f'<div style="font-size:12px;margin-top:2px">{spans}</div>'


def lines(sentences: Iterable[str]) -> str:
    return "".join(f"<div>{escape(sentence)}</div>" for sentence in sentences)


def svg(height: int, label: str, parts: Iterable[str]) -> str:
    """A drawing over the whole width; `label` is what a screen reader says for it."""
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="100%" height="{height}" '
        f'style="overflow:visible;display:block;font-size:12px" fill="currentColor">{"".join(parts)}</svg>'
    )


def nice_span(seconds: float) -> float:
    """The end of a time axis that holds `seconds`: it jumps now and then, it does not creep."""
    span = 1.0
    while True:
        for step in (1, 1.5, 2, 3, 4, 5, 6, 8):
            if step * span >= seconds:
                return step * span
        span *= 10


def time_span(clock: float, *, live: bool) -> float:
    """The end of the time axis: some room while the clock runs, none when it stands still."""
    return nice_span(clock) if live else max(1.02 * clock, 0.1)


def seconds(value: float) -> str:
    """A duration as people read it."""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def percent(at: float, span: float) -> str:
    return f"{100 * at / span:.2f}%"


def note(x: str, y: float, words: str, *, anchor: str = "start", dim: bool = False) -> str:
    """Words in a drawing."""
    opacity = ' opacity="0.7"' if dim else ""
    return f'<text x="{x}" y="{y:.0f}" text-anchor="{anchor}"{opacity}>{escape(words)}</text>'


def line(start: float, end: float, span: float, y: float, colour: str = WAITING, width: float = 2) -> str:
    """From one instant to another; grey when somebody waits."""
    return (
        f'<line x1="{percent(start, span)}" x2="{percent(end, span)}" y1="{y:.0f}" y2="{y:.0f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def axis(span: float, y: int) -> str:
    """A time axis: a line, and a tick every so many seconds. It takes 22 pixels below `y`."""
    step = next(
        step
        for step in (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9)
        if span / step <= 8
    )
    count = int(span / step + 1e-9)
    parts = [line(0, span, span, y, "currentColor", 0.5)]
    for i in range(count + 1):
        x = percent(i * step, span)
        anchor = "start" if i == 0 else "end" if i * step > 0.97 * span else "middle"
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{y}" y2="{y + 4}" stroke="currentColor" stroke-width="0.5"/>'
        )
        parts.append(note(x, y + 17, f"{i * step:g} s", anchor=anchor, dim=True))
    return "".join(parts)


def shape(path: str, at: float, span: float, y: float, colour: str, *, title: str = "") -> str:
    """A small shape, drawn around (0, 0), at an instant."""
    return (
        f'<svg x="{percent(at, span)}" y="{y:.0f}" overflow="visible"><path d="{path}" fill="{colour}" '
        f'stroke="{colour}" stroke-width="1.5"><title>{escape(title)}</title></path></svg>'
    )
