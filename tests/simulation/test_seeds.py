"""The whole pipeline under faults, many times over: what may never happen does not, and everything comes to rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.many import on_every_core
from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]
FEW = 200
MANY = 10_000
FAULTS_A_SEED = 20
SITUATIONS = (
    "account_after_its_repayment",
    "ack_lost",
    "broker_outage",
    "clock_back",
    "clock_jump",
    "closed_with_credit_held",
    "conflict",
    "crash",
    "crash_after_commit",
    "crash_after_statement",
    "currency_mismatch",
    "database_outage",
    "deadlock",
    "double_repayment",
    "endpoint_accepted_then_timed_out",
    "evicted",
    "extension",
    "freeze_during_a_hold",
    "hold_ends_by_its_date",
    "joined",
    "limit_cut_during_hold",
    "lost_answer",
    "lost_connection",
    "lost_tail",
    "partial_release_then_return",
    "offsets_reset",
    "poison",
    "promise_broken",
    "rebalance",
    "released_by_a_reviewer",
    "replay_by_value_date",
    "reported_again",
    "return_after_spending",
    "return_before_its_report",
    "send_failed",
    "stopped",
    "swapped",
    "thawed_together",
    "timeout",
    "told_again",
    "verdict_revised",
    "word_told_late",
    "zombie_refused",
)
"""What the generator must bring about in at least 1 % of seeds: its blind spot would be ours."""


def test_a_few_hundred_lives_under_faults_break_nothing_and_come_to_rest() -> None:
    total = on_every_core(range(FEW))
    assert not total.wrong
    assert total.seeds == FEW
    assert total.faults >= FAULTS_A_SEED * FEW


@pytest.mark.seeds
@pytest.mark.timeout(3_600)
def test_ten_thousand_lives_break_nothing_and_meet_every_situation() -> None:
    total = on_every_core(range(MANY))
    assert not total.wrong
    assert total.faults >= FAULTS_A_SEED * MANY
    rare = {name: total.situations[name] for name in SITUATIONS if total.situations[name] < MANY // 100}
    assert not rare


def test_a_seed_is_the_same_story_under_any_hash_seed() -> None:
    """Under 0 and 3 rows of two accounts once came in another order, in one seed of twenty."""
    told = {_digests(hash_seed) for hash_seed in ("0", "1", "3")}
    assert len(told) == 1
    assert len(set(told.pop().split())) > 8, "each seed has a digest of its own"


def _digests(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--digests", "0", "25"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_seed_played_again_tells_its_story_and_is_the_same() -> None:
    told = simulate(3, telling=True)
    assert told.digest == simulate(3).digest
    assert any("RepaymentReported" in line for line in told.story)
