"""fold: a batch through decide, in order; what is malformed is set aside alone."""

from schemas.event import Event
from services.decision import Decision, Input, Malformed, Moment, Timer
from services.runtime.fold import Arrived, fold
from tests import builders
from tests.unit.given import FRIDAY, moment

OPENED = builders.account_opened()
TIMER = Timer(builders.ACCOUNT, "kind", "subject", 1, FRIDAY)


def count(policy: int, state: int, event: Input, at: Moment) -> Decision[int]:
    if policy == state:
        raise Malformed("too_many")
    return Decision(state + 1, (OPENED,), (TIMER,), "applied", "counted", wakes=state == 0)


def arrived(event: Event | None) -> tuple[Arrived, str, Moment]:
    return Arrived(event, 7, FRIDAY), builders.ACCOUNT if event else "", moment(FRIDAY)


def test_what_is_of_no_interest_is_remembered_as_ignored() -> None:
    nothing = arrived(None)
    result = fold(count, 9, {"": 0}, [nothing])
    assert result.outcomes == [(nothing[0], "ignored", "")]
    assert (result.states, result.events) == ({"": 0}, [])


def test_states_events_timers_and_wakes_come_in_order() -> None:
    batch = [arrived(OPENED), arrived(OPENED)]
    result = fold(count, 9, {builders.ACCOUNT: 0}, batch)
    assert result.states == {builders.ACCOUNT: 2}
    assert result.events == [OPENED, OPENED]
    assert result.timers == [(7, TIMER), (7, TIMER)]
    assert [(outcome, why) for _, outcome, why in result.outcomes] == [("applied", "counted")] * 2
    assert result.wakes == [builders.ACCOUNT]


def test_e14_a_malformed_input_is_dead_and_the_rest_goes_on() -> None:
    batch = [arrived(OPENED), arrived(OPENED), arrived(None)]
    result = fold(count, 1, {builders.ACCOUNT: 0, "": 0}, batch)
    assert result.dead == [(batch[1][0], "too_many")]
    assert result.states[builders.ACCOUNT] == 1
    assert [outcome for _, outcome, _ in result.outcomes] == ["applied", "ignored"]


def test_the_states_given_are_left_as_they_were() -> None:
    before: dict[str, int] = {builders.ACCOUNT: 0}
    fold(count, 9, before, [arrived(OPENED)])
    assert before == {builders.ACCOUNT: 0}
