"""What training tells beside its table: how it went, its challenger, and what else the data could have made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.risk_training.intervals import Interval
from services.risk_training.measures import Measures
from services.risk_training.pages import Axis, Line, lines, paragraph, table

TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Growth:
    """A model tree by tree: its loss on the training part and on the validation part, and how many trees were kept."""

    train: Sequence[float]
    valid: Sequence[float]
    trees: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same training without some features: how it ranks, and how often a group is approved beside the others.

    As many customers are approved as by the champion, so that only who they are differs.
    """

    without: str
    auc: Interval
    under_25: Interval


@dataclass(frozen=True, slots=True)
class Training:
    """How a table was trained; ``together`` is how well all features tell a group, as an area under the curve."""

    parameters: Mapping[str, str]
    growth: Growth
    measures: Mapping[str, Measures]
    challenger_trees: int
    alternatives: Sequence[Alternative]
    together: Mapping[str, Interval]


def training(found: Training) -> str:
    """Return the section."""
    head = ("model", "AUC", "KS", "Brier", "ECE, 10 bins")
    rows = [
        (name, f"{m.auc:.4f}", f"{m.ks:.3f}", f"{m.brier:.4f}", f"{m.ece:.4f}") for name, m in found.measures.items()
    ]
    challenger = (
        f"The challenger is {found.challenger_trees} trees of seven leaves on the same features; it decides nothing. "
        "Differences of the area below .005 are ties."
    )
    return (
        table("Parameters", ("of what", "which"), list(found.parameters.items()), words=True)
        + _growth(found.growth)
        + paragraph(challenger)
        + table("Champion and challenger on the test part", head, rows)
        + _alternatives(found.alternatives)
        + _together(found.together)
    )


def _growth(growth: Growth) -> str:
    drawn = [Line("validation", _points(growth.valid)), Line("training", _points(growth.train))]
    least, most = min(*growth.train, *growth.valid), max(*growth.train, *growth.valid)
    count = len(growth.valid)
    told = (
        f"{growth.trees} stumps were kept: there the loss on the validation part is least, {min(growth.valid):.4f}; "
        f"the {count - growth.trees} grown after them were thrown away."
    )
    x = Axis("stumps", 0, count, [(n, str(n)) for n in range(0, count + 1, max(1, count // TICKS))])
    heights = [least + (most - least) * n / TICKS for n in range(TICKS + 1)]
    return lines(
        "Loss as stumps are added", told, drawn, x, Axis("log loss", least, most, [(h, f"{h:.3f}") for h in heights])
    )


def _points(losses: Sequence[float]) -> list[tuple[float, float]]:
    step = max(1, len(losses) // 120)
    return [(n + 1.0, losses[n]) for n in range(0, len(losses), step)]


def _alternatives(found: Sequence[Alternative]) -> str:
    rows = [
        (
            one.without,
            f"{one.auc.value:.4f}",
            _between(one.auc, 4),
            f"{one.under_25.value:.3f}",
            _between(one.under_25, 3),
        )
        for one in found
    ]
    note = (
        "Whether less unequal approvals are to be had, and at which price: the same training without a family of "
        "features, with as many customers approved. The ratio is that of customers under 25 to those of 25 to 39 years."
    )
    head = ("without", "AUC", "95 %", "ratio under 25", "95 %")
    return paragraph(note) + table("Alternatives, on the test part", head, rows)


def _together(found: Mapping[str, Interval]) -> str:
    note = (
        "How well all features together tell a group that no feature names, by trees of seven leaves trained to do so: "
        "0.5 is not at all, 1 always. Far from 0.5, leaving an attribute out does not make a score blind to it."
    )
    rows = [(name, f"{one.value:.3f}", _between(one, 3)) for name, one in found.items()]
    return paragraph(note) + table("Proxies: all features together, on the test part", ("group", "area", "95 %"), rows)


def _between(one: Interval, digits: int) -> str:
    return f"{one.least:.{digits}f} to {one.most:.{digits}f}"
