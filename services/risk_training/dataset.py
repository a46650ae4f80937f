"""The public data set a credit score is trained on: read, checked, split, and nothing of who the customers are."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from services.scorecard import Feature
from services.statements import SCORED_MONTHS, Month, features

SHA256: Final = "f6c131c25f5ea6716c1439d986550832a5ba1ed218fbbfc3013bb92bb78dcee2"
ROWS: Final = 30_000
DEFAULTS: Final = 6_636
LATE: Final = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
NEVER_USED: Final = frozenset(("SEX", "EDUCATION", "MARRIAGE", "AGE"))
"""Read for the audit alone: no feature is made of them (risk 2)."""
UNIT_MINOR: Final = 1
"""The file's amounts are whole New Taiwan dollars."""
Part = Literal["train", "valid", "test"]
WHERE: Final = (
    "OTB_RISK_DATASET names no readable file. It is the UCI data set 'Default of Credit Card Clients' "
    "(DOI 10.24432/C55S3H) as described in deploy/policy/models/DATA.md"
)


class WrongData(Exception):
    """The data set is missing, or is not the one the figures were measured on."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One row: six months of statements, their features by the code that scores accounts, and what came of it.

    ``audit`` is for fairness alone.
    """

    row: int
    part: Part
    months: tuple[Month, ...]
    known: Mapping[Feature, float | None]
    defaulted: bool
    audit: Mapping[str, int]


def load(path: Path | None) -> list[Customer]:
    """Return every customer; raise WrongData unless the file is the very one, byte for byte."""
    if path is None or not path.is_file():
        raise WrongData(WHERE)
    content = path.read_bytes()
    if (found := sha256(content).hexdigest()) != SHA256:
        raise WrongData(f"{path}: sha256 is {found}, not {SHA256}: cut and changed copies exist")
    customers = [_customer(row) for row in csv.DictReader(content.decode().splitlines())]
    defaults = sum(customer.defaulted for customer in customers)
    if (len(customers), defaults) != (ROWS, DEFAULTS):
        raise WrongData(f"{len(customers)} rows with {defaults} defaults, not {ROWS} with {DEFAULTS}")
    return customers


def part_of(row: int) -> Part:
    """Return which part a row is in: the same on every machine, whatever the order of the file."""
    place = int(sha256(f"uci-default:{row}".encode()).hexdigest()[:8], 16) % 100
    return "train" if place < 60 else "valid" if place < 80 else "test"


def _customer(row: Mapping[str, str]) -> Customer:
    number = int(row["ID"])
    audit = {name: int(row[name]) for name in sorted(NEVER_USED)}
    months = _months(row)
    return Customer(number, part_of(number), months, features(months, UNIT_MINOR), row["default"] == "1", audit)


def _months(row: Mapping[str, str]) -> tuple[Month, ...]:
    """Return six statements, newest first, and the month before them, in which the oldest payment was made.

    Codes -2 (no use), -1 (repaid in full) and 0 (the minimum repaid) are all on time.
    """
    limit = int(row["LIMIT_BAL"])
    paid = [0, *(int(row[f"PAY_AMT{n}"]) for n in range(1, SCORED_MONTHS + 1))]
    issued = [
        Month(
            at_ms=SCORED_MONTHS - n,
            bill_minor=int(row[f"BILL_AMT{n + 1}"]),
            limit_minor=limit,
            due_day=1,
            paid_minor=paid[n],
            late=max(0, int(row[LATE[n]])),
        )
        for n in range(SCORED_MONTHS)
    ]
    return (*issued, Month(at_ms=0, bill_minor=0, limit_minor=limit, paid_minor=paid[SCORED_MONTHS]))
