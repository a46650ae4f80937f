"""An engine of the test's own: dockerd on its own socket and folder, and the compose file of a copy of this checkout.

Nothing is pulled (tests/e2e/compose/images.py). The firewall is left as it was found, unless another engine uses it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import psutil

from services.cli.system import free_port
from tests.conftest import REPOSITORY
from tests.debian import program
from tests.e2e.compose.images import BASE, NAMES, make_images, remove
from tests.tied import tied

PROJECT: Final = "opentobuy"
"""The project's name in the Makefile."""
START_SECONDS: Final = 180
STOP_SECONDS: Final = 180
RUN_SECONDS: Final = 900
"""Far beyond what any command takes: what hangs is found, a slow machine is not."""
FOLDERS: Final = ("schemas", "services", "deploy")
PORTS: Final = ("KAFKA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT", "PUSH_SINK_PORT", "LIVE_PORT")
SETTINGS: Final = {**NAMES, "BASE_IMAGE": BASE, "EXTRA_CA": "extra-ca.pem", "NOTIFY_CHANNELS": "log,webhook"}
NO_RULES: Final = "*nat\nCOMMIT\n*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n"
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Engine:
    """A running dockerd, and a checkout whose compose file it runs."""

    folder: Path
    checkout: Path
    environment: Mapping[str, str]

    def run(self, *command: str, seconds: float = RUN_SECONDS) -> str:
        """Run a command against this engine and return what it said; fail with all of it."""
        done = self.ask(*command, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3_000:]}\n{done.stderr[-6_000:]}"
        return done.stdout

    def ask(self, *command: str, given: str = "", seconds: float = RUN_SECONDS) -> Done:
        """Run a command against this engine, whatever comes of it."""
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.checkout,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def compose(self, *command: str) -> tuple[str, ...]:
        """Return the docker-compose command line that the Makefile would run."""
        return "docker-compose", "-p", PROJECT, "-f", "deploy/docker-compose.yml", *command

    def name(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{PROJECT}_{service}_1"

    def inspect(self, service: str, form: str) -> str:
        """Return what the engine says of a service's container."""
        return self.run("docker", "inspect", "--format", form, self.name(service)).strip()

    def inside(self, service: str, *command: str, given: str = "", options: tuple[str, ...] = ()) -> Done:
        """Run a command in a service's container, whatever comes of it."""
        return self.ask("docker", "exec", "-i", *options, self.name(service), *command, given=given)

    def start_demo(self) -> None:
        """Start what sends the demo's scenarios, and the receiver of what customers are told."""
        beside = ("up", "-d", "--no-build", "--no-deps", "push-sink", "billing-simulator")
        self.run(*self.compose("--profile", "demo", *beside))

    def start_load(self, count: int, rate: int) -> str:
        """Let repayments come in, so many a second; return the name of the container that sends them."""
        command = ("python", "-m", "services.billing_simulator", "load", "--count", str(count), "--rate", str(rate))
        return self.run(*self.compose("run", "-d", "--no-deps", "billing-simulator", *command)).split()[-1]

    def clear(self) -> None:
        """Remove the project's containers, networks and data."""
        down = ("--profile", "obs", "--profile", "demo", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        self.run(*self.compose(*down))

    def address(self, port: str) -> str:
        """Return where a published port of the compose file is."""
        return f"127.0.0.1:{self.environment[port]}"


@contextmanager
def engine() -> Iterator[Engine]:
    """Run dockerd with every image built; afterwards nothing of it runs and nothing of it is on the disk."""
    folder = Path(mkdtemp(prefix="otb-engine-"))
    ports = {name: str(free_port()) for name in PORTS}
    environment = {
        **os.environ,
        **SETTINGS,
        **ports,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_BUILDKIT": "0",
    }
    try:
        with _termination_interrupts(), _firewall_as_before(), _dockerd(folder):
            running = Engine(folder, folder / "checkout", environment)
            lay_out(REPOSITORY, running.checkout)
            make_images(running.run, folder)
            try:
                yield running
            finally:
                running.clear()
        assert left_running(folder) == []
    finally:
        remove(folder)


def left_running(folder: Path) -> list[str]:
    """Return the command lines of processes that name the engine's folder: dockerd, containerd and each shim do."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(folder) in line]


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Take a time limit's SIGTERM for Ctrl-C, which a shell's background job does not get: it ends what was started."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _dockerd(folder: Path) -> Iterator[None]:
    command = [*tied(program("dockerd")), "--host", f"unix://{folder}/docker.sock", "--data-root", f"{folder}/data"]
    command += ["--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/docker.pid"]
    log = folder / "dockerd.log"
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "API listen on" not in log.read_text():
            assert process.poll() is None, log.read_text()[-3_000:]
            assert time.monotonic() < deadline, log.read_text()[-3_000:]
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for mounted in (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()):
            if mounted.startswith(f"{folder}/"):  # the name of the host's network, kept by every engine
                subprocess.run([program("umount"), mounted], check=True)


@contextmanager
def _firewall_as_before() -> Iterator[None]:
    """Take the engine's rules away with it: it would leave the machine with chains, and forwarding forbidden."""
    before = subprocess.run([program("iptables-save")], capture_output=True, text=True, check=True).stdout
    try:
        yield
    finally:
        if "DOCKER" not in before:
            subprocess.run([program("iptables-restore")], input=NO_RULES + before, text=True, check=True)
            subprocess.run([program("ip"), "link", "delete", "docker0"], check=True)


def lay_out(source: Path, checkout: Path) -> None:
    """Copy what the image and the compose file need over what is there, as git would; secrets made there stay."""
    left_out = shutil.ignore_patterns("__pycache__", "secrets")
    for name in FOLDERS:
        shutil.copytree(source / name, checkout / name, ignore=left_out, dirs_exist_ok=True)
        for path in list((checkout / name).rglob("*")):
            here = path.relative_to(checkout)
            if path.is_file() and "secrets" not in here.parts and not (source / here).exists():
                path.unlink()
    for name in ("pyproject.toml", "README.md", "Makefile", ".dockerignore"):
        shutil.copy(source / name, checkout)
    authorities = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copy(authorities, checkout / "extra-ca.pem")


if __name__ == "__main__":  # pragma: no cover  # look around by hand: python -m tests.e2e.compose.engine
    with engine() as started:
        sys.stdout.write(f"{started.environment['DOCKER_HOST']} {started.checkout}\n")
        input("running; Enter stops it\n")
