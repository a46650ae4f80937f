"""The commands wired into one application, and one line for whatever goes wrong in them."""

import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typing_extensions import override

from services.cli.terminal import ENVIRONMENT, EPILOG, Problem
from services.runtime.errors import ConfigurationError
from services.runtime.settings import load_settings

ABOUT: Final = "Gives credit back after a repayment, and shows every second between repaid and restored."
COMMANDS: Final = {
    "demo": (
        "demo",
        (
            "Show it all: starts real Kafka and PostgreSQL and the workers, plays billing, kills a worker, "
            "tells the story."
        ),
    ),
    "trace": ("look", "Show where every second between repaid and restored went."),
    "explain": ("explain", "Say why credit is back or not, and when, as the customer, an agent or an auditor is told."),
    "account": (
        "account",
        "Show how an account stands: credit, score and reasons, months, strikes, exposure, limit, what would help.",
    ),
    "lag": ("lag", "Where time went and what waits since when: by stage and, where lag-monitor runs, by cause."),
    "check": ("checks", "Check every invariant; exit 1 when one is violated."),
    "doctor": (
        "doctor",
        "Check servers, settings, rights, migrations, clocks, policy, disks and billing's newest records.",
    ),
    "conform": (
        "conform",
        "Check billing's newest records: headers, schema, key, partition, clocks, ids, money; 1 when a rule is broken.",
    ),
    "access": (
        "access",
        "Give each service and client its Kafka user and exactly its rights; passwords come from the secrets folder.",
    ),
    "load": ("load", "Send repayments as billing would; it opens its own accounts first."),
    "pause": ("pause", "Let a worker stand still; what waits for it meanwhile waits for the pause, and says so."),
    "resume": ("pause", "Let a paused worker go on."),
    "republish": (
        "republish",
        "Tell again, from the outboxes, what Kafka lost; readers go to where it ends now and take each event once.",
    ),
    "backup": ("backup", "Write the whole database as of one instant to a new FILE; the pipeline goes on meanwhile."),
    "restore": (
        "backup",
        "Put the books of FILE in the place of those there are, which stay beside them under another name.",
    ),
    "migrate": (
        "stack_commands",
        "Bring every service's schema up to date, and give each role exactly the rights of deploy/access.yaml.",
    ),
    "topics": (
        "stack_commands",
        "Make missing topics; an existing one with another number of partitions is refused.",
    ),
    "run": (
        "stack_commands",
        "Run workers in the foreground until Ctrl-C; servers that do not run are started, and stopped again.",
    ),
    "config": ("stack_commands", "Show the settings in force and where each comes from; secrets are masked."),
    "version": ("stack_commands", "Show versions."),
    "dlq": ("dlq", "Records set aside: dead letters for a person, parked ones for what they wait for."),
    "case": ("cases", "Cases: what a person has to look at, and by when."),
    "hold": ("holds", "Holds: end one now, or move its date once; with who and why."),
    "limit": ("limits", "Limits: ask for a review of one, or for a person to look at it; with who and why."),
    "audit": (
        "audit",
        "The audit of what people did: anchor its end outside the database, and hold it to its anchors.",
    ),
    "policy": ("policy", "Product profiles: what decides, and where it comes from."),
    "risk": ("risk", "Risk decisions: how they came about, and which model makes them."),
    "stack": ("stack_commands", "The embedded Kafka and PostgreSQL of the state folder."),
}
"""The module of each command and what it says of itself: all of them together take seconds to import."""


class Listed(TyperGroup):
    """The commands there are; the module of one is imported when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        listed = {name: TyperCommand(name, help=about) for name, (_, about) in COMMANDS.items()}
        super().__init__(**attributes | {"commands": listed})

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, command_of(name) if name else found, rest


app = typer.Typer(
    name="otb",
    cls=Listed,
    help=ABOUT,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def settled() -> None:
    """Gives credit back after a repayment, and shows every second between repaid and restored."""
    load_settings()


def command_of(name: str) -> Any:
    """Import the module of a command and return the command."""
    wired = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    import_module(f"services.cli.{COMMANDS[name][0]}").register(wired)
    return typer.main.get_group(wired).commands[name]


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
    except ConfigurationError as error:
        return _tell(str(error), ENVIRONMENT)
    except BrokenPipeError:
        raise
    except Exception as error:
        if _says_it_all(error):
            return _tell(str(error), ENVIRONMENT)
        _tell(_unexpected(error), ENVIRONMENT)
        raise SystemExit(ENVIRONMENT) from error
    return result if isinstance(result, int) else 0


def _says_it_all(error: Exception) -> bool:
    """Tell whether the text of an error is what a person is told."""
    # Imported only now: a command that goes well, or needs neither, does not wait for them.
    from deploy.embedded import StackError
    from services.billing_simulator.send import DeliveryError

    return isinstance(error, (StackError, DeliveryError))


def _unexpected(error: Exception) -> str:
    """Return one line for what a server, or our own mistake, made of it."""
    import aiokafka.errors
    import asyncpg

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
