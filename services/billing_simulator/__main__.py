"""Play billing from the command line: named scenarios, or a load."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from services.billing_simulator.load import RAILS, Load, load_plan
from services.billing_simulator.plan import Plan, Planned
from services.billing_simulator.scenarios import SCENARIOS, scenario, together
from services.billing_simulator.send import DeliveryError, Sent, play
from services.runtime.clock import utc_now
from services.runtime.errors import ConfigurationError
from services.runtime.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 3 when Kafka is not usable."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    run = asked.run or f"{utc_now():%m%d%H%M%S}"
    try:
        settings = load_settings()
        if asked.command == "scenario":
            sent = asyncio.run(play(settings, _scenarios(asked.names, run), on_sent=_tell))
        else:
            sent = asyncio.run(play(settings, load_plan(_load(parser, asked, run))))
    except (ConfigurationError, DeliveryError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{json.dumps(_counts(sent))}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.billing_simulator", description=__doc__)
    parser.add_argument("--run", help="label in every reference; default: the time of day, so that runs differ")
    commands = parser.add_subparsers(dest="command", required=True)
    listed = "; ".join(f"{name}: {scenario(name).about}" for name in SCENARIOS)
    named = commands.add_parser("scenario", help="play named scenarios side by side", epilog=listed)
    named.add_argument("names", nargs="+", choices=[*SCENARIOS, "all"], metavar="NAME", help=", ".join(SCENARIOS))
    load = commands.add_parser("load", help="send a seeded open loop of repayments")
    load.add_argument("--seed", type=int, default=1)
    load.add_argument("--accounts", type=int, default=200)
    load.add_argument("--rate", type=float, help="repayments a second; default: as fast as Kafka takes them")
    length = load.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float)
    length.add_argument("--count", type=int, help="distinct repayments")
    load.add_argument("--duplicate", type=float, default=0.2, help="share of repayments reported twice")
    load.add_argument("--same-reference", type=float, default=0.15, help="share of those under a new message id")
    load.add_argument("--returns", type=float, default=0.0, help="share of repayments taken back")
    load.add_argument("--swaps", type=float, default=0.2, help="share of messages that change places")
    load.add_argument("--poison", type=float, default=0.0, help="unreadable messages a repayment")
    load.add_argument("--spacing", choices=("even", "poisson"), default="even")
    load.add_argument("--rails", type=_rails, default=RAILS, help="for example wallet=0.6,direct_debit=0.4")
    load.add_argument("--product", default="demo", help="product profile of the accounts")
    return parser


def _rails(text: str) -> tuple[tuple[str, float], ...]:
    pairs = (part.partition("=") for part in text.split(","))
    return tuple((name, float(weight)) for name, _, weight in pairs)


def _load(parser: argparse.ArgumentParser, asked: argparse.Namespace, run: str) -> Load:
    knobs = {name: value for name, value in vars(asked).items() if name not in ("command", "run")}
    try:
        return Load(run=run, **knobs)
    except ValueError as error:
        parser.error(str(error))


def _scenarios(names: Sequence[str], run: str) -> Plan:
    chosen = SCENARIOS if "all" in names else dict.fromkeys(names)
    played = [scenario(name, run) for name in chosen]
    for each in played:
        sys.stdout.write(f"{each.name} ({', '.join(each.accounts)}): {each.about}\n")
    return together(played)


def _tell(planned: Planned) -> None:
    said = type(planned.event).__name__ if planned.event is not None else "(unreadable)"
    sys.stdout.write(f"{planned.at_seconds:5.1f} s  {said:<24} {planned.key.decode()}\n")


def _counts(sent: Sent) -> dict[str, object]:
    counts = asdict(sent)
    counts["acknowledged"], counts["returned"] = len(sent.acknowledged), len(sent.returned)
    return counts


if __name__ == "__main__":
    sys.exit(main())
