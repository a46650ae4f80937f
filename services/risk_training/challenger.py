"""The credit score's challenger, asked beside the score in force: trees of seven leaves, no table (needs LightGBM)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from services.profiles import FOLDER
from services.scorecard import FEATURES, score_of
from services.statements import Month, features

NAME: Final = "credit-challenger-1"
FILE: Final = FOLDER / "models" / f"{NAME}.txt"


def booster(path: Path = FILE) -> Any:
    """Return the trees."""
    return lightgbm.Booster(model_file=str(path))


def scores(model: Any, asked: Sequence[tuple[Sequence[Month], int]]) -> list[int]:
    """Return what the challenger scores each account, in hundredths of a point, of its months and its money's unit.

    Only whole histories are asked: what is missing was never learnt.
    """
    if not asked:
        return []
    known = [features(months, unit_minor) for months, unit_minor in asked]
    rows = np.array([[found[name] for name in FEATURES] for found in known], dtype=float)
    return [round(100 * score_of(float(probability))) for probability in model.predict(rows)]
