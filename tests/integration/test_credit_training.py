"""The credit score trained again on the data set: its figures, and the same table to the hundredth of a point."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from schemas.reasons import Reason
from services.cli.learning import reported
from services.profiles import FOLDER, credit_score
from services.risk_training.credit_card import GOLDEN_ROW
from services.risk_training.credit_report import html
from services.risk_training.dataset import Customer, WrongData, load
from services.risk_training.measures import measured
from services.runtime.settings import Settings
from services.scorecard import default_probability, score_of, shown

if TYPE_CHECKING:
    from services.risk_training.credit import Trained

pytestmark = pytest.mark.dataset
SIZES = {"train": 17_941, "valid": 5_956, "test": 6_103}
BAD = {"train": 22.01, "valid": 22.36, "test": 22.20}


@pytest.fixture(scope="module")
def customers() -> list[Customer]:
    return load(Settings().risk_dataset)


@pytest.fixture(scope="module")
def champion(customers: list[Customer]) -> "Trained":
    from services.risk_training.credit import LEAVES, VERSION, fit

    return fit(customers, LEAVES[VERSION])


def part(customers: Sequence[Customer], name: str) -> list[Customer]:
    return [customer for customer in customers if customer.part == name]


def test_rows_defaults_and_the_split_are_those_the_figures_were_measured_on(customers: list[Customer]) -> None:
    assert (len(customers), sum(one.defaulted for one in customers)) == (30_000, 6_636)
    assert {name: len(part(customers, name)) for name in SIZES} == SIZES
    bad = {name: sum(one.defaulted for one in part(customers, name)) / SIZES[name] for name in SIZES}
    assert {name: round(100 * share, 2) for name, share in bad.items()} == pytest.approx(BAD, abs=0.005)


def test_a_cut_copy_of_the_data_is_refused(tmp_path: Path) -> None:
    whole = Settings().risk_dataset
    assert whole is not None
    cut = tmp_path / "cut.csv"
    cut.write_text("".join(whole.read_text().splitlines(keepends=True)[:10_001]))
    with pytest.raises(WrongData, match="sha256"):
        load(cut)


def test_the_champion_keeps_its_figures_on_the_test_part(customers: list[Customer]) -> None:
    test, table = part(customers, "test"), credit_score()
    found = measured([default_probability(table.score(one.known)) for one in test], [one.defaulted for one in test])
    assert found.auc >= 0.780
    assert found.ks >= 0.42
    assert found.brier <= 0.137
    assert found.ece <= 0.025


def test_the_table_is_the_trained_model(customers: list[Customer], champion: "Trained") -> None:
    """Before rounding to hundredths of a point equal to the booster; after it, the committed table."""
    from services.risk_training.credit import bins, compiled, predicted

    test = part(customers, "test")[:500]
    tables = {name: bins(stumps) for name, stumps in champion.exact.items()}
    for customer, told in zip(test, predicted(champion, test), strict=True):
        asked = [(values, bisect_left(edges, customer.known[name] or 0)) for name, (edges, values) in tables.items()]
        log_odds = sum(values[place] for values, place in asked)
        assert score_of(float(told)) == pytest.approx(score_of(0.5) - log_odds * 40 / 0.6931471805599453, abs=1e-9)
    assert compiled(champion, customers) == credit_score()


def test_the_model_card_tells_the_figures_of_this_table(customers: list[Customer]) -> None:
    test, table = part(customers, "test"), credit_score()
    found = measured([default_probability(table.score(one.known)) for one in test], [one.defaulted for one in test])
    card = (FOLDER / "models" / f"{table.version}.md").read_text()
    assert f"| champion | {found.auc:.4f} | {found.ks:.3f} | {found.brier:.4f} | {found.ece:.4f} |" in card


def test_the_challenger_ranks_as_the_champion_or_better(customers: list[Customer]) -> None:
    import lightgbm

    from services.risk_training.credit import CHALLENGER, matrix

    test, table = part(customers, "test"), credit_score()
    booster = lightgbm.Booster(model_file=str(FOLDER / "models" / f"{CHALLENGER}.txt"))
    outcomes = [one.defaulted for one in test]
    shadow = measured([float(p) for p in booster.predict(matrix(test))], outcomes)
    champion = measured([default_probability(table.score(one.known)) for one in test], outcomes)
    assert shadow.auc > champion.auc - 0.005


def test_r25_row_925_is_the_golden_case_of_this_table(customers: list[Customer]) -> None:
    """Six of six on time and below 640: two reasons, in order; the other factors are none (risk 7)."""
    golden, table = next(one for one in customers if one.row == GOLDEN_ROW), credit_score()
    score, factors = table.score(golden.known), table.factors(golden.known)
    shortfall = {factor: points - table.near_pass[factor] for factor, points in factors.items()}
    assert golden.part == "test"
    assert [month.late for month in golden.months] == [0] * 7
    assert (score, shown(score)) == (61_004, 610)
    assert table.base + sum(factors.values()) == score
    assert {factor: points for factor, points in shortfall.items() if points < 0} == {
        Reason.SMALL_PAYMENTS: -2_728,
        Reason.HIGH_UTILISATION: -1_212,
    }
    assert sum(shortfall.values()) == score - (table.base + sum(table.near_pass.values())) == -3_866
    assert Reason.LATE_PAYMENTS in table.at_best(golden.known)


def test_the_model_card_tells_the_golden_case(customers: list[Customer]) -> None:
    table = credit_score()
    card = (FOLDER / "models" / f"{table.version}.md").read_text()
    assert "Score 610.04, told as 610." in card
    assert "| SMALL_PAYMENTS | -80.47 | -53.19 | -27.28 |\n| HIGH_UTILISATION | -52.12 | -40.00 | -12.12 |" in card
    assert "611.59" in card


def test_the_report_tells_the_figures_of_the_card(customers: list[Customer]) -> None:
    """Two ways to the same figures: the card's own, and the page's."""
    table = credit_score()
    found = reported(table, customers, seed=1, repayments=0)
    card, page = (FOLDER / "models" / f"{table.version}.md").read_text(), html(found)
    auc = f"{found.evaluation.measures['test'].auc:.4f}"
    ratios = {group.name: group.against for group in found.groups if group.against is not None}
    assert f"| champion | {auc} |" in card
    assert f"<td>{auc}</td>" in page
    for name in ("under 25", "40 to 61"):
        assert f"{ratios[name].value:.3f} | {'below' if name == 'under 25' else 'kept'} |" in card
    assert [group.name for group in found.groups if group.verdict == "below"] == ["under 25", "high school"]
    assert found.evaluation.shifts["test"] < 0.1


def test_training_stops_by_the_validation_part_alone(champion: "Trained") -> None:
    growth = champion.growth
    assert growth.trees == 1 + growth.valid.index(min(growth.valid))
    assert growth.train[-1] < growth.train[growth.trees - 1]
