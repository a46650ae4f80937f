"""Training the credit score and telling what a table is worth, each as one HTML file to read offline."""

import platform
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from services.cli.terminal import (
    ENVIRONMENT,
    EPILOG,
    NOT_FOUND,
    OK,
    USAGE,
    Json,
    Problem,
    print_json,
    stdout,
    working,
)
from services.profiles import FOLDER, credit_score
from services.risk_training.credit_report import CreditReport, Market, html
from services.risk_training.dataset import SHA256, Customer, WrongData, load
from services.risk_training.evaluation import evaluated, judged
from services.risk_training.fairness import audited, proxies
from services.risk_training.holding import compared
from services.risk_training.simulator import formula_profile
from services.runtime.settings import load_settings
from services.scorecard import Scorecard

MODELS: Final = FOLDER / "models"
SEED: Final = 1
REPAYMENTS: Final = 10_000
Out = Annotated[Path, typer.Option(help="The file to write.")]
Seed = Annotated[int, typer.Option(help="Seed of the planted market that ways of holding are compared in.")]
Count = Annotated[int, typer.Option("--repayments", min=0, help="Repayments of that market; 0 leaves it out.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("train", epilog=EPILOG)(train)
    app.command("evaluate", epilog=EPILOG)(evaluate)


def train(
    folder: Annotated[Path, typer.Option(help="Where the table, its challenger and their card go.")] = MODELS,
    out: Out = Path("credit.html"),
    seed: Seed = SEED,
    repayments: Count = REPAYMENTS,
    as_json: Json = False,
) -> int:
    """Train the credit score on the data set OTB_RISK_DATASET names; write its table, card and one HTML report."""
    try:
        from services.risk_training import credit
    except ImportError as error:
        raise Problem(f"{error.name} is not installed: `make training` installs what training needs") from error
    if not folder.is_dir():
        raise Problem(f"{folder} is no folder", NOT_FOUND)
    with working("reading the data set"):
        customers = dataset()
    with working("growing the champion's stumps and the challenger's trees"):
        made = credit.made(customers)
        credit.write(folder, made, customers)
    with working("trying alternatives, and what tells groups"):
        report = reported(made.table, customers, seed=seed, repayments=repayments)
        report = replace(report, training=credit.training(made, customers))
    return told(report, out, as_json=as_json)


def evaluate(
    file: Annotated[Path | None, typer.Argument(help="A credit score as JSON; without one, the shipped.")] = None,
    out: Out = Path("credit.html"),
    seed: Seed = SEED,
    repayments: Count = REPAYMENTS,
    as_json: Json = False,
) -> int:
    """Write what a credit score is worth on the data set OTB_RISK_DATASET names, as one HTML file."""
    table = credit_score() if file is None else _read(file)
    with working("scoring the data set"):
        customers = dataset()
        report = reported(table, customers, seed=seed, repayments=repayments)
    return told(report, out, as_json=as_json)


def dataset() -> list[Customer]:
    """Return the data set's customers; raise Problem where it is not."""
    try:
        return load(load_settings().risk_dataset)
    except WrongData as error:
        raise Problem(str(error), ENVIRONMENT) from error


def reported(table: Scorecard, customers: list[Customer], *, seed: int, repayments: int) -> CreditReport:
    """Compute everything the report shows; the same arguments give the same report."""
    test = [one for one in judged(table, customers) if one.customer.part == "test"]
    market = Market(seed, repayments, compared(formula_profile(), seed, repayments)) if repayments else None
    return CreditReport(
        evaluation=evaluated(table, customers),
        groups=audited(test, table.threshold),
        proxies=proxies(test),
        run=made_of(table, {"seed of the planted market": str(seed) if repayments else "left out"}),
        market=market,
    )


def made_of(table: Scorecard, more: dict[str, str]) -> dict[str, str]:
    """Return what a report was made of: the same of these gives the same bytes."""
    return {
        "table": table.version,
        "table, sha256": sha256(table.model_dump_json(indent=1).encode() + b"\n").hexdigest(),
        "data set, sha256": SHA256,
        "trained on, sha256": table.trained_on,
        "split": 'first 8 hex digits of sha256("uci-default:" + row) modulo 100: below 60, below 80, the rest',
        **more,
        "opentobuy": version("opentobuy"),
        "Python": platform.python_version(),
        **{f"source: {name}": words for name, words in table.sources.items()},
    }


def told(report: CreditReport, out: Path, *, as_json: bool) -> int:
    """Write the page and say so, or print the main figures."""
    if as_json:
        print_json(report.described)
        return OK
    out.write_text(html(report))
    found = report.evaluation.areas["test"]
    stdout().print(
        f"wrote {out}: AUC {found.value:.4f} ({found.least:.4f} to {found.most:.4f}) on "
        f"{report.evaluation.counts['test'][0]:,} customers",
        markup=False,
        soft_wrap=True,
    )
    return OK


def _read(file: Path) -> Scorecard:
    try:
        return Scorecard.model_validate_json(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file}: {error}", NOT_FOUND) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Problem(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}", USAGE) from error
