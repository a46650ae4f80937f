"""What a decide() makes without validating it is what validation would have made, byte for byte."""

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from schemas.event import Event
from schemas.made import made
from schemas.restoration import HoldReleased
from schemas.settlement import Allocation, RepaymentRejected
from services.limit_release import facts as of_release
from services.notifier import domain as of_notifier
from services.repayment_ingest import domain as of_ingest
from services.risk_scoring import domain as of_risk
from services.runtime import batch
from services.runtime.codec import Outgoing, encode
from services.settlement import facts as of_settlement
from tests.simulation.world import simulate

FIRST, LEAST, MOST = 31_000, 16, 400
"""Worlds are played until each model that is made was told, at least so many and at most so many."""
MODULES = (of_ingest, of_settlement, of_risk, of_release, of_notifier)
MADE = re.compile(r" = made\((\w+)\)$", re.MULTILINE)


@pytest.fixture(scope="module")
def told() -> list[Event]:
    """Return every fact the workers told in simulated worlds."""
    found: list[Event] = []
    wanted = {name for module in MODULES for name in MADE.findall(inspect.getsource(module))}
    assert len(wanted) > len(MODULES)

    def noted(event: Event) -> Outgoing:
        found.append(event)
        wanted.difference_update(type(part).__name__ for part in parts(event))
        return encode(event)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch, "encode", noted)
        for seed in range(FIRST, FIRST + MOST):
            assert not simulate(seed).wrong
            if not wanted and seed >= FIRST + LEAST:
                return found
    raise AssertionError(f"no world told {wanted}")


def parts(fact: BaseModel) -> Iterator[BaseModel]:
    yield fact
    for value in vars(fact).values():
        if isinstance(value, BaseModel):
            yield from parts(value)


def test_validation_would_have_made_the_same(told: list[Event]) -> None:
    for fact in (part for event in told for part in parts(event)):
        validated = type(fact)(**{name: getattr(fact, name) for name in fact.model_fields_set})
        assert validated == fact
        assert repr(validated) == repr(fact)
        assert list(vars(validated)) == list(vars(fact))
        assert validated.model_fields_set == fact.model_fields_set
        assert validated.model_dump_json() == fact.model_dump_json()


def test_a_reader_accepts_all_that_was_told(told: list[Event]) -> None:
    for fact in told:
        assert type(fact).model_validate_json(encode(fact).payload) == fact


def test_what_is_made_behaves_like_any_model() -> None:
    values = {"penalty_minor": 1, "principal_minor": 4}
    one, other = made(Allocation)(**values), Allocation(**values)
    assert one == other
    assert hash(one) == hash(other)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == other  # noqa: S301 - our own bytes
    assert one.model_copy(update={"fee_minor": 2}) == other.model_copy(update={"fee_minor": 2})


def test_a_name_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        made(Allocation)(late_minor=1)


@pytest.mark.parametrize("model", [HoldReleased, RepaymentRejected])
def test_a_value_left_out_never_reaches_a_topic(model: type[BaseModel]) -> None:
    with pytest.raises(PydanticSerializationError):
        made(model)().model_dump_json()
