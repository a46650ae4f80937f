"""Play billing: a seeded open loop of repayments, reported on time whatever the system does."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from services.billing_simulator.load import Load, load_plan
from services.billing_simulator.send import Sent, play
from services.cli.servers import attached
from services.cli.terminal import EPILOG, USAGE, Json, Problem, print_json, seconds_since, stdout, working
from services.runtime.clock import monotonic, utc_now


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("load", epilog=EPILOG)(load)


def load(
    rate: Annotated[float | None, typer.Option(help="Repayments a second; without: as fast as Kafka takes them.")] = 20,
    seconds: Annotated[float | None, typer.Option(help="How long.")] = None,
    count: Annotated[int | None, typer.Option(help="How many distinct repayments, instead of how long.")] = None,
    accounts: Annotated[int, typer.Option(min=1, help="Accounts to spread them over.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed and label make the same messages.")] = 1,
    label: Annotated[str | None, typer.Option(help="In every reference; default: the time of day.")] = None,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share reported twice.")] = 0.2,
    same_reference: Annotated[float, typer.Option(min=0, max=1, help="Share of those under a new message id.")] = 0.15,
    returns: Annotated[float, typer.Option(min=0, max=1, help="Share taken back by the bank.")] = 0.0,
    swaps: Annotated[float, typer.Option(min=0, max=1, help="Share that changes places with a neighbour.")] = 0.2,
    poison: Annotated[float, typer.Option(min=0, max=1, help="Unreadable messages, a repayment.")] = 0.0,
    product: Annotated[str, typer.Option(help="Product profile of the accounts.")] = "demo",
    as_json: Json = False,
) -> None:
    """Send repayments as billing would; it opens its own accounts first."""
    if seconds is None and count is None:
        seconds = 30.0
    run = label or run_label()
    try:
        wanted = Load(
            seed=seed, run=run, accounts=accounts, rate=rate, seconds=seconds, count=count, duplicate=duplicates,
            same_reference=same_reference, returns=returns, swaps=swaps, poison=poison, product=product,
        )  # fmt: skip
    except ValueError as error:
        raise Problem(str(error), USAGE) from error
    begun = monotonic()
    with working(f"sending {wanted.repayments} repayments"):
        sent = asyncio.run(play(attached(), load_plan(wanted)))
    if as_json:
        print_json(counts(sent))
        return
    stdout().print(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts(sent).items()))
    stdout().print(f"sent in {seconds_since(begun)} with label {wanted.label}; `otb lag` shows what became of them")


def run_label() -> str:
    """Return a label that keeps runs in one stack apart."""
    return f"{utc_now():%m%d%H%M%S}"


def counts(sent: Sent) -> dict[str, float]:
    """Return what was sent as figures."""
    return {name: value for name, value in asdict(sent).items() if isinstance(value, int | float)}
