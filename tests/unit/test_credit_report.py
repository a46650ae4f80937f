"""The report on a credit score: right on people we made up, the same bytes again, readable offline."""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from services import risk_training
from services.cli.commands import answer
from services.cli.learning import made_of, reported
from services.profiles import credit_score
from services.risk_training.credit_report import CreditReport, html
from services.risk_training.dataset import NEVER_USED, Customer, part_of
from services.risk_training.evaluation import Judged, calibration, cheapest, confusion, evaluated, judged
from services.risk_training.fairness import GROUPS, audited, proxies
from services.risk_training.intervals import area, ratio, share
from services.risk_training.learned import Alternative, Growth, Training
from services.risk_training.measures import Measures, auc
from services.scorecard import FACTOR_OF, FEATURES, default_probability
from services.statements import Month, features
from tests.unit.reading import Read

TABLE = credit_score()
WHO = {"SEX": 2, "AGE": 30, "EDUCATION": 1, "MARRIAGE": 1}


def customer(row: int, chance: Random, **who: int) -> Customer:
    """Make somebody up who repays worse the higher ``chance`` draws, and defaults more often then."""
    strain = chance.random()
    bill = int(90_000 * strain)
    month = Month(0, bill, 100_000, due_day=1, paid_minor=int(bill * (1 - strain)), late=int(strain > 0.9))
    known = features([month] * 7, 1)
    drawn = {"SEX": chance.choice((1, 2)), "AGE": chance.randint(21, 60), "EDUCATION": 2, "MARRIAGE": 1}
    return Customer(row, part_of(row), (month,) * 7, known, chance.random() < strain / 2, {**drawn, **who})


def drawing(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - people made up, no secret


def people(count: int = 900, seed: int = 5) -> list[Customer]:
    chance = drawing(seed)
    return [customer(row, chance) for row in range(1, count + 1)]


def one(score: int, *, defaulted: bool, use: float = 0.0, **who: int) -> Judged:
    known = {name: use if name == "use_now" else 0.0 for name in FEATURES}
    return Judged(Customer(score, "test", (), known, defaulted, {**WHO, **who}), 100 * score)


def report(seed: int = 1, repayments: int = 200) -> CreditReport:
    return reported(TABLE, people(), seed=seed, repayments=repayments)


def test_the_same_input_is_the_same_bytes_and_another_seed_is_not() -> None:
    assert html(report()) == html(report())
    assert html(report()) != html(report(seed=2))


def test_the_page_is_readable_by_everybody_and_needs_no_network() -> None:
    page = Read(html(report()))
    page.check()
    assert page.count("table") > 8
    assert page.count("svg") >= 4


def test_it_says_what_it_was_made_of() -> None:
    said = " ".join(Read(html(report(seed=41))).words)
    for word in made_of(TABLE, {"seed": "41"}).values():
        assert word in said


def test_figures_are_those_of_the_run() -> None:
    every = people()
    found = evaluated(TABLE, every)
    test = [each for each in every if each.part == "test"]
    assert found.counts["test"] == (len(test), sum(each.defaulted for each in test))
    assert sum(count for count, _ in found.counts.values()) == len(every)
    chances = [default_probability(TABLE.score(each.known)) for each in test]
    assert found.measures["test"].auc == auc(chances, [each.defaulted for each in test])
    assert found.areas["test"].value == pytest.approx(found.measures["test"].auc)
    assert found.areas["test"].least < found.areas["test"].value < found.areas["test"].most
    assert sum(each.people for each in found.bins) == sum(each.people for each in found.tiers.values()) == len(test)
    refused = sum(TABLE.score(each.known) < 100 * TABLE.threshold for each in test)
    assert sum(found.reasons.values()) + found.without_reason == refused
    assert set(found.reasons) <= set(FACTOR_OF.values())
    assert {each.people for each in (*found.confusions, *found.grid)} == {len(test)}
    assert found.curve[0] == (0, 0)
    assert found.curve[-1] == (1, 1)


def test_a_cut_off_counts_who_is_approved_from_it_on() -> None:
    them = [one(639, defaulted=True), one(640, defaulted=False), one(641, defaulted=True), one(600, defaulted=False)]
    assert confusion(them, 640)[1:] == (1, 1, 1, 1)
    assert confusion(them, 640).cost(8) == 1_000 * (8 + 1) / 4
    grid = [confusion(them, cut_off) for cut_off in (500, 640, 700)]
    assert [cheapest(grid, dearness).cut_off for dearness in (0, 100)] == [500, 700]


def test_bins_are_of_as_many_customers_each_with_the_riskiest_last() -> None:
    found = calibration([one(500 + n, defaulted=n < 10) for n in range(100)])
    assert [each.people for each in found] == [10] * 10
    assert [each.seen.value for each in found] == [0.0] * 9 + [1.0]
    assert [each.predicted for each in found] == sorted(each.predicted for each in found)


def test_intervals_are_those_of_the_books() -> None:
    """Wilson for 8 of 10; Katz for 15 of 30 against 20 of 30; DeLong of a perfect ranking is sure of itself."""
    assert share(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert share(0, 0) == (0, 0, 1)
    assert ratio((15, 30), (20, 30)) == pytest.approx((0.75, 0.4839, 1.1625), abs=1e-4)
    assert ratio((0, 30), (20, 30)).least == 0
    assert area([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == (1, 1, 1)
    wide = area([0.1, 0.4, 0.35, 0.8, 0.6, 0.3], [False, False, True, True, False, True])
    assert wide.value == pytest.approx(auc([0.1, 0.4, 0.35, 0.8, 0.6, 0.3], [False, False, True, True, False, True]))
    assert wide.least < wide.value < wide.most
    with pytest.raises(ValueError, match="two customers"):
        area([0.5, 0.6], [True, False])


def test_protected_attributes_are_no_features_and_change_no_score() -> None:
    """Other answers to who somebody is leave every score as it was; no feature's name is one of theirs."""
    assert {attribute.lower() for attribute in NEVER_USED} == set(GROUPS)
    names = {word for feature in FEATURES for word in feature.split("_")}
    assert not names & {"sex", "age", "education", "marriage", "gender", "married"}
    young = [customer(row, drawing(row), AGE=22, SEX=1, MARRIAGE=2) for row in range(1, 60)]
    old = [customer(row, drawing(row), AGE=60, SEX=2, MARRIAGE=1) for row in range(1, 60)]
    assert [each.score for each in judged(TABLE, young)] == [each.score for each in judged(TABLE, old)]


def test_a_group_is_compared_with_the_one_that_is_approved_most_often() -> None:
    women = [one(700 if n < 40 else 500, defaulted=n % 9 == 0, SEX=2) for n in range(100)]
    men = [one(700 if n < 80 else 500, defaulted=n % 9 == 0, SEX=1) for n in range(100)]
    found: dict[Any, Any] = {(each.attribute, each.name): each for each in audited([*women, *men], 640)}
    assert found["sex", "men"].verdict == "reference"
    assert found["sex", "women"].against.value == pytest.approx(0.5)
    assert found["sex", "women"].verdict == "below"
    assert found["sex", "women"].approved.value == pytest.approx(0.4)
    assert found["sex", "women"].count == 100
    assert found["age", "25 to 39"].verdict == "reference"
    repaid = [each for each in women if not each.customer.defaulted]
    refused = sum(each.score < 64_000 for each in repaid)
    assert found["sex", "women"].refused_good.value == pytest.approx(refused / len(repaid))


def test_what_chance_may_explain_is_not_called_below() -> None:
    women = [one(700 if n < 21 else 500, defaulted=False, SEX=2) for n in range(60)]
    men = [one(700 if n < 28 else 500, defaulted=False, SEX=1) for n in range(60)]
    few = [one(500, defaulted=False, SEX=2, AGE=70)]
    found = {(each.attribute, each.name): each.verdict for each in audited([*women, *men, *few], 640)}
    assert found["sex", "women"] == "unclear"
    assert found["age", "62 and over"] == "too few"


def test_a_feature_that_gives_a_group_away_is_named() -> None:
    ages = [22 if n % 2 else 30 for n in range(40)]
    told = [one(600 + n, defaulted=False, use=float(age), AGE=age) for n, age in enumerate(ages)]
    found = {each.group: each for each in proxies(told)}
    assert (found["under 25"].feature, found["under 25"].area) == ("use_now", 1.0)


def test_a_group_of_less_than_two_percent_is_no_reference() -> None:
    many = [one(700 if n < 40 else 500, defaulted=False, EDUCATION=1) for n in range(100)]
    few = [one(700, defaulted=False, EDUCATION=4)]
    found = {each.name: each.verdict for each in audited([*many, *few], 640) if each.attribute == "education"}
    assert found == {"graduate school": "reference", "other or not said": "too few"}


def test_how_it_was_trained_is_told_where_it_was_trained() -> None:
    found = Training(
        parameters={"seed": "7"},
        growth=Growth([0.5, 0.45, 0.44], [0.52, 0.4412, 0.46], 2),
        measures={"champion": Measures(0.75, 0.4, 0.13, 0.01)},
        challenger_trees=56,
        alternatives=[Alternative("late: 9 features", share(70, 100), ratio((20, 100), (40, 100)))],
        together={"women": share(60, 100)},
    )
    said = " ".join(Read(html(replace(report(), training=found))).words)
    assert "2 stumps were kept: there the loss on the validation part is least, 0.4412; the 1 grown after" in said
    assert "late: 9 features 0.7000" in said
    assert "0.500 0.316 to 0.792" in said
    assert "How was it trained?" not in html(report())


def test_training_without_its_libraries_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delattr(risk_training, "credit", raising=False)
    monkeypatch.delitem(sys.modules, "services.risk_training.credit", raising=False)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert answer(["risk", "train", "--folder", str(tmp_path)]) == 3
    assert "lightgbm is not installed: `make training`" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "code"), [(None, 4), ("{}", 2)])
def test_a_table_that_is_none_is_refused(text: str | None, code: int, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    if text is not None:
        path.write_text(text)
    assert answer(["risk", "evaluate", str(path)]) == code


def test_without_the_data_set_it_says_where_it_is_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OTB_RISK_DATASET", raising=False)
    assert answer(["risk", "evaluate"]) == 3
    assert "OTB_RISK_DATASET" in capsys.readouterr().err
