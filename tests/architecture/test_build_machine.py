"""What .ci/run starts, and that none of it can fail unseen or outlive the run: its programs are stand-ins here."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.debian import program

pytestmark = pytest.mark.debian
RUN: Final = Path(__file__).parents[2] / ".ci" / "run"
THERE: Final = ("promtool", "amtool", "javac", "go", "dockerd", "docker-compose", "debootstrap", "iptables-save")
TARGETS: Final = ("setup", "seeds", "engine", "planted", "check", "training", "test")
BESIDE: Final = ("engine", "planted")
MAKE: Final = """#!/bin/sh
echo "$1 $(nice) $OTB_CI" >> made
case "$1" in
  "$FAILS") until [ -z "$HANGS" ] || [ -s hangs ]; do sleep 0.05; done; echo "what $1 said"; exit 3 ;;
  "$HANGS") echo $$ > hangs; exec sleep 60 ;;
esac
echo "the last of $1"
"""


def played(checkout: Path, *, fails: str = "", hangs: str = "") -> subprocess.CompletedProcess[str]:
    """Run .ci/run in a folder of its own where every program does nothing, a target fails or another never ends."""
    programs = checkout / "bin"
    programs.mkdir()
    for name in ("make", *THERE):
        (programs / name).write_text(MAKE if name == "make" else "#!/bin/sh\n")
        (programs / name).chmod(0o755)
    (checkout / ".ci").mkdir()
    shutil.copy(RUN, checkout / ".ci")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "FAILS": fails, "HANGS": hangs}
    command = (program("bash"), str(checkout / ".ci" / "run"))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)


def test_every_part_is_run_once_and_the_planted_bugs_give_way_to_all_others(tmp_path: Path) -> None:
    done = played(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the last of test", "the runner's own closing line"
    made = dict(line.split(" ", 1) for line in (tmp_path / "made").read_text().splitlines())
    assert list(made)[:2] == ["setup", "seeds"], "nothing is beside the seeds"
    assert made == {target: f"{19 if target == 'planted' else os.nice(0)} 1" for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_part_fails_the_run_fails_and_tells_what_it_said(tmp_path: Path, target: str) -> None:
    done = played(tmp_path, fails=target)
    assert done.returncode != 0
    assert f"what {target} said" in done.stdout


@pytest.mark.parametrize("target", BESIDE)
def test_what_runs_beside_ends_with_the_run(tmp_path: Path, target: str) -> None:
    done = played(tmp_path, fails="check", hangs=target)
    assert done.returncode != 0
    assert not psutil.pid_exists(int((tmp_path / "hangs").read_text()))
