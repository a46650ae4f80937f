"""The otb command: wiring only. Errors are one line, exit codes are in the help."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Final

import aiokafka.errors
import asyncpg
import typer
from typer.exceptions import TyperException

from deploy.embedded import StackError
from services.billing_simulator.send import DeliveryError
from services.cli import checks, demo, dlq, lag, load, look, stack_commands
from services.cli.terminal import ENVIRONMENT, EPILOG, Problem
from services.runtime.errors import ConfigurationError

ABOUT: Final = "Gives credit back after a repayment, and shows every second between repaid and restored."

app = typer.Typer(
    name="otb",
    help=ABOUT,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for module in (demo, stack_commands, load, look, lag, checks):
    module.register(app)
app.add_typer(stack_commands.stack, name="stack")
app.add_typer(dlq.app, name="dlq")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    terminated = _listen()
    try:
        sys.exit(_answer(arguments))
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _answer(arguments: Sequence[str] | None) -> int:
    """Return the exit code, saying in one line what went wrong."""
    command = typer.main.get_command(app)
    try:
        result = command.main(
            args=None if arguments is None else list(arguments), prog_name="otb", standalone_mode=False
        )
    except TyperException as error:
        _tell(f"{error.format_message()} Try `otb --help`." if error.format_message() else "")
        return error.exit_code
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Problem as problem:
        _tell(str(problem))
        return problem.code
    except (StackError, ConfigurationError, DeliveryError) as error:
        _tell(str(error))
        return ENVIRONMENT
    except Exception as error:
        _tell(_unexpected(error))
        raise SystemExit(ENVIRONMENT) from error
    return result if isinstance(result, int) else 0


def _unexpected(error: Exception) -> str:
    """Return one line for what a server, or our own mistake, made of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return f"the database has no tables of ours ({text}): run `otb migrate`"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return f"PostgreSQL refused us: {text}"
        case aiokafka.errors.KafkaError():
            return f"Kafka does not answer as it should: {text}"
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncio.TimeoutError() | OSError():
            return f"a server does not answer as it should: {text}"
        case _:
            return f"unexpected {type(error).__name__}: {text}"


def _tell(message: str) -> None:
    if message:
        sys.stderr.write(f"otb: {message}\n")


def _listen() -> list[int]:
    """Make SIGTERM and SIGHUP interrupt as Ctrl-C does; return where the signal is noted."""
    noted: list[int] = []

    def interrupt(number: int, _: object) -> None:
        noted.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return noted


if __name__ == "__main__":
    main()
