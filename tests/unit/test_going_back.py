"""Which return model a rollback puts back in force: one promotion earlier each time, never forward again."""

from hypothesis import given
from hypothesis import strategies as st

from services.cli.models import promoted

FORWARD, BACK = False, True
CHANGES = st.lists(st.sampled_from(["a", "b", "c"]) | st.none(), max_size=30)
"""What people asked for, in order: a version to promote, or None to go back."""


def test_the_shipped_table_decides_until_something_is_promoted() -> None:
    assert promoted([]) == [None]
    assert promoted([("a", FORWARD)]) == [None, "a"]


def test_a_second_rollback_goes_one_promotion_further_back() -> None:
    forward = [("a", FORWARD), ("b", FORWARD)]
    assert promoted([*forward, ("a", BACK)]) == [None, "a"]
    assert promoted([*forward, ("a", BACK), (None, BACK)]) == [None]
    assert promoted([*forward, ("a", BACK), ("c", FORWARD)]) == [None, "a", "c"], "b is not gone back to"


def test_to_promote_what_decides_is_no_step() -> None:
    assert promoted([("a", FORWARD), ("a", FORWARD)]) == [None, "a"]


def test_what_was_kept_before_going_back_was_told_apart_still_reads() -> None:
    assert promoted([("a", FORWARD), (None, FORWARD)]) == [None, "a", None]


@given(CHANGES)
def test_going_back_often_enough_always_ends_at_the_shipped_table(asked: list[str | None]) -> None:
    kept: list[tuple[str | None, bool]] = []
    for version in asked:
        history = promoted(kept)
        if version is not None:
            kept.append((version, FORWARD))
        elif len(history) > 1:
            kept.append((history[-2], BACK))
        assert kept == [] or promoted(kept)[-1] == kept[-1][0], "what a change named is what decides"
    length = len(promoted(kept))
    for n in range(1, length):
        kept.append((promoted(kept)[-2], BACK))
        assert len(promoted(kept)) == length - n
    assert promoted(kept) == [None]
