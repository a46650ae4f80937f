"""A broker with SASL and ACLs, started by the script of the compose file."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.kafka import answers
from services.cli.declared import principals, read_access
from services.cli.system import free_port
from services.runtime.settings import Settings
from tests.conftest import REPOSITORY, cache_dir
from tests.standins.layout import java, lay_out_kafka
from tests.tied import tied

START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class Secured:
    """Where the broker is, and the folder of everyone's password."""

    address: str
    secrets_dir: Path

    def settings(self, name: str) -> Settings:
        """Return the settings of a principal."""
        return Settings(
            kafka_bootstrap_servers=self.address,
            kafka_security="SASL_PLAINTEXT",
            kafka_username=name,
            kafka_password_file=self.secrets_dir / f"kafka_{name.replace('-', '_')}",
            secrets_dir=self.secrets_dir,
            partitions=1,
        )


@contextmanager
def secured_broker(folder: Path, properties: str = "") -> Iterator[Secured]:
    """Run the broker, with ``properties`` beyond the deployment's; nothing of it is left afterwards."""
    home = lay_out_kafka(folder / "kafka", cache_dir())
    passwords = folder / "secrets"
    passwords.mkdir()
    for name in ("admin", *(who["name"] for who in principals(read_access()))):
        (passwords / f"kafka_{name.replace('-', '_')}").write_text(secrets.token_hex(12))
    script = Path(shutil.copytree(REPOSITORY / "deploy" / "kafka", folder / "deployed")) / "start.sh"
    with (folder / "deployed" / "server.properties").open("a") as file:
        file.write(properties)
    port = free_port()
    process = _start(script, home, passwords, port)
    try:
        _await(process, port, folder)
        yield Secured(f"127.0.0.1:{port}", passwords)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _start(script: Path, home: Path, passwords: Path, port: int) -> "subprocess.Popen[bytes]":
    folder = script.parents[1]
    environment = {
        "PATH": os.environ["PATH"],
        "JAVA": str(java() / "bin" / "java"),
        "KAFKA_HOME": str(home),
        "KAFKA_LOG_DIRS": str(folder / "data"),
        "KAFKA_CONFIG": str(folder / "server.properties"),
        "KAFKA_ADMIN_PASSWORD_FILE": str(passwords / "kafka_admin"),
        "KAFKA_INTERNAL": f"127.0.0.1:{free_port()}",
        "KAFKA_LOCAL": f"127.0.0.1:{port}",
        "KAFKA_CONTROLLER_PORT": str(free_port()),
    }
    with (folder / "kafka.log").open("wb") as log:
        return subprocess.Popen(tied(str(script)), env=environment, stdout=log, stderr=log, cwd=folder)


def _await(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    log = folder / "kafka.log"
    while "Kafka Server started" not in log.read_text():
        assert process.poll() is None, log.read_text()[-2_000:]
        assert time.monotonic() < deadline, log.read_text()[-2_000:]
        time.sleep(0.2)
    assert not answers(port), "an unnamed client is answered"
