"""The account of limit-release: what was paid of charges taken off, and until when others are overpaid (E7, R24)."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.limit_release.model import Account, Repayment
from tests import builders
from tests.unit.given import FRIDAY

HOUR = timedelta(hours=1)
NOW, LATER = FRIDAY + timedelta(seconds=5), FRIDAY + timedelta(days=4)
OWES = Account(builders.ACCOUNT, credit_limit_minor=1_000, available_minor=900, used_debt_minor=100, charges_minor=50)


def test_e07_billing_that_says_nothing_new_of_charges_took_none_off() -> None:
    assert OWES.accrued(0, NOW) == OWES


@pytest.mark.parametrize(
    ("paid", "at", "owed", "corrected", "overpaid"),
    [(60, FRIDAY, 0, 30, 0), (60, LATER, 0, 20, 10), (20, FRIDAY, 30, 20, 0)],
)
def test_e07_a_repayment_no_later_than_charges_were_taken_off_overpays_them_for_good(
    paid: int, at: datetime, owed: int, corrected: int, overpaid: int
) -> None:
    """50 are owed of charges after billing took some off on Friday, 20 of which were paid."""
    after = replace(OWES, charges_minor=50, corrected_at=FRIDAY, corrected_minor=20).settled(paid, at)
    assert (after.charges_minor, after.corrected_minor, after.overpaid_minor) == (owed, corrected, overpaid)


@pytest.mark.parametrize(
    ("known", "at", "until"),
    [
        ({}, NOW, NOW),
        ({"corrected_at": LATER}, NOW, LATER),
        ({"corrected_at": FRIDAY, "overpaid_minor": 4, "overpaid_until": FRIDAY + HOUR}, LATER, LATER),
        ({"corrected_at": FRIDAY, "overpaid_minor": 4, "overpaid_until": LATER}, NOW, LATER),
    ],
)
def test_e07_what_is_overpaid_is_so_until_the_latest_instant_known(
    known: dict[str, Any], at: datetime, until: datetime
) -> None:
    assert replace(OWES, charges_minor=5, **known).charged(-15, at).overpaid_until == until


def test_of_an_account_and_a_repayment_of_which_nothing_was_read_nothing_is_known() -> None:
    assert (Account(builders.ACCOUNT).version, Repayment("r1").amount_minor) == (0, 0)
