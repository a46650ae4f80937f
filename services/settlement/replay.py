"""Facts in value order: one more at the end, or all of them again when one came late or was taken back (R24)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, NamedTuple, assert_never

from schemas.ids import RepaymentId
from schemas.settlement import Reallocation
from services.policy import Profile, Waterfall
from services.settlement.model import RANKS, Account, Books, Cycle, Debt, Entry, Key, Latest, Repayment, drawn
from services.settlement.waterfall import Paid, absorbed, advanced, issued, lessened, merged, owing, pay, uncovered
from services.values import replace

LATE_DAYS: Final = 35
"""Facts younger than this stay replayable though no repayment is returnable: the longest a report may come late."""
KEPT_MAX: Final = 1_024
"""Facts an account replays at most; beyond it the oldest are folded though a repayment among them is returnable."""
FOLD_STEP: Final = 256
"""Facts that come in between two foldings."""
Fact = Entry | Repayment


class HistoryMissing(Exception):
    """A late fact needs the account's history and the store did not bring it: our own defect."""


class Replayed(NamedTuple):
    """What a fact did to the account, and to other repayments than ``of``: one net change each.

    ``principal_instead_minor`` is owed as principal where a reader of those changes would take it for charges,
    ``principal_beyond_minor`` is what they take of principal beyond what is owed of it, and pays charges;
    ``cash_moved_minor`` is added to the debt drawn in cash beside what the fact itself says of it.
    """

    state: Account
    reallocated: tuple[Reallocation, ...] = ()
    principal_instead_minor: int = 0
    cash_moved_minor: int = 0
    principal_beyond_minor: int = 0


class Moved(NamedTuple):
    """What facts add to the principal owed and to the credit balance by themselves, before either pays anything.

    ``charged_minor`` is what billing adds to charges, or takes off, which a reader of its topic does before anything
    else; what else they do to charges follows from the net debt.
    """

    principal_minor: int = 0
    balance_minor: int = 0
    charged_minor: int = 0


NOTHING: Final = Moved()


def told(profile: Profile, state: Account, entry: Entry) -> Replayed:
    """Book what billing told, in its place in value time."""
    state = replace(state, entries={**state.entries, entry.ref: entry})
    if late(state, entry.at):
        return replayed(profile, _counted(state, entry.at, 1), moved=_moved(entry))
    books = _entered(profile.waterfall, advanced(profile.waterfall, state.books, entry.day), entry, state.entries)
    after = replace(state, books=books, last_at=entry.at, kept=state.kept + 1)
    if entry.kind == "refund":
        return _with_instead(profile, Replayed(after), state.books, _moved(entry))
    return Replayed(after)


def repaid(profile: Profile, state: Account, repayment: Repayment, at: datetime, day: date) -> Replayed:
    """Let a repayment pay, in its place in value time; ``state.repayments`` holds what it paid, which is told.

    One in order moves no cash but what its portions say.
    """
    if late(state, at):
        paid_late = {**state.repayments, repayment.repayment_id: repayment}
        known = replace(state, repayments=paid_late, told=state.told + 1)
        done = replayed(profile, _counted(known, at, 1), of=repayment.repayment_id)
        return with_cash(state, done, -drawn(done.state.repayments[repayment.repayment_id].portions))
    books, paid = _paid(profile.waterfall, advanced(profile.waterfall, state.books, day), repayment.amount_minor)
    repayment = replace(
        repayment,
        portions=paid.portions,
        credit_balance_minor=paid.left_minor,
        restorable_minor=restorable(profile, paid.portions),
    )
    after = replace(
        state,
        books=books,
        last_at=at,
        kept=state.kept + 1,
        repayments={**state.repayments, repayment.repayment_id: repayment},
        latest=_latest(repayment),
        told=state.told + 1,
    )
    return Replayed(after)


def taken_back(profile: Profile, state: Account, repayment: Repayment) -> Replayed:
    """Undo a settled repayment: the books are what they would be without it (R24); its portions stay on its row, told.

    One that is folded undoes what it took where it took it, and what came after is replayed on that.
    """
    gone = replace(repayment, status="returned")
    state = replace(state, repayments={**state.repayments, repayment.repayment_id: gone}, told=state.told + 1)
    moved = Moved(repayment.restorable_now_minor, -repayment.credit_balance_minor)
    if repayment.folded:
        undone = _undone(profile.waterfall, state.base, repayment)
        return replayed(profile, replace(state, base=undone), moved=moved)
    return replayed(profile, replace(state, kept=state.kept - 1), moved=moved)


def passed(profile: Profile, state: Account, day: date, at: datetime) -> Account:
    """Let every day before ``day`` be over; ``at`` is that instant."""
    books = advanced(profile.waterfall, state.books, day)
    return replace(_counted(state, at, 0), books=books)


def with_cash(before: Account, done: Replayed, own_minor: int) -> Replayed:
    """Say what a fact adds to the debt drawn in cash beside ``own_minor``, which a reader knows from it (R20)."""
    moved = drawn(done.state.books.debts) - drawn(before.books.debts) - own_minor
    return done._replace(cash_moved_minor=moved) if moved else done


def late(state: Account, at: datetime) -> bool:
    """Return whether a fact of ``at`` belongs before or beside what the books know already."""
    return state.last_at is not None and at <= state.last_at


def replayed(profile: Profile, state: Account, of: str = "", moved: Moved = NOTHING) -> Replayed:
    """Let every fact that is not folded happen again in value order.

    ``of`` is the repayment that settles now; ``moved`` is what the fact that makes it necessary does by itself.
    """
    if not state.complete:
        raise HistoryMissing(state.account_id)
    facts = history(state)
    books, after = _happened(profile, state.base, facts, state.entries)
    books = advanced(profile.waterfall, books, state.books.day)
    repayments = dict(state.repayments)
    reallocated: list[Reallocation] = []
    for repayment in after:
        before = repayments[repayment.repayment_id]
        repayments[repayment.repayment_id] = _revised(profile, before, repayment, of)
        restored = repayments[repayment.repayment_id].restorable_now_minor - before.restorable_now_minor
        balance = repayment.credit_balance_minor - before.credit_balance_minor
        moved = Moved(moved.principal_minor - restored, moved.balance_minor + balance, moved.charged_minor)
        if repayment.repayment_id != of and (restored or balance):
            reallocated.append(Reallocation(RepaymentId(repayment.repayment_id), restored, balance))
    latest = _latest(after[-1]) if after else None
    done = Replayed(replace(state, books=books, repayments=repayments, latest=latest), tuple(reallocated))
    return _with_instead(profile, done, state.books, moved, settles=bool(of))


def _with_instead(profile: Profile, done: Replayed, before: Books, moved: Moved, *, settles: bool = False) -> Replayed:
    after = done.state.books
    instead = principal_instead(profile, before, after, moved)
    if not instead and (not settles or profile.limit_basis == "TOTAL"):
        return done
    beyond = -max(0, _left(before, moved)) - moved.principal_minor
    balance = before.credit_balance_minor + moved.balance_minor
    charges = after.owed() - after.credit_balance_minor + beyond + balance
    return done._replace(principal_instead_minor=instead, principal_beyond_minor=max(0, min(beyond, charges)))


def _left(before: Books, moved: Moved) -> int:
    """Return the principal that is left to a reader where charges taken off were paid: below 0 more was."""
    owed = before.owed("principal")
    return owed + min(0, before.owed() - owed + moved.charged_minor)


def principal_instead(profile: Profile, before: Books, after: Books, moved: Moved) -> int:
    """Return what is owed as principal where a reader of ``moved`` takes it for charges: it would be too much credit.

    A refund or a credit balance pays what it finds at its time, along the waterfall. Where charges do not use the limit
    (PRINCIPAL), limit-release lets a refund lessen principal and what is left over pay charges first: the net debt is
    the same. Never below 0: the other way less credit is available until it is repaid, whatever was read first (E7).
    The charges a reader is left with need not be reckoned: where money is left over for its principal they are paid,
    and of the same net debt no more than that can be principal here.
    """
    if profile.limit_basis == "TOTAL":
        return 0
    left = _left(before, moved)
    principal = max(0, left) + moved.principal_minor
    uncovered = left + moved.principal_minor - before.credit_balance_minor - moved.balance_minor
    return max(0, after.owed("principal") - max(0, principal, uncovered))


def _revised(profile: Profile, before: Repayment, after: Repayment, of: str) -> Repayment:
    """Keep what was told of a repayment and note what changed; the one that settles now is told as it is."""
    now = restorable(profile, after.portions)
    if after.repayment_id == of:
        return replace(after, restorable_minor=now)
    if after.portions == before.portions:
        return before
    return replace(after, reallocated_minor=now - after.restorable_minor)


def _moved(entry: Entry) -> Moved:
    """Return what an entry does by itself."""
    match entry.kind:
        case "purchase":
            return Moved(entry.amounts[0])
        case "refund":
            return Moved(-entry.amounts[0])
        case "payout":
            return Moved(balance_minor=-entry.amounts[0])
        case "charges":
            return Moved(charged_minor=sum(entry.amounts))
        case "statement":
            return NOTHING
        case _:
            assert_never(entry.kind)


def history(state: Account) -> list[Fact]:
    """Return the facts that are not folded, in value order."""
    facts: list[Fact] = [entry for entry in state.entries.values() if not entry.folded]
    facts += [one for one in state.repayments.values() if one.status == "settled" and not one.folded]
    return sorted(facts, key=key_of)


def charges(debts: Iterable[Debt]) -> int:
    """Return what of debts is charges, in minor units."""
    return sum([debt.amount_minor for debt in debts if debt.component != "principal"])


def charges_settled(state: Account) -> int:
    """Return what of the charges not folded was paid by refunds and credit balance, by no repayment, in minor units."""
    left = charges(state.base.debts) - charges(state.books.debts)
    for fact in history(state):
        if isinstance(fact, Repayment):
            left -= charges(fact.portions)
        elif fact.kind == "charges":
            left += sum(fact.amounts)
    return max(0, left)


def trimmed(profile: Profile, state: Account, today: date) -> Account:
    """Fold what no return and no late report can reach any more; decide() asks when enough has come together."""
    if not state.complete or state.last_at is None:
        return state
    facts = history(state)
    horizon = state.last_at - timedelta(days=LATE_DAYS)
    repayments = [fact for fact in facts if isinstance(fact, Repayment)]
    returnable = (key_of(fact)[0] for fact in repayments if fact.final_on is not None and fact.final_on >= today)
    horizon = min((horizon, *returnable))
    fold = max(sum(key_of(fact)[0] < horizon for fact in facts), len(facts) - KEPT_MAX)
    kept = replace(state, kept=len(facts) - fold, fold_at=len(facts) - fold + FOLD_STEP)
    return _folded(profile, kept, facts[:fold])


def _folded(profile: Profile, state: Account, facts: Sequence[Fact]) -> Account:
    """Make ``facts`` part of the base."""
    base, _ = _happened(profile, state.base, facts, state.entries)
    entries = {fact.ref: replace(fact, folded=True) for fact in facts if isinstance(fact, Entry)}
    paid = {fact.repayment_id: replace(fact, folded=True) for fact in facts if isinstance(fact, Repayment)}
    return replace(state, base=base, entries={**state.entries, **entries}, repayments={**state.repayments, **paid})


def key_of(fact: Fact) -> Key:
    """Return the place of a fact in value time.

    A later instant never has an earlier local day, so this is credited_on, then repaid_at, then repayment_id (R24).
    """
    if isinstance(fact, Entry):
        return fact.at, RANKS["correction" if fact.kind == "charges" and min(fact.amounts) < 0 else fact.kind], fact.ref
    return fact.repaid_at or datetime.max.replace(tzinfo=UTC), RANKS["repayment"], fact.repayment_id


def restorable(profile: Profile, portions: Sequence[Debt]) -> int:
    """Return what may become credit again: the principal part, or the whole debt part (R2)."""
    whole, total = profile.limit_basis == "TOTAL", 0
    for portion in portions:
        if whole or portion.component == "principal":
            total += portion.amount_minor
    return total


def _happened(
    profile: Profile, books: Books, facts: Iterable[Fact], entries: Mapping[str, Entry]
) -> tuple[Books, list[Repayment]]:
    """Let facts happen to ``books`` one after the other; return the books and what each repayment paid."""
    paid: list[Repayment] = []
    for fact in facts:
        if isinstance(fact, Entry):
            books = _entered(profile.waterfall, advanced(profile.waterfall, books, fact.day), fact, entries)
        else:
            books = advanced(profile.waterfall, books, fact.credited_on or books.day)
            books, done = _paid(profile.waterfall, books, fact.amount_minor)
            paid.append(replace(fact, portions=done.portions, credit_balance_minor=done.left_minor))
    return books, paid


def _paid(waterfall: Waterfall, books: Books, amount_minor: int) -> tuple[Books, Paid]:
    """Pay debts with a repayment; what nobody is owed is credit balance (R5)."""
    minimum = books.cycles[0].left_minor if books.cycles else 0
    paid = pay(waterfall, books.debts, amount_minor, minimum)
    debt = amount_minor - paid.left_minor
    cycles = books.cycles and tuple([Cycle(due_on, max(0, left - debt)) for due_on, left in books.cycles])
    balance = books.credit_balance_minor + paid.left_minor
    return Books(paid.debts, balance, cycles, books.day), paid


def _undone(waterfall: Waterfall, books: Books, repayment: Repayment) -> Books:
    """Give every debt back what a repayment took, in mirror order, and take its part of the credit balance."""
    owed = books._replace(debts=merged((*books.debts, *reversed(repayment.portions))))
    return uncovered(waterfall, owed, repayment.credit_balance_minor)


def _entered(waterfall: Waterfall, books: Books, entry: Entry, entries: Mapping[str, Entry]) -> Books:
    """Let what billing told happen."""
    match entry.kind:
        case "purchase":
            return owing(waterfall, books, _bought(entry))
        case "charges":
            return _charged(waterfall, books, entry.amounts)
        case "refund":
            purchase = entries.get(f"purchase:{entry.subject}")
            if purchase is not None and key_of(purchase) > key_of(entry):
                purchase = None  # What happens later cannot say what happens now, however early it was heard.
            return lessened(waterfall, books, entry.amounts[0], _refund_order(waterfall, books.debts, entry, purchase))
        case "statement":
            due, minimum = entry.amounts
            return issued(waterfall, books, due, Cycle(entry.due_on or entry.day, minimum))
        case "payout":
            return uncovered(waterfall, books, entry.amounts[0])
        case _:
            assert_never(entry.kind)


def _bought(entry: Entry) -> Sequence[Debt]:
    """Return the principal of a purchase: whole, or an instalment each."""
    whole, *parts = entry.amounts
    if not parts:
        return (Debt("in_advance", "principal", whole, entry.plan, entry.apr_bps),)
    place = (entry.plan, entry.apr_bps, None, entry.subject)
    return [Debt("in_advance", "principal", part, *place, n, len(parts)) for n, part in enumerate(parts, start=1)]


def _charged(waterfall: Waterfall, books: Books, amounts: Sequence[int]) -> Books:
    """Add charges; a correction cancels the youngest first, and what was paid already is the customer's again."""
    names: tuple[Literal["penalty", "fee", "interest"], ...] = ("penalty", "fee", "interest")
    for name, amount in zip(names, amounts, strict=True):
        if amount > 0:
            books = books._replace(debts=merged((*books.debts, Debt("in_advance", name, amount))))
        elif amount < 0:
            ages = ("in_advance", "due", "past_due")
            found = [i for age in ages for i, d in enumerate(books.debts) if (d.standing, d.component) == (age, name)]
            books = lessened(waterfall, books, -amount, found)
    return absorbed(waterfall, books)


def _refund_order(waterfall: Waterfall, debts: Sequence[Debt], entry: Entry, purchase: Entry | None) -> list[int]:
    """Return which debts a refund cancels: its instalments from the last backward, or the oldest due first (R21)."""
    order = sorted(range(len(debts)), key=lambda i: (debts[i].due_on or date.max, debts[i].number))
    if waterfall.refund == "last_instalment_first":
        order.reverse()
    if purchase is not None and len(purchase.amounts) > 1:
        return [i for i in order if debts[i].purchase_id == entry.subject]
    same = (purchase.plan, purchase.apr_bps) if purchase else None
    plain = [i for i in order if debts[i].component == "principal" and not debts[i].purchase_id]
    return [i for i in plain if same in (None, (debts[i].plan, debts[i].apr_bps))]


def _counted(state: Account, when: datetime, facts: int) -> Account:
    last = when if state.last_at is None else max(state.last_at, when)
    return replace(state, last_at=last, kept=state.kept + facts)


def _latest(repayment: Repayment) -> Latest | None:
    if repayment.method is None or repayment.repaid_at is None:
        return None
    return Latest(repayment.repayment_id, repayment.method, repayment.repaid_at)
