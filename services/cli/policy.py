"""What a product's profile says, how two differ, and whether a folder of them would start."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, Json, Problem, print_json, stdout, table
from services.policy import Profile
from services.profiles import FOLDER, Mark, load_profiles, marks
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings, load_settings

app = typer.Typer(help="Product profiles: what decides, and where it comes from.", no_args_is_help=True, epilog=EPILOG)
Product = Annotated[str, typer.Argument(help="the product, for example default")]
Folder = Annotated[Path | None, typer.Option("--folder", help="folder of profiles; default: the one in force")]
ABSENT: Final = "-"


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="policy")


@app.command(epilog=EPILOG)
def show(product: Product, folder: Folder = None, as_json: Json = False) -> int:
    """Show every value of a profile, defaults filled in, with the source its file names."""
    profile = _profile(product, folder)
    values, sources = flat(profile), _sources(product, folder)
    head = {"policy_version": profile.policy_version, "calendar": profile.banking.name}
    if as_json:
        print_json({**head, "values": values, "sources": sources})
        return OK
    stdout().print(f"{profile.policy_version}, calendar {profile.banking.name}")
    shown = table("key", "value", "source")
    for key, value in values.items():
        shown.add_row(key, _text(value), _source(key, sources))
    stdout().print(shown)
    return OK


@app.command(epilog=EPILOG)
def diff(
    product: Product,
    other: Annotated[str | None, typer.Argument(help="the product to compare with; default: the same")] = None,
    folder: Folder = None,
    to: Annotated[Path | None, typer.Option(help="folder of the other profile; default: the same")] = None,
    as_json: Json = False,
) -> int:
    """Name each key in which two profiles differ; 1 when there is one."""
    one = _profile(product, folder)
    two = _profile(other or product, to or folder)
    found = differences(flat(one), flat(two))
    if as_json:
        print_json({"from": one.policy_version, "to": two.policy_version, "differences": found})
    elif found:
        shown = table("key", one.policy_version, two.policy_version)
        for key, (was, becomes) in found.items():
            shown.add_row(key, _text(was), _text(becomes))
        stdout().print(shown)
    else:
        stdout().print(f"{one.policy_version} and {two.policy_version} are the same")
    return FOUND if found else OK


@app.command(epilog=EPILOG)
def check(folder: Folder = None, as_json: Json = False) -> int:
    """Read every profile as a worker does at its start; 1 and the file and key when one would not start."""
    try:
        profiles, wrong = load_profiles(_settings(folder)).by_product, ""
    except ConfigurationError as error:
        profiles, wrong = {}, str(error)
    versions = sorted(profile.policy_version for profile in profiles.values())
    if as_json:
        print_json({"profiles": versions, "wrong": wrong or None})
    else:
        stdout().print(wrong or f"{len(versions)} profiles are in order: {', '.join(versions)}", soft_wrap=True)
    return FOUND if wrong else OK


def flat(profile: Profile) -> dict[str, Any]:
    """Return a profile's values by dotted key; a list of tables is one value."""
    return dict(_leaves("", profile.model_dump(mode="json", by_alias=True)))


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return both values of each key that is not the same in both; None where a profile lacks it."""
    keys = [*one, *(key for key in two if key not in one)]
    return {key: (one.get(key), two.get(key)) for key in keys if one.get(key) != two.get(key)}


def _leaves(prefix: str, table_of: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table_of.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _profile(product: str, folder: Path | None) -> Profile:
    found = load_profiles(_settings(folder)).by_product
    if product not in found:
        raise Problem(f"no profile {product}; there are {', '.join(sorted(found))}", NOT_FOUND)
    return found[product]


def _settings(folder: Path | None) -> Settings:
    settings = load_settings()
    return settings if folder is None else settings.model_copy(update={"policy_dir": folder})


def _sources(product: str, folder: Path | None) -> dict[str, Mark]:
    path = (folder or load_settings().policy_dir or FOLDER) / f"{product}.toml"
    return marks(path.read_text()) if path.is_file() else {}


def _source(key: str, sources: Mapping[str, Mark]) -> str:
    """Return the mark of a key or of the line it is a part of; a default is ours, a name has none."""
    if key in ("product", "version"):
        return ABSENT
    while key:
        if key in sources:
            return sources[key]
        key = key.rpartition(".")[0]
    return "default"


def _text(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return "; ".join(_text(each) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items() if each is not None)
    return str(value)
