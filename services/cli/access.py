"""Kafka's users and ACLs as deploy/access.yaml says, no more and no less."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from services.cli.declared import Right, principals, read_access, rights
from services.cli.servers import attached
from services.cli.terminal import EPILOG, FOUND, OK, Json, Problem, print_json, stdout, working
from services.runtime.settings import Settings

SECONDS: Final = 30
ITERATIONS: Final = 8_192


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(access)


def access(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; 1 when something differs.")] = False,
    new_admin: Annotated[
        Path | None, typer.Option(help="File of the administrator's next password: from now on the broker takes it.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Give each service and client its Kafka user and exactly its rights; passwords come from the secrets folder."""
    settings = attached(["kafka"])
    document = read_access()
    with working("asking Kafka"):
        administrator = administrator_of(settings)
        missing, surplus = differences(administrator, document)
        if not check:
            set_passwords(administrator, document, _folder(settings))
            change(administrator, missing, surplus)
            if new_admin is not None:
                _set_password(administrator, {settings.kafka_username or "admin": new_admin.read_text().strip()})
            await_accepted(settings, document, _folder(settings))
    told = {"granted" if not check else "missing": missing, "revoked" if not check else "surplus": surplus}
    if as_json:
        print_json({word: [right._asdict() for right in found] for word, found in told.items()})
    else:
        for line in [f"{word} {' '.join(right)}" for word, found in told.items() for right in found]:
            stdout().print(line)
        if not missing and not surplus:
            stdout().print("every right was as deploy/access.yaml says")
    return FOUND if check and (missing or surplus) else OK


def differences(administrator: Any, document: Mapping[str, Any]) -> tuple[list[Right], list[Right]]:
    """Return the rights Kafka lacks, and those it gives our principals beyond the document."""
    wanted, found = rights(document), granted(administrator).keys()
    ours = {who["kafka"]["principal"] for who in principals(document)}
    return sorted(wanted - found), sorted(right for right in found - wanted if right.principal in ours)


def granted(administrator: Any) -> dict[Right, Any]:
    """Return every ACL in force; one that is no plain right has its pattern and permission in its kind."""
    anything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    found = administrator.describe_acls(anything, request_timeout=SECONDS).result()
    return {_right(binding): binding for binding in found}


def change(administrator: Any, missing: Collection[Right], surplus: Collection[Right]) -> None:
    """Grant what is missing, then revoke what is too much; raise what Kafka answers."""
    if missing:
        _done(administrator.create_acls([_binding(right) for right in missing]))
    if surplus:
        found = granted(administrator)
        _done(administrator.delete_acls([_exactly(found[right]) for right in surplus]))


def set_passwords(administrator: Any, document: Mapping[str, Any], folder: Path) -> None:
    """Give every principal the password of its file ``kafka_<name>``; a changed file is a rotation."""
    _set_password(administrator, {who["name"]: password_of(folder, who["name"]) for who in principals(document)})


def await_accepted(settings: Settings, document: Mapping[str, Any], folder: Path) -> None:
    """Wait until the broker takes every password: its controller answers first, and who starts between is refused."""
    if settings.kafka_username is None:
        return
    for name in (who["name"] for who in principals(document)):
        own = {"sasl.username": name, "sasl.password": password_of(folder, name), "log_level": "2"}
        AdminClient({**settings.librdkafka(), **own}).list_topics(timeout=SECONDS)


def password_of(folder: Path, name: str) -> str:
    """Return a principal's password; raise Problem when its file is missing."""
    path = folder / f"kafka_{name.replace('-', '_')}"
    if not path.is_file():
        raise Problem(f"no Kafka password for {name} at {path}")
    return path.read_text().strip()


def administrator_of(settings: Settings) -> Any:
    """Return an administrator who knows users, rights and settings in force."""
    return AdminClient({**settings.librdkafka(), "log_level": "2"})


def _set_password(administrator: Any, passwords: Mapping[str, str]) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes = [UserScramCredentialUpsertion(name, info, text.encode()) for name, text in passwords.items()]
    _done(administrator.alter_user_scram_credentials(changes))


def _folder(settings: Settings) -> Path:
    if settings.secrets_dir is None:
        raise Problem("OTB_SECRETS_DIR is not set")
    return settings.secrets_dir


def _done(answers: Mapping[Any, Any]) -> None:
    for answer in answers.values():
        answer.result(SECONDS)


def _right(binding: Any) -> Right:
    kind, operation = binding.restype.name.lower(), binding.operation.name.lower()
    pattern, permission = binding.resource_pattern_type, binding.permission_type
    if (pattern, permission, binding.host) != (ResourcePatternType.LITERAL, AclPermissionType.ALLOW, "*"):
        kind = f"{permission.name.lower()} {pattern.name.lower()} {kind} from {binding.host}"
    return Right(binding.principal, kind, binding.name, operation)


def _binding(right: Right) -> Any:
    kind, operation = ResourceType[right.kind.upper()], AclOperation[right.operation.upper()]
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(kind, right.name, literal, right.principal, "*", operation, allow)


def _exactly(binding: Any) -> Any:
    where = (binding.restype, binding.name, binding.resource_pattern_type)
    return AclBindingFilter(*where, binding.principal, binding.host, binding.operation, binding.permission_type)
