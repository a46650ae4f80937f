"""deploy/prometheus/objectives.toml as values: what is promised, how fast a budget may burn, whom an alert wakes."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.metrics.labels import SLOS

PATH: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "objectives.toml"

Severity = Literal["page", "ticket"]
Duration = Annotated[str, Field(pattern=r"^\d+[smhd]$")]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Objective(_Read):
    """A promise and the share of those it is given to that must see it kept."""

    slo: Literal["decided_60s", "low_risk_5s", "low_risk_60s", "hold_promise", "notify_60s"]
    percent: Annotated[float, Field(gt=0, lt=100)]
    eligible: str
    good: str

    @property
    def budget(self) -> float:
        """Return the share that may break: 0.001 for 99.9 percent."""
        return round(1 - self.percent / 100, 9)


class Burn(_Read):
    """A speed at which a budget may not be spent, seen in a short and a long window at once."""

    short: Duration
    long: Duration
    factor: Annotated[float, Field(gt=0)]
    breaches: Annotated[int, Field(ge=1)]
    hold: Annotated[Duration, Field(alias="for")]
    severity: Severity


class Limit(_Read):
    """What an alert allows, for how long it may be exceeded, and whom it wakes then."""

    limit: Annotated[float, Field(ge=0)]
    hold: Annotated[Duration, Field(alias="for")]
    severity: Severity


class Objectives(_Read):
    """Everything the rules are made of."""

    runbook: str
    evaluated_every: Duration
    months_evaluated_every: Duration
    windows: tuple[Duration, ...]
    group_min: Annotated[int, Field(ge=1)]
    objective: tuple[Objective, ...]
    burn: tuple[Burn, ...]
    alert: Mapping[str, Limit]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse an objective that is missing and a window that is not recorded."""
        if tuple(each.slo for each in self.objective) != SLOS:
            raise ValueError(f"the objectives are {', '.join(SLOS)}, in this order")
        unknown = {window for burn in self.burn for window in (burn.short, burn.long)} - set(self.windows)
        if unknown:
            raise ValueError(f"windows are not recorded: {', '.join(sorted(unknown))}")
        return self


def load_objectives(path: Path = PATH) -> Objectives:
    """Read the objectives; raise ValueError naming what is wrong."""
    return Objectives.model_validate(tomllib.loads(path.read_text()))
