"""How a process reaches Kafka and names itself there: address, encryption, principal."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

MECHANISM = "SCRAM-SHA-512"
CUT_OFF_SECONDS: Final = 3.0
T = TypeVar("T")


class KafkaAccess(BaseSettings):
    """The settings of Kafka itself; a principal's password is always a file."""

    kafka_bootstrap_servers: str | None = Field(None, description="your own Kafka instead of the embedded one")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of your own Kafka; SASL is SCRAM-SHA-512"
    )
    kafka_username: str | None = Field(None, description="principal, needed with SASL")
    kafka_password_file: Path | None = Field(None, description="file that holds the principal's password")
    kafka_ca_file: Path | None = Field(None, description="certificate authority of your own Kafka, if not a public one")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse SASL without a principal at start, not at the first connection."""
        if self.kafka_security.startswith("SASL"):
            if self.kafka_username is None or self.kafka_password_file is None:
                raise ValueError("OTB_KAFKA_SECURITY needs OTB_KAFKA_USERNAME and OTB_KAFKA_PASSWORD_FILE")
            if not self.kafka_password_file.is_file():
                raise ValueError(f"no Kafka password for {self.kafka_username} at {self.kafka_password_file}")
        return self

    def kafka(self) -> dict[str, Any]:
        """Return what every aiokafka client is made with."""
        options: dict[str, Any] = {"bootstrap_servers": self.kafka_bootstrap_servers}
        if self.kafka_security != "PLAINTEXT":
            options["security_protocol"] = self.kafka_security
        if self.kafka_security.endswith("SSL"):
            from aiokafka.helpers import create_ssl_context

            options["ssl_context"] = create_ssl_context(cafile=self.kafka_ca_file)
        if self.kafka_password_file is not None and self.kafka_security.startswith("SASL"):
            options |= {
                "sasl_mechanism": MECHANISM,
                "sasl_plain_username": self.kafka_username,
                "sasl_plain_password": self.kafka_password_file.read_text().strip(),
            }
        return options

    def librdkafka(self) -> dict[str, str]:
        """Return the same for librdkafka, whose administrator knows users and ACLs."""
        known = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security,
            "ssl.ca.location": self.kafka_ca_file,
        }
        if self.kafka_password_file is not None and self.kafka_security.startswith("SASL"):
            known |= {
                "sasl.mechanism": MECHANISM,
                "sasl.username": self.kafka_username,
                "sasl.password": self.kafka_password_file.read_text().strip(),
            }
        return {name: str(value) for name, value in known.items() if value is not None}

    async def why(self, error: BaseException) -> str:
        """Say what an error at start means; of a refused password aiokafka says that no address answered."""
        # Not above: commands that read these settings and need no Kafka do not wait for its client.
        from aiokafka.conn import create_conn
        from aiokafka.errors import KafkaConnectionError, KafkaError, SaslAuthenticationFailed

        if isinstance(error, KafkaConnectionError) and self.kafka_security.startswith("SASL"):
            options = self.kafka()
            host, _, port = options.pop("bootstrap_servers").partition(",")[0].rpartition(":")
            try:
                (await create_conn(host, int(port), **options)).close()
            except SaslAuthenticationFailed:
                return f"Kafka refused {self.kafka_username}: mend {self.kafka_password_file}, or run `otb access`"
            except (KafkaError, OSError):
                pass
        return str(error) or repr(error)


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Await the start or stop of Kafka's clients; when cut off, give it CUT_OFF_SECONDS to end by itself, then raise.

    aiokafka's start, cut off between its first connection and the metadata, forgets that connection, and no stop closes
    it; its stop, cut off, closes none.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CUT_OFF_SECONDS)
        task.cancel()
        await asyncio.wait([task], timeout=CUT_OFF_SECONDS)
        if task.done() and not task.cancelled():
            task.exception()  # what nobody waits for any more is no error of the loop's
        raise
