"""The image's pins on arm64: each has a wheel there but one, whose source becomes pure Python without a compiler.

Asks the package index, so it is run before a release.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]
LOCK: Final = Path(__file__).parents[2] / "deploy" / "image.lock"
SOURCE_ONLY: Final = "faust-streaming"
GLIBC_OF_BOOKWORM: Final = 36
TAGS: Final = ("2014", *(f"_2_{minor}" for minor in range(17, GLIBC_OF_BOOKWORM + 1)))
ARM: Final = (
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"),
    *(f"--platform=manylinux{tag}_aarch64" for tag in TAGS),
    "--platform=any",
)


def pip(*arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--require-hashes"], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr[-2_000:]


def pins(path: Path, wanted: Callable[[str], bool]) -> str:
    """Write the pins of the image whose names are wanted, with their hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE)
    path.write_text("".join(block for block in blocks if wanted(block.partition("==")[0])))
    assert path.read_text()
    return str(path)


def test_every_other_pin_has_a_wheel_for_arm64(tmp_path: Path) -> None:
    others = pins(tmp_path / "lock", lambda name: name != SOURCE_ONLY)
    where = ("--dry-run", "--only-binary=:all:", "--target", str(tmp_path / "target"))
    pip("install", *where, *ARM, "-r", others)


def test_the_one_without_builds_from_its_source_as_pure_python_and_without_a_compiler(tmp_path: Path) -> None:
    only = pins(tmp_path / "lock", lambda name: name == SOURCE_ONLY)
    pip("wheel", "--no-cache-dir", "--no-binary", SOURCE_ONLY, "-w", str(tmp_path), "-r", only, CC="/bin/false")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
