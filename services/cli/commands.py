"""The commands wired into one application, and one line for whatever goes wrong in them."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import aiokafka.errors
import asyncpg
import typer
from typer.exceptions import TyperException

from deploy.embedded import StackError
from services.billing_simulator.send import DeliveryError
from services.cli import (
    access,
    account,
    audit,
    backup,
    cases,
    checks,
    conform,
    demo,
    dlq,
    doctor,
    explain,
    holds,
    lag,
    limits,
    load,
    look,
    pause,
    policy,
    republish,
    risk,
    stack_commands,
)
from services.cli.terminal import ENVIRONMENT, EPILOG, Problem
from services.runtime.errors import ConfigurationError
from services.runtime.settings import load_settings

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
for module in (
    demo,
    look,
    explain,
    account,
    lag,
    checks,
    doctor,
    conform,
    access,
    load,
    pause,
    republish,
    backup,
    stack_commands,
):
    module.register(app)
app.add_typer(dlq.app, name="dlq")
app.add_typer(cases.app, name="case")
app.add_typer(holds.app, name="hold")
app.add_typer(limits.app, name="limit")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(risk.app, name="risk")
app.add_typer(stack_commands.stack, name="stack")


@app.callback()
def settled() -> None:
    """Gives credit back after a repayment, and shows every second between repaid and restored."""
    load_settings()


def answer(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code."""
    command = typer.main.get_command(app)
    given = None if arguments is None else list(arguments)
    try:
        result = command.main(args=given, prog_name="otb", standalone_mode=False)
    except TyperException as error:
        return _tell(f"{error.format_message()} (`otb --help` lists what there is)", error.exit_code)
    except Problem as problem:
        return _tell(str(problem), problem.code)
    except (StackError, ConfigurationError, DeliveryError) as error:
        return _tell(str(error), ENVIRONMENT)
    except BrokenPipeError:
        raise
    except Exception as error:
        _tell(_unexpected(error), ENVIRONMENT)
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


def _tell(message: str, code: int) -> int:
    sys.stderr.write(f"otb: {' '.join(message.split())}\n")
    return code
