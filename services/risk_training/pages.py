"""A report as one HTML file that opens anywhere: real tables, pictures told in words, no script and no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDE, TALL = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 12, 44
DASHES: Final = ("none", "7 4", "2 4", "12 4 2 4")
"""Lines differ by their dashes and are named at their ends: colour alone says nothing."""
STYLE: Final = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem}figure{margin:1rem 0}
caption,figcaption{text-align:left;font-weight:600;padding:.5rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #8886;font-variant-numeric:tabular-nums}
td{white-space:nowrap}tbody th{font-weight:400}
.words th,.words td{white-space:normal;text-align:left;overflow-wrap:anywhere}th:first-child{text-align:left}
svg{width:100%;min-width:600px;height:auto}svg text{font:13px system-ui,sans-serif;fill:currentColor}
.axis{stroke:#888;stroke-width:1}.grid{stroke:#8884;stroke-width:1}.mark{stroke:currentColor;stroke-width:1}
.bar{fill:#0969da}.line0{stroke:#0969da}.line1{stroke:#bc4c00}.line2{stroke:#8250df}.line3{stroke:#1a7f37}
.line0,.line1,.line2,.line3{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){.bar{fill:#58a6ff}.line0{stroke:#58a6ff}.line1{stroke:#f0883e}.line2{stroke:#bc8cff}
.line3{stroke:#56d364}}
@media print{body{max-width:none;margin:0}h2,table,figure{break-inside:avoid}}
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along an edge of a picture: its words, from where to where, and the places that are labelled."""

    words: str
    least: float
    most: float
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by a line; ``dots`` draws them unjoined."""

    words: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def page(title: str, about: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return the whole page: a heading for each section, whose content is HTML already."""
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{paragraph(about)}{body}</main></body></html>\n"
    )


def paragraph(*words: str) -> str:
    """Return a paragraph for each text."""
    return "".join(f"<p>{escape(text)}</p>" for text in words)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """Return a table whose first cells name their rows; ``words`` sets its cells as text, not as figures."""
    look = ' class="words"' if words else ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table{look}><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def lines(caption: str, told: str, drawn: Sequence[Line], x: Axis, y: Axis) -> str:
    """Draw lines, each named at its end; ``told`` says in words what the picture shows."""
    parts = [_axes(x, y)]
    named: list[tuple[float, int, Line]] = []
    for n, line in enumerate(drawn):
        places = [(_across(x, one), _up(y, two)) for one, two in line.points]
        parts.append(_drawn(n, places, dots=line.dots))
        named.append((places[-1][1], n, line))
    floor, left = TOP, WIDE - RIGHT + 8
    for height, n, line in sorted(named, key=lambda each: each[:2]):
        floor = max(floor + 18, int(height) + 4)
        sample = [(left + 14, floor - 4)] if line.dots else [(left, floor - 4), (left + 28, floor - 4)]
        parts.append(_drawn(n, sample, dots=line.dots))
        parts.append(f'<text x="{left + 36}" y="{floor}">{escape(line.words)}</text>')
    return _figure(caption, told, TALL, "".join(parts))


def _drawn(n: int, places: Sequence[tuple[float, float]], *, dots: bool) -> str:
    look = f'class="line{n % len(DASHES)}"'
    if dots:
        return "".join(f'<circle {look} cx="{one:.1f}" cy="{two:.1f}" r="4"/>' for one, two in places)
    joined = " ".join(f"{one:.1f},{two:.1f}" for one, two in places)
    return f'<polyline {look} stroke-dasharray="{DASHES[n % len(DASHES)]}" points="{joined}"/>'


def bars(caption: str, told: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Draw a row for each name with its value, whose words stand behind it."""
    most = max((value for _, value, _ in rows), default=0) or 1
    room, left, height = WIDE - 420, 280, 26
    parts = []
    for n, (name, value, words) in enumerate(rows):
        base, wide = n * height + 18, max(1.0, room * value / most)
        parts.append(f'<text x="0" y="{base}">{escape(name)}</text>')
        parts.append(f'<rect class="bar" x="{left}" y="{base - 13}" width="{wide:.1f}" height="16"/>')
        parts.append(f'<text x="{left + wide + 6:.1f}" y="{base}">{escape(words)}</text>')
    return _figure(caption, told, len(rows) * height + 8, "".join(parts))


def _figure(caption: str, told: str, height: float, content: str) -> str:
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<div class="scroll"><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" role="img" '
        f'aria-label="{escape(caption)}: {escape(told)}"><title>{escape(caption)}</title>'
        f"<desc>{escape(told)}</desc>{content}</svg></div>{paragraph(told)}</figure>"
    )


def _axes(x: Axis, y: Axis) -> str:
    bottom, end = TALL - BOTTOM, WIDE - RIGHT
    parts = [f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{end}" y2="{bottom}"/>']
    for value, words in y.ticks:
        at = _up(y, value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{end}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(words)}</text>')
    for value, words in x.ticks:
        at = _across(x, value)
        parts.append(f'<line class="axis" x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(words)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TALL - 6}">across: {escape(x.words)}; up: {escape(y.words)}</text>')
    return "".join(parts)


def _across(axis: Axis, value: float) -> float:
    return LEFT + (WIDE - LEFT - RIGHT) * (value - axis.least) / (axis.most - axis.least)


def _up(axis: Axis, value: float) -> float:
    return TALL - BOTTOM - (TALL - TOP - BOTTOM) * (value - axis.least) / (axis.most - axis.least)
