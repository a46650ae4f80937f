"""One repayment's journey as a self-contained SVG: light and dark, no script, readable without colour."""

from html import escape
from typing import cast

from schemas.account import Language
from schemas.reasons import Cause, Stage
from services.cli.journey import Stretch, Timeline
from services.wording import cause_label, duration_text, stage_label

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 330, 90, 26, 48
LEAST = 2.0
STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-size:15px;font-weight:600}.s{fill:#59636e}
.external{fill:#9a6700}.system_delay{fill:#0969da}.risk_observation{fill:#8250df}.account_standing{fill:#bc4c00}
line{stroke:#d1d9e0}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}line{stroke:#3d444d}
.external{fill:#d29922}.system_delay{fill:#4493f8}.risk_observation{fill:#ab7df8}.account_standing{fill:#f0883e}}
"""


def journey_svg(line: Timeline, language: Language) -> str:
    """Return a bar a stretch, each as long as its share of the whole lag, with its time beside it."""
    whole = max(1, line.milliseconds)
    height = TOP + ROW * len(line.stretches) + 8
    total = f"repaid to restored: {duration_text(whole, language)}"
    rows, at = [], 0
    for n, stretch in enumerate(line.stretches):
        rows.append(_row(stretch, TOP + n * ROW, at / whole, stretch.milliseconds / whole, language))
        at += stretch.milliseconds
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(total)}"><style>{STYLE}</style>'
        f'<text class="t" x="12" y="26">{escape(total)}</text>{"".join(rows)}</svg>\n'
    )


def _row(stretch: Stretch, y: float, start: float, share: float, language: Language) -> str:
    """Draw one stretch: its words, its bar from ``start`` over ``share`` of the whole, its time."""
    stage = stage_label(cast(Stage, stretch.stage), language, audience="agent")
    cause = cause_label(cast(Cause, stretch.cause), language, audience="agent")
    room = WIDTH - LEFT - RIGHT
    x, width, kind = LEFT + start * room, max(LEAST, share * room), stretch.cause.partition(".")[0]
    return (
        f'<text class="s" x="12" y="{y + 14}">{escape(f"{stage} · {cause}")}</text>'
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="14" rx="2"/>'
        f'<text x="{x + width + 6:.1f}" y="{y + 14}">{escape(duration_text(stretch.milliseconds, language))}</text>'
    )
