"""Topics are made, and never changed: another number of partitions would move accounts."""

import pytest

from services.cli.commands import answer
from services.cli.kafka import partitions_of
from services.cli.system import System, all_topics, environment, make_topics
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings
from tests.conftest import PARTITIONS, run_apart


def counts(settings: Settings) -> dict[str, int]:
    """Return how many partitions each topic has."""
    there = run_apart(partitions_of(settings, sorted(all_topics()), "test"))
    return {name: sum(at.topic == name for at in there) for name in all_topics()}


@pytest.mark.parametrize("asked", [PARTITIONS - 1, PARTITIONS + 1])
def test_the_job_refuses_to_shrink_and_to_repartition(
    system: System, asked: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = counts(system.settings)
    assert set(there.values()) == {PARTITIONS}
    with pytest.raises(ConfigurationError, match="repartitioning would move accounts"):
        run_apart(make_topics(system.settings.model_copy(update={"partitions": asked})))
    for name, text in {**environment(system.settings), "OTB_PARTITIONS": str(asked)}.items():
        monkeypatch.setenv(name, text)
    assert answer(["topics"]) == 3
    assert f"OTB_PARTITIONS says {asked}" in capsys.readouterr().err
    assert counts(system.settings) == there
