"""Settings: environment variables that begin with OTB_, secrets also as files."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.kafka_access import KafkaAccess
from services.runtime.errors import ConfigurationError

PREFIX = "OTB_"


class Settings(KafkaAccess):
    """Everything a process may be told from outside; each field is OTB_<NAME>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    state_dir: Path = Field(Path(".otb"), description="folder of the embedded stack: data, logs, secrets")
    cache_dir: Path | None = Field(None, description="folder of downloaded jars; default: in the state folder")
    maven_repository: str | None = Field(None, description="a mirror to fetch the locked jars from")
    kafka_port: int | None = Field(None, description="port of the embedded Kafka; default: a free one")
    postgres_port: int | None = Field(None, description="port of the embedded PostgreSQL; default: a free one")
    postgres_dsn: SecretStr | None = Field(None, description="your own PostgreSQL instead of the embedded one")
    secrets_dir: Path | None = Field(None, description="a file per login role; default: secrets in the state folder")
    partitions: Annotated[int, Field(ge=1, le=1000)] = Field(24, description="partitions of topics made here")
    instance: str | None = Field(None, description="stable name of this process in its group, also after a restart")
    policy_dir: Path | None = Field(None, description="folder of product profiles; default: deploy/policy")
    batch_max: Annotated[int, Field(ge=1, le=5000)] = Field(250, description="records in one transaction at most")
    stuck_seconds: Annotated[int, Field(ge=5)] = Field(300, description="exit when the loop stands still this long")
    dead_letter_share_max: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="stop consuming above this share of dead letters"
    )
    dead_letters_in_a_row_max: Annotated[int, Field(ge=1)] = Field(20, description="stop consuming at this many")
    notify_channels: str = Field("log", description="comma-separated: log, webhook")
    webhook_url: str | None = Field(None, description="endpoint that receives Standard Webhooks")
    webhook_secret: SecretStr | None = Field(None, description="signing secret (whsec_...); or _FILE")
    webhook_secret_file: Path | None = Field(None, description="file that holds the signing secret")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    ci: bool = Field(False, description="run tests that need packages only a build machine has")
    engine: bool = Field(False, description="run the proof on a container engine")
    risk_dataset: Path | None = Field(None, description="public credit data; see deploy/policy/models/DATA.md")


def load_settings() -> Settings:
    """Read OTB_ variables; raise ConfigurationError naming the nearest known one for an unknown variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"unknown setting {name}{hint}")
    try:
        return Settings()
    except ValueError as error:
        raise ConfigurationError(f"a setting is not usable: {error}") from error


def masked(settings: Settings) -> dict[str, str]:
    """Return the effective settings with secrets masked."""
    return {name: str(getattr(settings, name)) for name in Settings.model_fields}


def secret(value: SecretStr | None, file: Path | None) -> str | None:
    """Return a secret given by value or by file; None when neither is set."""
    if value is not None:
        return value.get_secret_value()
    return file.read_text().strip() if file is not None else None
