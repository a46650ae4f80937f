"""What moves beside restorations: a credit balance, what a replay changed (R24), cash within its limit (R20)."""

from collections.abc import Iterable
from datetime import datetime

from schemas.account import CASH
from schemas.settlement import Part, Reallocation, RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.limit_release.heard import Billed
from services.limit_release.model import Account, Journal, Repayment, State, Tranche
from services.policy import Profile
from services.values import replace

Told = RepaymentSettled | RepaymentReturned | RepaymentsReallocated
PENDING = ("held", "parked", "lapsed")
"""The states of a tranche whose amount is in PENDING_RELEASE."""


def joins(state: State, repayment: Repayment) -> tuple[State, Repayment]:
    """Make an overpayment the customer's, only when the repayment's last hold is over (domain 4.3)."""
    if repayment.joined or repayment.waiting:
        return state, repayment
    account = state.account
    if repayment.balance_minor:
        ref, balance = f"joins:{repayment.repayment_id}", repayment.balance_minor
        account = replace(account, unjoined_minor=account.unjoined_minor - balance).balanced(balance, ref)
        account = agreed(account, ref)
    return state.after(account), replace(repayment, joined=True)


def leaves(account: Account, repayment: Repayment) -> Account:
    """Take a returned overpayment out of the credit balance, which may be below 0 until it is uncovered."""
    if not repayment.joined:
        return account
    return replace(account, credit_balance_minor=account.credit_balance_minor - repayment.balance_minor)


def reallocated(profile: Profile, state: State, changes: Iterable[Reallocation], cause: str) -> State:
    """Book what a replay changed for other repayments; what is not assessed yet is changed when it is.

    Of one whose return was read first only charges are left to move: the return told what it paid of them at last.
    The credit balance may be below 0 after it: the caller lets it be absorbed.
    """
    for change in changes:
        known = state.repayment(change.repayment_id)
        # Charges move first: what joins the credit balance pays at once, and pays them before principal.
        state, kept = _kept(state, known, change)
        paid = change.restorable_delta_minor + change.credit_balance_delta_minor - kept
        state = charged(profile, state, paid, known.repaid_at)
        if not known.joined:
            state = unjoined(state, change.credit_balance_delta_minor)
        if not known.returned:
            state = _changed(state, known, change, cause)
    return state


def unjoined(state: State, change_minor: int) -> State:
    """Follow what settlement says of overpayments that did not join the credit balance here."""
    if not change_minor:
        return state
    account = state.account
    return state.after(replace(account, unjoined_minor=account.unjoined_minor + change_minor))


def followed(profile: Profile, account: Account, event: Billed) -> Account:
    """Follow what billing told of the debt, for what settlement says of it (PRINCIPAL, E7)."""
    if profile.limit_basis == "TOTAL":
        return account
    return agreed(replace(account, heard=account.heard.billed(event)), event.event_id)


def agreed(account: Account, ref: str) -> Account:
    """Owe as principal what is owed of charges here above what settlement says, once both have read the same (E7).

    What it let a held overpayment pay may be owed here until that joins; what a repayment pays, until its verdict is
    read: so no more is moved than it says of principal. Where less is owed of charges here, and less credit is
    available, nothing is moved.
    """
    owed = account.heard.now
    if owed is None:
        return account
    more = min(account.charges_minor - owed.charges_minor - max(0, account.unjoined_minor), owed.principal_minor)
    if more <= 0:
        return account
    entry = Journal("REALLOCATE", f"{ref}:agreed", available_minor=-more, used_debt_minor=more)
    charges, corrected = account.charges_minor - more, max(0, account.corrected_minor - more)
    return replace(account.book(entry), charges_minor=charges, corrected_minor=corrected)


def absorbed(profile: Profile, state: State, event: Told, freed_minor: int = 0, held_minor: int = 0) -> State:
    """Let a credit balance pay, then owe as principal what settlement says is not owed as charges (PRINCIPAL, E7).

    ``freed_minor`` of that is principal again already. What is returned of an overpayment that was held here until now
    is ``held_minor``. What settlement says of cash beside purchases and parts is followed, too (R20).
    """
    ref, beyond = event.event_id, _beyond(state, event)
    instead = max(0, event.principal_instead_minor - freed_minor) + beyond
    account = state.account if beyond else state.account.absorbed(ref)
    if held_minor and isinstance(event, RepaymentReturned):
        # Settlement let it pay charges, and they are not owed again: refunds pay them, and principal is left instead.
        more = account.charges_minor - instead - event.charges_owed_minor
        instead += max(0, min(held_minor, event.charges_settled_minor, more))
    if event.cash_moved_minor:
        account = replace(account, cash_used_minor=account.cash_used_minor + event.cash_moved_minor)
    if profile.limit_basis == "TOTAL":
        return state.after(account)
    if instead:
        entry = Journal("REALLOCATE", ref, available_minor=-instead, used_debt_minor=instead)
        left = max(0, account.corrected_minor - instead)
        account = replace(account.book(entry), corrected_minor=left).charged(-instead, None).absorbed(f"{ref}:instead")
    return state.after(agreed(replace(account, heard=account.heard.said(event.owed)), ref))


def _beyond(state: State, event: Told) -> int:
    """Return what was taken of principal beyond what is owed by what is not booked here yet: until then it is owed."""
    if isinstance(event, RepaymentReturned) or not event.principal_beyond_minor:
        return 0
    if isinstance(event, RepaymentsReallocated):
        early = event.refund_id is not None and event.refund_id not in state.account.booked
        return event.principal_beyond_minor if early else 0
    known = state.repayment(event.repayment_id)
    return 0 if known.assessed or known.returned else event.principal_beyond_minor


def charged(profile: Profile, state: State, change_minor: int, repaid_at: datetime | None) -> State:
    """Follow what repayments pay of charges where those do not use the limit (PRINCIPAL)."""
    if not change_minor or profile.limit_basis == "TOTAL":
        return state
    account = state.account.charged(change_minor, repaid_at)
    left = max(0, account.corrected_minor - max(0, change_minor))
    return replace(state, account=replace(account, corrected_minor=left))


def freed(profile: Profile, state: State, event: RepaymentReturned, charges_minor: int) -> tuple[State, int]:
    """Take back what charges billing took off had freed, where the return takes what had paid them: nothing did then.

    Settlement may not know yet that they were taken off. What it does know it moved past the repayment's charges, and
    tells, though that may be read later. Return how much of the charges is not owed again.
    """
    account, known = state.account, state.repayments.get(event.repayment_id)
    untold = max(0, known.charges_minor - charges_minor) if known else 0
    back = charges_minor + sum(one.restorable_delta_minor + one.credit_balance_delta_minor for one in event.reallocated)
    amount = max(0, min(account.corrected_minor - untold, charges_minor, back))
    if not amount or profile.limit_basis == "TOTAL":
        return state, 0
    return state.after(account.uncorrected(amount)), amount


def _kept(state: State, known: Repayment, change: Reallocation) -> tuple[State, int]:
    """Give a held overpayment back what it had paid of charges billing took off: it is no credit balance yet (E7).

    What a correction puts into the credit balance pays principal at once. Were the charges owed again instead, they
    would stay in its place, and use no credit. Return how much it is beside the state.
    """
    account, delta = state.account, change.credit_balance_delta_minor
    kept = max(0, min(account.corrected_minor, delta, delta + change.restorable_delta_minor))
    if not kept or known.joined or known.returned:
        return state, 0
    return state.after(account.uncorrected(kept)), kept


def _changed(state: State, known: Repayment, change: Reallocation, cause: str) -> State:
    repayment = replace(
        known,
        reallocated_minor=known.reallocated_minor + change.restorable_delta_minor,
        reallocated_balance_minor=known.reallocated_balance_minor + change.credit_balance_delta_minor,
    )
    if not known.assessed:
        return state.put(repayment)
    ref = f"{cause}:{repayment.repayment_id}"
    state, repayment = shifted(state, repayment, change.restorable_delta_minor, ref)
    if known.joined:
        balance = state.account.credit_balance_minor + change.credit_balance_delta_minor
        state = replace(state, account=replace(state.account, credit_balance_minor=balance))
    else:
        state, repayment = joins(state, repayment)
    return state.put(repayment)


def shifted(state: State, repayment: Repayment, change_minor: int, ref: str) -> tuple[State, Repayment]:
    """Give to, or take from, the tranches that are pending, last first; the rest is AVAILABLE's: one journal."""
    if not change_minor:
        return state, repayment
    left, moved = change_minor, []
    for _, tranche in sorted(repayment.tranches.items(), reverse=True):
        if left and tranche.state in PENDING:
            part = max(left, -tranche.amount_minor)
            moved.append(_resized(tranche, tranche.amount_minor + part))
            left -= part
    entry = Journal(
        "REALLOCATE", ref, available_minor=left, used_debt_minor=-change_minor, pending_minor=change_minor - left
    )
    past = repayment.reallocated_available_minor + left
    return state.book(entry), replace(repayment.put(*moved), reallocated_available_minor=past)


def _resized(tranche: Tranche, amount_minor: int) -> Tranche:
    return replace(tranche, amount_minor=amount_minor) if amount_minor else tranche.to("voided", amount_minor=0)


def cash_paid(state: State, parts: Iterable[Part], sign: int) -> State:
    """Follow what repayments pay of the debt drawn in cash; below 0 while a purchase is read after its repayment."""
    paid = sum(part.amount_minor for part in parts if part.plan == CASH)
    if not paid:
        return state
    used = state.account.cash_used_minor + sign * paid
    return replace(state, account=replace(state.account, cash_used_minor=used))
