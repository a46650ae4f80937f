"""The simulator says the same for a seed, in the shares asked for; only what it means to spoil is unreadable."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from aiokafka.errors import KafkaConnectionError, OutOfOrderSequenceNumber

from schemas.account import AccountOpened, PurchasePosted
from schemas.repayment import RepaymentReported, RepaymentReturnReported, ReportedRepayment
from schemas.topics import TOPICS
from services.billing_simulator import send
from services.billing_simulator.__main__ import main
from services.billing_simulator.headers import billing_headers
from services.billing_simulator.load import AMOUNT_MAX_MINOR, Load, accounts_plan, load_plan, repayments_plan
from services.billing_simulator.plan import POISONS, Billing, Planned, Repayment
from services.billing_simulator.scenarios import SCENARIOS, Scenario, scenario, together
from services.billing_simulator.send import DeliveryError, Ledger, Sent, play
from services.decision import Malformed
from services.profiles import load_profiles
from services.runtime.codec import Decoded, decode
from services.runtime.settings import Settings

START = datetime(2026, 11, 20, 14, 0, 0, 123_456, tzinfo=UTC)
NAMES = tuple(SCENARIOS)
SETTINGS = Settings(kafka_bootstrap_servers="127.0.0.1:1")


def decoded(planned: Planned) -> Decoded:
    topic = TOPICS[planned.topic]
    return decode(topic, planned, frozenset(topic.events))


def planned_by(name: str) -> list[Planned]:
    return scenario(name, "r1").plan(START)


def events(messages: Iterable[Planned], kind: type[ReportedRepayment]) -> list[ReportedRepayment]:
    return [each.event for each in messages if isinstance(each.event, kind)]


def load(**changes: object) -> list[Planned]:
    knobs: dict[str, object] = {"seed": 7, "run": "r1", "rate": 100.0, "count": 4_000} | changes
    return list(load_plan(Load(**knobs))(START))  # type: ignore[arg-type]  # knobs are named at the call


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_the_same_each_time_and_another_in_another_run(name: str) -> None:
    first, again, other = planned_by(name), planned_by(name), scenario(name, "r2").plan(START)
    assert first == again
    assert {planned.key for planned in first}.isdisjoint(planned.key for planned in other)
    assert {planned.reference for planned in first} & {planned.reference for planned in other} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_every_good_message_of_a_scenario_can_be_read_and_every_poison_cannot(name: str) -> None:
    for planned in planned_by(name):
        if planned.event is None:
            assert planned.kind == "poison"
            with pytest.raises(Malformed):
                decoded(planned)
        else:
            assert decoded(planned).event == planned.event


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_names_its_accounts_and_repayments_beforehand(name: str) -> None:
    story = scenario(name, "r1")
    messages = story.plan(START)
    assert {planned.key.decode() for planned in messages} == set(story.accounts)
    assert {each.reference for each in story.repayments} <= {planned.reference for planned in messages}
    assert [planned.at_seconds for planned in messages] == sorted(planned.at_seconds for planned in messages)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"case_a", "out_of_order"}])
def test_what_a_scenario_tells_names_the_amount_it_repays(name: str) -> None:
    story = scenario(name)
    told = {int(whole) * 100 + int(cents) for whole, cents in re.findall(r"(\d+)\.(\d\d)", story.about)}
    assert story.repayments[0].amount_minor in told


@pytest.mark.parametrize("name", ["held_and_explained", "case_a"])
def test_what_a_scenario_tells_of_a_hold_is_what_the_demo_profile_says(name: str) -> None:
    story, profile = scenario(name), load_profiles(SETTINGS).of("demo")
    instant_minor = profile.instant_cap_by_tier["unknown"]
    held_minor = story.repayments[0].amount_minor - instant_minor
    assert f"{instant_minor / 100:.2f} at once" in story.about
    for rest in profile.hold["REVERSIBLE"].rest:
        assert f"{held_minor * rest.share_bps / 1_000_000:.2f} after {rest.seconds} s" in story.about


def test_an_account_without_a_run_has_the_plain_name() -> None:
    assert scenario("paid_on_time").accounts == ("acct_demo_on_time",)


def test_a_repayment_succeeds_slightly_before_it_is_reported() -> None:
    (report,) = [planned for planned in planned_by("paid_on_time") if planned.kind == "report"]
    assert isinstance(report.event, RepaymentReported)
    assert timedelta() < report.event.occurred_at - report.event.repaid_at < timedelta(seconds=1)
    assert report.event.repaid_at.microsecond % 1000 == 0


def test_r10_a_duplicate_is_the_same_bytes_once_and_another_message_id_once() -> None:
    first, again, other = [planned for planned in planned_by("duplicate") if planned.reference]
    assert (first.value, first.headers) == (again.value, again.headers)
    assert first.reference == other.reference
    assert dict(first.headers)["ce_id"] != dict(other.headers)["ce_id"]


def test_r10_a_conflict_has_the_same_reference_and_another_amount() -> None:
    first, other = events(planned_by("conflict"), RepaymentReported)
    assert (first.source, first.external_ref) == (other.source, other.external_ref)
    assert first.event_id != other.event_id
    assert first.amount_minor != other.amount_minor


def test_r12_a_return_comes_before_its_report_and_an_account_after_its_repayment() -> None:
    messages = planned_by("out_of_order")
    returned, early = scenario("out_of_order", "r1").repayments
    of_return = [planned.kind for planned in messages if planned.reference == returned.reference]
    assert of_return == ["return", "report"]
    of_early = [type(planned.event) for planned in messages if planned.key.decode() == early.account_id]
    assert of_early == [PurchasePosted, RepaymentReported, AccountOpened]


def test_r08_spending_comes_between_the_repayment_and_its_return() -> None:
    kinds = [type(planned.event) for planned in planned_by("returned_after_restoration")]
    assert kinds == [AccountOpened, PurchasePosted, RepaymentReported, PurchasePosted, RepaymentReturnReported]


def test_r23_an_account_is_frozen_before_it_repays_and_active_again_after() -> None:
    messages = planned_by("frozen_then_active")
    said = [getattr(planned.event, "status", None) for planned in messages]
    assert said == [None, None, "frozen", "succeeded", "active"]
    assert "740.00 usable" in scenario("frozen_then_active").about


def test_scenarios_side_by_side_are_in_the_order_of_time() -> None:
    stories: list[Scenario] = [scenario(name) for name in NAMES]
    instants = [planned.at_seconds for planned in together(stories)(START)]
    assert instants == sorted(instants)
    assert len(instants) == sum(len(list(story.plan(START))) for story in stories)


@pytest.mark.parametrize("how", POISONS)
def test_each_poison_is_unreadable(how: str) -> None:
    repayment = Repayment("acct_x", "rep_x", 100, "wallet", 0.0)
    good = Billing(START).report(1, repayment)
    assert decoded(good).event == good.event
    with pytest.raises(Malformed):
        decoded(Billing(START).poison(1, repayment, how))  # type: ignore[arg-type]  # one of POISONS


def test_a_load_is_the_same_for_a_seed_and_another_for_another_seed_or_run() -> None:
    knobs = {"count": 300, "returns": 0.2, "poison": 0.02, "spacing": "poisson"}
    assert load(**knobs) == load(**knobs)
    for other in (load(**knobs, run="r2"), load(**knobs, seed=8)):
        assert {planned.reference for planned in load(**knobs)} & {planned.reference for planned in other} == {None}


def test_a_load_has_the_shares_it_was_asked_for() -> None:
    messages = load(duplicate=0.2, same_reference=0.15, returns=0.2, swaps=0.2, poison=0.02)
    kinds = Counter(planned.kind for planned in messages)
    assert kinds["report"] == len({planned.reference for planned in messages if planned.kind == "report"}) == 4_000
    assert kinds["duplicate"] / 4_000 == pytest.approx(0.2, abs=0.02)
    assert kinds["return"] / 4_000 == pytest.approx(0.2, abs=0.02)
    assert kinds["poison"] / 4_000 == pytest.approx(0.02, abs=0.007)
    ids = Counter(planned.event.event_id for planned in messages if isinstance(planned.event, RepaymentReported))
    redelivered = ids.total() - len(ids)
    assert 1 - redelivered / kinds["duplicate"] == pytest.approx(0.15, abs=0.04)


def test_swapped_reports_are_neighbours_of_one_account_in_the_share_asked_for() -> None:
    reports = events(load(duplicate=0, swaps=0.2), RepaymentReported)
    pairs = [(a, b) for a, b in pairwise(reports) if a.external_ref > b.external_ref]
    assert 2 * len(pairs) / len(reports) == pytest.approx(0.2, abs=0.03)
    assert all(a.account_id == b.account_id for a, b in pairs)


def test_a_share_of_returns_comes_before_its_report() -> None:
    place: dict[tuple[str, str], dict[str, int]] = {}
    for number, planned in enumerate(load(duplicate=0, returns=0.5, swaps=0.2)):
        if planned.reference is not None:
            place.setdefault(planned.reference, {})[planned.kind] = number
    returned = [places for places in place.values() if "return" in places]
    early = [places for places in returned if places["return"] < places["report"]]
    assert len(early) / len(returned) == pytest.approx(0.2, abs=0.03)


def test_every_good_message_of_a_load_can_be_read_and_every_poison_cannot() -> None:
    for planned in load(count=500, returns=0.2, poison=0.2):
        if planned.kind == "poison":
            with pytest.raises(Malformed):
                decoded(planned)
        else:
            assert decoded(planned).event == planned.event


def test_the_intended_instant_is_in_the_event_and_repaid_at_a_little_before() -> None:
    first_seen = set()
    for planned in load(count=500, returns=0.2, spacing="poisson"):
        assert planned.event is not None
        if planned.event.event_id in first_seen:
            continue
        first_seen.add(planned.event.event_id)
        ahead = START + timedelta(seconds=planned.at_seconds) - planned.event.occurred_at
        assert timedelta() <= ahead < timedelta(milliseconds=1)
        if planned.kind == "report" and isinstance(planned.event, RepaymentReported):
            assert timedelta() < planned.event.occurred_at - planned.event.repaid_at < timedelta(seconds=1)


@pytest.mark.parametrize("spacing", ["even", "poisson"])
def test_a_load_keeps_its_rate_and_never_goes_back_in_time(spacing: str) -> None:
    instants = [planned.at_seconds for planned in load(rate=50.0, count=None, seconds=60.0, spacing=spacing)]
    assert instants == sorted(instants)
    reports = [planned for planned in load(rate=50.0, count=None, seconds=60.0, spacing=spacing) if planned.reference]
    assert reports[-1].at_seconds - reports[0].at_seconds == pytest.approx(60, rel=0.1)


def test_headers_are_those_a_billing_client_sends() -> None:
    for planned in [*load(count=50, returns=0.5), *planned_by("out_of_order")]:
        assert planned.event is not None
        assert list(planned.headers) == billing_headers(planned.event, "billing")


def test_as_fast_as_possible_has_no_instants() -> None:
    assert {planned.at_seconds for planned in load(rate=None, count=100)} == {0.0}


def test_repayments_of_a_load_can_never_exceed_the_debt() -> None:
    asked = Load(seed=1, run="r1", accounts=2, count=50)
    debts = [each.event.amount_minor for each in accounts_plan(asked)(START) if isinstance(each.event, PurchasePosted)]
    assert debts == [50 * AMOUNT_MAX_MINOR] * 2
    amounts = [each.amount_minor for each in events(repayments_plan(asked)(START), RepaymentReported)]
    assert max(amounts) <= AMOUNT_MAX_MINOR


def test_a_load_is_generated_as_it_is_sent() -> None:
    endless = Load(seed=1, run="r1", accounts=10, rate=None, count=10**9)
    assert len(list(islice(load_plan(endless)(START), 100))) == 100


@pytest.mark.parametrize(
    "wrong",
    [{"count": None}, {"seconds": 1.0}, {"rate": None, "count": None, "seconds": 1.0}, {"rate": 0.0}, {"poison": 2}],
)
def test_a_load_that_cannot_be_played_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"load|need|shares"):
        load(**wrong)


def test_the_ledger_counts_each_acknowledged_message_by_what_it_was() -> None:
    ledger = Ledger()
    messages = [planned for name in ("duplicate", "conflict", "poison", "out_of_order") for planned in planned_by(name)]
    for planned in messages:
        ledger.acknowledge(planned)
    sent = ledger.sent()
    assert (sent.messages, sent.reports, sent.distinct_repayments) == (len(messages), 8, 5)
    assert (sent.duplicates, sent.conflicts, sent.returns, sent.poison) == (2, 1, 1, 2)
    assert len(sent.acknowledged) == 5
    assert sent.returned < sent.acknowledged


class Broker:
    """Keeps what producers send; producers connected before ``heals_at`` messages were tried fail for good."""

    def __init__(self, heals_at: int, unreachable: int = 0) -> None:
        self.kept: list[tuple[bytes, bytes, bytes]] = []
        self.tried_count = 0
        self.heals_at = heals_at
        self.unreachable = unreachable
        self.producers: list[Producer] = []

    def producer_of(self, settings: Settings, client_id: str) -> "Producer":
        self.producers.append(Producer(self))
        return self.producers[-1]


class Producer:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.stopped = False

    async def start(self) -> None:
        if self.broker.unreachable:
            self.broker.unreachable -= 1
            raise KafkaConnectionError

    async def stop(self) -> None:
        self.stopped = True

    async def send(
        self, topic: str, *, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[None]":
        self.broker.tried_count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self is self.broker.producers[0] and self.broker.tried_count > self.broker.heals_at:
            future.set_exception(OutOfOrderSequenceNumber())
        else:
            self.broker.kept.append((key, dict(headers).get("ce_id", b""), value))
            future.set_result(None)
        return future


def play_all(monkeypatch: pytest.MonkeyPatch, broker: Broker, give_up_seconds: float = 60) -> Sent:
    monkeypatch.setattr(send, "producer_of", broker.producer_of)
    monkeypatch.setattr(send, "BACKOFF_SECONDS", (0.01,))
    plan = load_plan(Load(seed=1, run="r1", accounts=5, rate=None, count=400))
    return asyncio.run(play(SETTINGS, plan, give_up_seconds=give_up_seconds))


def test_what_a_broken_producer_left_is_sent_again_with_the_same_ids_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = Broker(heals_at=10**9), Broker(heals_at=100)
    sent = play_all(monkeypatch, whole)
    again = play_all(monkeypatch, broken)
    assert again.retried > 0
    assert (again.messages, again.acknowledged) == (sent.messages, sent.acknowledged)
    identities = [{(key, identity) for key, identity, _ in broker.kept} for broker in (whole, broken)]
    assert identities[0] == identities[1]
    assert len(broken.kept) == len(whole.kept)
    assert [producer.stopped for producer in broken.producers] == [True, True]


def test_sending_starts_once_kafka_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(heals_at=10**9, unreachable=3)
    assert play_all(monkeypatch, broker).distinct_repayments == 400
    assert [producer.stopped for producer in broker.producers] == [True] * 4


def test_sending_is_given_up_when_kafka_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeliveryError, match=r"nothing acknowledged for 0\.05 s"):
        play_all(monkeypatch, Broker(heals_at=0, unreachable=10**9), give_up_seconds=0.05)


def test_an_unknown_scenario_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["scenario", "nobody"])
    assert "invalid choice" in capsys.readouterr().err
