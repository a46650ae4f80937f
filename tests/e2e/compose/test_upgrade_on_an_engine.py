"""The containers of the build before this one, repayments coming in, then this build's in their place."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.cli.workers import EVERYONE
from tests.conftest import REPOSITORY
from tests.e2e.compose.asking import eventually, healthy, psql, sent, settled, taken
from tests.e2e.compose.engine import Engine, lay_out
from tests.e2e.compose.images import OURS, make_ours

pytestmark = [pytest.mark.engine, pytest.mark.release, pytest.mark.timeout(3600)]
LOAD = 300
LOAD_RATE = 5
MEETS_POISON = "repayment_ingest"
READERS_OF_OURS = [worker.package for worker in EVERYONE if worker.package not in (MEETS_POISON, "lag_monitor")]


@pytest.fixture(scope="module")
def older(running: Engine, pytestconfig: pytest.Config) -> Iterator[Engine]:
    """Start the older build, its image made of its own files, and let the demo's scenarios through."""
    source = running.folder / "older"
    source.mkdir()
    archive = running.folder / "older.tar"
    commit = str(pytestconfig.getoption("--from-commit"))
    git = (shutil.which("git") or "git", "-C", str(REPOSITORY), "archive", "--output", str(archive), commit)
    subprocess.run(git, check=True)
    shutil.unpack_archive(archive, source, filter="data")
    begun = replace(running, checkout=running.folder / "upgraded")
    lay_out(source, begun.checkout)
    make_ours(begun.run)
    begun.run("make", "up")
    begun.start_demo()
    yield begun
    begun.clear()


def dead_letters(up: Engine) -> list[str]:
    """Return how many of our own events each service could not read."""
    counts = [f"SELECT count(*) FROM {package}.set_aside WHERE kind = 'dead_letter'" for package in READERS_OF_OURS]  # noqa: S608
    return psql(up, "otb_owner", *counts)[0]


def test_the_containers_of_the_build_before_this_one_are_upgraded_while_repayments_come_in(older: Engine) -> None:
    before = sent(older, older.name("billing-simulator"))
    settled(older, before)
    lay_out(REPOSITORY, older.checkout)
    make_ours(older.run)
    load = older.start_load(LOAD, LOAD_RATE)
    eventually(lambda: taken(older) > before, "the load came in")
    assert taken(older) < before + LOAD, "some of it is still to come"
    older.run("make", "upgrade")
    built = older.run("docker", "inspect", "--format", "{{.Id}}", OURS).strip()
    assert {older.inspect(worker.name, "{{.Image}}") for worker in EVERYONE} == {built}
    assert [worker.name for worker in EVERYONE if not healthy(older, worker.name)] == []
    again = older.run(*older.compose("run", "--rm", "-T", "migrate"))
    assert "every schema was up to date" in again, "migrated once"
    settled(older, before + sent(older, load))
    assert set(dead_letters(older)) == {"0"}
