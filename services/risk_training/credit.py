"""Trains the credit score: ``python -m services.risk_training.credit`` writes the table, its challenger and their card.

LightGBM grows stumps, one feature each and monotone; the trees of a feature add up to its column of points.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from schemas.reasons import Reason
from services.profiles import FOLDER
from services.risk_training.credit_card import card
from services.risk_training.dataset import SHA256, Customer, Part, WrongData, load
from services.runtime.settings import Settings
from services.scorecard import (
    BETTER_WHEN_MORE,
    FACTOR_OF,
    FEATURES,
    POINTS_TO_DOUBLE,
    Feature,
    Points,
    Scorecard,
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


def matrix(customers: Sequence[Customer]) -> Any:
    """Return a row of features a customer, in the order of FEATURES."""
    return np.array([[customer.known[name] for name in FEATURES] for customer in customers], dtype=float)


def of_part(customers: Sequence[Customer], part: Part) -> list[Customer]:
    """Return the customers of one part of the split."""
    return [customer for customer in customers if customer.part == part]


def fit(customers: Sequence[Customer], leaves: int) -> Trained:
    """Grow trees on the training part until the validation part has not gained for ``PATIENCE`` of them."""
    parameters = {**PARAMETERS, "num_leaves": leaves}
    train, valid = of_part(customers, "train"), of_part(customers, "valid")
    grown = lightgbm.Dataset(matrix(train), [one.defaulted for one in train], params=parameters)
    checked = lightgbm.Dataset(matrix(valid), [one.defaulted for one in valid], params=parameters, reference=grown)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    booster = lightgbm.train(parameters, grown, TREES_MAX, valid_sets=[checked], callbacks=[stop])
    return Trained(booster, steps(booster) if leaves == LEAVES[VERSION] else {})


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compile, measure, and write what a deployment carries."""
    parser = argparse.ArgumentParser(prog="credit", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER / "models")
    asked = parser.parse_args(arguments)
    try:
        customers = load(Settings().risk_dataset)
    except WrongData as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(customers)} customers; growing the champion's stumps\n")
    champion = fit(customers, LEAVES[VERSION])
    table = compiled(champion, customers)
    sys.stdout.write("growing the challenger's trees\n")
    challenger = fit(customers, LEAVES[CHALLENGER])
    write(asked.out, table, champion, challenger, customers)
    return 0


def write(
    folder: Path, table: Scorecard, champion: Trained, challenger: Trained, customers: Sequence[Customer]
) -> None:
    """Write the table, the challenger's trees and the model card."""
    (folder / f"{VERSION}.json").write_text(table.model_dump_json(indent=1) + "\n")
    (folder / f"{CHALLENGER}.txt").write_text(challenger.booster.model_to_string(challenger.booster.best_iteration))
    test = of_part(customers, "test")
    scores = {
        "champion": [table.score(customer.known) for customer in test],
        "challenger": [round(100 * score_of(float(p))) for p in predicted(challenger, test)],
    }
    told = card(table, scores, test, trees=(champion.booster.best_iteration, challenger.booster.best_iteration))
    (folder / f"{VERSION}.md").write_text(told)
    sys.stdout.write(told)


def predicted(trained: Trained, customers: Sequence[Customer]) -> Any:
    """Return the booster's own probabilities of default."""
    return trained.booster.predict(matrix(customers), num_iteration=trained.booster.best_iteration)


if __name__ == "__main__":
    sys.exit(main())
