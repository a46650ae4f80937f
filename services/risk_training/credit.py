"""Trains the credit score: `otb risk train` writes the table, its challenger, their card and a report.

LightGBM grows stumps, one feature each and monotone; the trees of a feature add up to its column of points.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from schemas.reasons import Reason
from services.risk_training.credit_card import card
from services.risk_training.dataset import SHA256, Customer, Part, WrongData
from services.risk_training.fairness import GROUPS, PROXIED, Who
from services.risk_training.intervals import Interval, area, ratio
from services.risk_training.learned import Alternative, Growth, Training
from services.risk_training.measures import measured
from services.scorecard import (
    BETTER_WHEN_MORE,
    FACTOR_OF,
    FEATURES,
    POINTS_TO_DOUBLE,
    Feature,
    Points,
    Scorecard,
    default_probability,
    score_of,
)

VERSION: Final = "credit-score-1"
CHALLENGER: Final = "credit-challenger-1"
THRESHOLD: Final = 640
NEAR_PASS: Final = range(64_000, 66_000)
"""Customers just approved, in hundredths of a point: reasons are measured against their mean (risk 8)."""
TREES_MAX: Final = 2_000
PATIENCE: Final = 50
ZERO: Final = 1e-30
"""LightGBM writes the edge at nothing as 1e-35."""
PARAMETERS: Final[Mapping[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.1,
    "min_data_in_leaf": 200,
    "lambda_l2": 1.0,
    "max_bin": 255,
    "monotone_constraints": [-1 if name in BETTER_WHEN_MORE else 1 for name in FEATURES],
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 7,
    "verbose": -1,
}
FAMILIES: Final = ("late", "use", "paid", "payment")
DEFAULTED: Final[Callable[[Customer], bool]] = attrgetter("defaulted")
LEAVES: Final = {VERSION: 2, CHALLENGER: 7}
SOURCES: Final = {
    "data": "I-C. Yeh, Default of Credit Card Clients, UCI Machine Learning Repository, DOI 10.24432/C55S3H, CC BY 4.0",
    "method": "LightGBM 4.6 stumps with monotone constraints, compiled to points; see credit-score-1.md",
    "missing": "the mean points of the training customers: what history does not reach speaks neither for nor against",
}


@dataclass(frozen=True)
class Trained:
    """A booster with the scores it was compiled from, exact before they were rounded to hundredths of a point."""

    booster: Any
    exact: Mapping[Feature, Mapping[float, tuple[float, float]]]
    growth: Growth

    @property
    def trees(self) -> int:
        """Return how many trees were kept."""
        return self.growth.trees


@dataclass(frozen=True)
class Made:
    """What training made: the table, the model it was compiled from, and its challenger."""

    table: Scorecard
    champion: Trained
    challenger: Trained


def matrix(customers: Sequence[Customer], without: Collection[Feature] = ()) -> Any:
    """Return a row of features a customer, in the order of FEATURES; those ``without`` are the same for everybody."""
    rows = [[0.0 if name in without else customer.known[name] for name in FEATURES] for customer in customers]
    return np.array(rows, dtype=float)


def of_part(customers: Sequence[Customer], part: Part) -> list[Customer]:
    """Return the customers of one part of the split."""
    return [customer for customer in customers if customer.part == part]


def fit(
    customers: Sequence[Customer],
    leaves: int,
    *,
    told: Callable[[Customer], bool] = DEFAULTED,
    without: Collection[Feature] = (),
) -> Trained:
    """Grow trees on the training part until the validation part has not gained for ``PATIENCE`` of them.

    ``told`` is what they learn to tell; ``without`` are features they may not ask.
    """
    parameters = {**PARAMETERS, "num_leaves": leaves}
    if told is not DEFAULTED:
        del parameters["monotone_constraints"]
    train, valid = of_part(customers, "train"), of_part(customers, "valid")
    grown = lightgbm.Dataset(matrix(train, without), [told(one) for one in train], params=parameters)
    labels = [told(one) for one in valid]
    checked = lightgbm.Dataset(matrix(valid, without), labels, params=parameters, reference=grown)
    losses: dict[str, dict[str, list[float]]] = {}
    callbacks = [lightgbm.early_stopping(PATIENCE, verbose=False), lightgbm.record_evaluation(losses)]
    names = ["train", "valid"]
    booster = lightgbm.train(
        parameters, grown, TREES_MAX, valid_sets=[grown, checked], valid_names=names, callbacks=callbacks
    )
    train_loss, valid_loss = (losses[name]["binary_logloss"] for name in names)
    growth = Growth(train_loss, valid_loss, booster.best_iteration)
    return Trained(booster, steps(booster) if leaves == LEAVES[VERSION] and not without else {}, growth)


def steps(booster: Any) -> dict[Feature, dict[float, tuple[float, float]]]:
    """Return for each feature and edge the log-odds of default up to and above the edge, summed over its stumps."""
    found: dict[Feature, dict[float, tuple[float, float]]] = {name: {} for name in FEATURES}
    trees = booster.dump_model(num_iteration=booster.best_iteration)["tree_info"]
    for tree in (one["tree_structure"] for one in trees):
        if "split_feature" not in tree:
            raise WrongData("a tree without a split cannot be compiled")
        name = FEATURES[tree["split_feature"]]
        edge = 0.0 if abs(tree["threshold"]) < ZERO else float(tree["threshold"])
        below, above = found[name].get(edge, (0.0, 0.0))
        found[name][edge] = below + tree["left_child"]["leaf_value"], above + tree["right_child"]["leaf_value"]
    return found


def bins(stumps: Mapping[float, tuple[float, float]]) -> tuple[tuple[float, ...], list[float]]:
    """Return rising edges and the log-odds of each bin between them."""
    edges = tuple(sorted(stumps))
    return edges, [
        sum(stumps[edge][0] if n <= place else stumps[edge][1] for place, edge in enumerate(edges))
        for n in range(len(edges) + 1)
    ]


def compiled(trained: Trained, customers: Sequence[Customer]) -> Scorecard:
    """Return the table: the best bin of a feature is worth 0, every other takes points away, to the hundredth."""
    train = of_part(customers, "train")
    base = score_of(0.5)
    features: dict[Feature, Points] = {}
    for name, stumps in trained.exact.items():
        edges, log_odds = bins(stumps)
        exact = [-POINTS_TO_DOUBLE / float(np.log(2)) * one for one in log_odds]
        base += max(exact)
        points = tuple(round(100 * (one - max(exact))) for one in exact)
        told = Points(edges=edges, points=points, missing=0)
        mean = sum(told.of(customer.known[name]) for customer in train) / len(train)
        features[name] = told.model_copy(update={"missing": round(mean)})
    return near_pass(
        Scorecard(
            version=VERSION,
            sources=SOURCES,
            trained_on=SHA256,
            threshold=THRESHOLD,
            base=round(100 * base),
            features=features,
            near_pass=dict.fromkeys(FACTOR_OF.values(), 0),
        ),
        train,
    )


def near_pass(table: Scorecard, train: Sequence[Customer]) -> Scorecard:
    """Return the table with the mean points of each factor of training customers just approved."""
    sums: dict[Reason, int] = defaultdict(int)
    count = 0
    for customer in train:
        if table.score(customer.known) in NEAR_PASS:
            count += 1
            for factor, points in table.factors(customer.known).items():
                sums[factor] += points
    return table.model_copy(update={"near_pass": {factor: round(sums[factor] / count) for factor in sums}})


def made(customers: Sequence[Customer]) -> Made:
    """Train the champion and its challenger."""
    champion = fit(customers, LEAVES[VERSION])
    return Made(compiled(champion, customers), champion, fit(customers, LEAVES[CHALLENGER]))


def write(folder: Path, found: Made, customers: Sequence[Customer]) -> None:
    """Write the table, the challenger's trees and the model card."""
    table, booster = found.table, found.challenger.booster
    (folder / f"{VERSION}.json").write_text(table.model_dump_json(indent=1) + "\n")
    (folder / f"{CHALLENGER}.txt").write_text(booster.model_to_string(booster.best_iteration))
    test = of_part(customers, "test")
    told = card(table, scores(found, test), test, trees=(found.champion.trees, found.challenger.trees))
    (folder / f"{VERSION}.md").write_text(told)


def scores(found: Made, test: Sequence[Customer]) -> dict[str, list[int]]:
    """Return what champion and challenger score, in hundredths of a point."""
    return {
        "champion": [found.table.score(customer.known) for customer in test],
        "challenger": [round(100 * score_of(float(p))) for p in predicted(found.challenger, test)],
    }


def training(found: Made, customers: Sequence[Customer]) -> Training:
    """Return how it went, and what else the same data could have been made into."""
    test = of_part(customers, "test")
    outcomes = [one.defaulted for one in test]
    return Training(
        parameters={
            "LightGBM": lightgbm.__version__,
            "seed": str(PARAMETERS["seed"]),
            **{name: str(value) for name, value in PARAMETERS.items() if name not in ("seed", "monotone_constraints")},
            "monotone": f"{len(BETTER_WHEN_MORE)} of {len(FEATURES)} features rising, the others falling",
            "stops when the validation part has not gained for": f"{PATIENCE} trees",
        },
        growth=found.champion.growth,
        measures={
            name: measured([default_probability(one) for one in each], outcomes)
            for name, each in scores(found, test).items()
        },
        challenger_trees=found.challenger.trees,
        alternatives=[alternative(found, customers, family) for family in ("", *FAMILIES)],
        together={name: _told_together(customers, who) for name, who in PROXIED.items()},
    )


def alternative(found: Made, customers: Sequence[Customer], family: str) -> Alternative:
    """Train without a family of features, and approve as many as the champion does."""
    without = [name for name in FEATURES if family and name.startswith(family)]
    test = of_part(customers, "test")
    trained = fit(customers, LEAVES[VERSION], without=without) if without else found.champion
    risks = [float(p) for p in predicted(trained, test, without)]
    approved = sum(found.table.score(one.known) >= 100 * THRESHOLD for one in test)
    cut_off = sorted(risks)[approved - 1]
    ages = GROUPS["age"]
    young, grown = (
        [risk <= cut_off for one, risk in zip(test, risks, strict=True) if ages[name](one.audit)]
        for name in ("under 25", "25 to 39")
    )
    under = ratio((sum(young), len(young)), (sum(grown), len(grown)))
    name = f"{family}: {len(without)} features" if family else "nothing, the champion"
    return Alternative(name, area(risks, [one.defaulted for one in test]), under)


def _told_together(customers: Sequence[Customer], who: Who) -> Interval:
    trained = fit(customers, LEAVES[CHALLENGER], told=lambda one: who(one.audit))
    test = of_part(customers, "test")
    return area([float(p) for p in predicted(trained, test)], [who(one.audit) for one in test])


def predicted(trained: Trained, customers: Sequence[Customer], without: Collection[Feature] = ()) -> Any:
    """Return the booster's own probabilities of default."""
    return trained.booster.predict(matrix(customers, without), num_iteration=trained.booster.best_iteration)
