"""What training may be told from outside."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainingSettings(BaseSettings):
    """Each field is OTB_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="OTB_", extra="ignore", frozen=True)

    risk_dataset: Path | None = Field(None, description="the public credit data set; see deploy/policy/models/DATA.md")
