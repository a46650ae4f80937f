"""Returns: what was restored or held is taken back, and what the replay gave to or took from other repayments."""

from schemas.reasons import Reason
from schemas.settlement import RepaymentReturned
from services.decision import Decision
from services.limit_release.facts import Scene, Taken
from services.limit_release.model import Journal, Repayment, State, Tranche
from services.limit_release.movements import PENDING, absorbed, cash_paid, charged, freed, leaves, reallocated, unjoined
from services.values import replace


def returned(scene: Scene, state: State, event: RepaymentReturned) -> Decision[State]:
    """Take back: VOID what was not restored, REVERSE what was; the ledger may go below 0 (R7, R8, R13, R24)."""
    known = state.repayment(event.repayment_id)
    if known.returned:
        return Decision(state, outcome="stale", reason="returned_before")
    charges = event.amount_minor - event.restorable_minor - event.credit_balance_minor
    state, freed_minor = freed(scene.profile, state, event, charges)
    state = charged(scene.profile, cash_paid(state, event.parts, 1), charges - freed_minor, known.repaid_at)
    repayment = replace(known, returned=True)
    if not known.joined:
        state = unjoined(state, -event.credit_balance_minor)
    if not repayment.assessed:
        state = _replayed(scene, state.put(repayment), event, freed_minor)
        return Decision(state, reason="waits_for_its_assessment")
    state, repayment = _undone(state, repayment, event)
    own = len(state.account.journals)
    state = _replayed(scene, state.put(repayment), event, freed_minor)
    taken = Taken(
        from_hold_minor=known.part(*PENDING),
        from_available_minor=max(0, known.part("restored") + known.reallocated_available_minor),  # one is still to come
        reallocated_minor=_moved(state, own, "REALLOCATE"),
        uncovered_minor=-_moved(state, own, "ABSORB", "UNCOVER"),
    )
    reasons: tuple[Reason, ...] = (event.return_class,)
    state, repayment, record = scene.recorded(
        state, repayment, "reversed", reasons, taken_back=taken.from_available_minor
    )
    return Decision(state, (scene.reversed(state, repayment, event, record, taken),))


def _undone(state: State, repayment: Repayment, event: RepaymentReturned) -> tuple[State, Repayment]:
    """Undo every tranche, what replays gave past the tranches, and the credit balance."""
    for tranche in repayment.tranches.values():
        state, repayment = _taken_back(state, repayment, tranche)
    past = repayment.reallocated_available_minor
    if past:
        ref = f"{event.event_id}:{event.repayment_id}"
        state = state.book(Journal("REALLOCATE", ref, available_minor=-past, used_debt_minor=past))
    return replace(state, account=leaves(state.account, repayment)), repayment


def _taken_back(state: State, repayment: Repayment, tranche: Tranche) -> tuple[State, Repayment]:
    amount, ref = tranche.amount_minor, f"{tranche.repayment_id}:{tranche.number}"
    if tranche.state in PENDING:
        entry = Journal("VOID", ref, used_debt_minor=amount, pending_minor=-amount)
        return state.book(entry), repayment.put(tranche.to("voided"))
    if tranche.state == "restored":
        entry = Journal("REVERSE", ref, available_minor=-amount, used_debt_minor=amount)
        return state.book(entry), repayment.put(tranche.to("reversed"))
    return state, repayment


def _replayed(scene: Scene, state: State, event: RepaymentReturned, freed_minor: int) -> State:
    state = reallocated(scene.profile, state, event.reallocated, event.event_id)
    known = state.repayments[event.repayment_id]
    held_minor = event.credit_balance_minor if known.assessed and not known.joined else 0
    return absorbed(scene.profile, state, event, freed_minor, held_minor)


def _moved(state: State, since: int, *kinds: str) -> int:
    """Return what entries of ``kinds`` after the first ``since`` added to AVAILABLE, minor units."""
    return sum(j.available_minor for j in state.account.journals[since:] if j.kind in kinds)
