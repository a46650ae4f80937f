"""What billing, customers and reviewers do in one seed: lives of accounts, told with duplicates, swaps and poison."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from schemas import account, repayment, review
from schemas.event import MILLISECOND, BillingEvent, Event, to_millisecond
from schemas.ids import AccountId, EventId, RepaymentId, event_id, repayment_id
from schemas.reasons import AccountStatus
from schemas.topics import TOPIC_OF, TYPE_OF
from services.billing_simulator.headers import billing_headers
from services.runtime.codec import encode
from services.runtime.publisher import partition_of

if TYPE_CHECKING:
    from tests.simulation.world import World

SOURCE = "core"
PRODUCTS = ("default", "default", "jd_baitiao", "tencent_fenfu", "ant_huabei", "discover_it")
REVERSIBLE = ("direct_debit", "card", "cheque")
RAILS = ("wallet", "wallet", "direct_debit", "direct_debit", "direct_debit", "card", "instant_transfer", "unknown")
CODES = ("R01", "R02", "R10", "R99")
WORDS = (account.AccountStatusChanged, account.CreditLimitChanged)
"""Of these the latest counts, whatever the order in which they are heard."""
HEADERS: dict[type[Event], tuple[tuple[str, bytes], ...]] = {}
Life = Iterator[float]
"""Steps of one life, each with the seconds it waits at least before the next one."""
SOON = 0.0
NOT_YET = -0.35
"""Nothing happened: look again after so long."""
Fields = dict[str, Any]


@dataclass
class Taken:
    """A repayment billing took; what it reports of it never changes."""

    ref: str
    account_id: str
    amount_minor: int
    rail: str
    method: repayment.Method
    repaid_at: datetime
    reported: bool = False
    returned: bool = False
    contradicted: bool = False


@dataclass
class Customer:
    """One account as billing knows it."""

    account_id: AccountId
    product: str
    currency: str
    limit: int
    opened: bool = False
    status: AccountStatus = "active"
    changed_at: datetime | None = None
    taken: list[Taken] = field(default_factory=list)


class Billing:
    """Every producer outside the pipeline; ``accepted`` is what it must end up knowing."""

    def __init__(self, world: "World") -> None:
        self.world, self.chance = world, world.chance
        self.numbers = 0
        self.customers = [self._customer(n) for n in range(self.chance.choice((1, 1, 2, 2)))]
        self.sent: list[tuple[str, int, bytes, bytes, Any]] = []
        self.withheld: list[tuple[str, int, bytes, bytes, Any]] = []
        self.facts: dict[str, set[str]] = {}
        self.succeeded: dict[str, Taken] = {}
        self.contradictions: set[str] = set()
        self.lives: list[tuple[float, Life]] = []
        for customer in self.customers:
            if self.chance.random() < 0.85:
                self._open(customer)
            self.lives += [
                (0.0, self.chance.choice(LIVES)(self, customer)) for _ in range(self.chance.choice((1, 1, 2)))
            ]

    def _customer(self, n: int) -> Customer:
        product = self.chance.choice(PRODUCTS)
        currency = "USD" if product == "discover_it" else "CNY"
        limit = self.chance.choice((100_000, 600_000, 600_000, 1_000_000))
        return Customer(AccountId(f"acct_{n}"), product, currency, limit)

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def act(self) -> bool:
        """Do the next thing of some life, or something nobody meant; tell whether anything happened."""
        draw = self.chance.random()
        if draw < 0.07 and self.sent:
            self.world.situations["told_again"] += 1
            self._append(self.chance.choice(self.sent))
        elif draw < 0.10:
            self._poison()
        elif draw < 0.14:
            self._report_again()
        else:
            return self._live()
        return True

    def _live(self) -> bool:
        """Go on with the first life that does not wait; begin another when all are over."""
        if not self.lives:
            self.lives.append((0.0, self.chance.choice(LIVES)(self, self.chance.choice(self.customers))))
        elif self.chance.random() < 0.3:
            self.chance.shuffle(self.lives)
        now = self.world.loop.seconds
        for n, (ready_at, life) in enumerate(self.lives):
            if ready_at > now:
                continue
            wait = next(life, None)
            if wait is None:
                del self.lives[n]
                return True
            self.lives[n] = (now + abs(wait), life)
            return wait >= 0
        return False

    def finish(self) -> None:
        """Say what is still owed: accounts that were never opened, records held back, frozen ones active again."""
        for record in self.withheld:
            self._append(record)
        self.withheld = []
        for customer in self.customers:
            if not customer.opened:
                self._open(customer)
            if customer.status == "frozen":
                self.status(customer, "active", "reviewed")
        for record in self.withheld:
            self._append(record)
        self.withheld = []

    # What is said.

    def now(self) -> datetime:
        return to_millisecond(self.world.now())

    def say(self, event: Event) -> None:
        """Put an event on its topic; now and then on a partition of another partitioner, or after its neighbour."""
        topic = TOPIC_OF[type(event)].name
        edge = isinstance(event, BillingEvent)
        headers = self._headers(event) if edge else encode(event).headers()
        partition = partition_of(event.account_id, self.world.broker.partitions)
        ordered = isinstance(event, account.AccountOpened)
        if edge and not ordered and self.chance.random() < (0.5 if self.world.another_partitioner else 0.02):
            partition = self.chance.randrange(self.world.broker.partitions)
        record = (topic, partition, event.account_id.encode(), event.model_dump_json().encode(), headers)
        self.sent.append(record)
        if edge and not ordered and not self.withheld and self.chance.random() < 0.08:
            self.world.situations["swapped"] += 1
            if isinstance(event, WORDS):
                self.world.situations["word_told_late"] += 1
            self.withheld.append(record)
            return
        self._append(record)
        for late in self.withheld:
            self._append(late)
        self.withheld = []

    def _headers(self, event: Event) -> list[tuple[str, bytes]]:
        """Return billing's own headers; what is the same for every event of a type is made once."""
        kind = type(event)
        if kind not in HEADERS:
            HEADERS[kind] = tuple((n, v) for n, v in billing_headers(event, SOURCE) if n not in ("ce_id", "ce_subject"))
        return [*HEADERS[kind], ("ce_id", event.event_id.encode()), ("ce_subject", event.account_id.encode())]

    def _append(self, record: tuple[str, int, bytes, bytes, Any]) -> None:
        topic, partition, key, value, headers = record
        self.world.broker.append(topic, partition, key, value, headers)

    def _poison(self) -> None:
        """A record nobody can read, in the middle of the others."""
        self.world.situations["poison"] += 1
        topic = self.chance.choice(("billing.repayment.v1", "billing.account.v1"))
        kind = TYPE_OF[repayment.RepaymentReported if "repayment" in topic else account.PurchasePosted]
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_source", b"/core"),
            ("ce_id", f"poison-{self.number()}".encode()),
            ("ce_type", kind.encode()),
        ]
        value = self.chance.choice((b"\xff", b"{", b"{}", b'{"a":1,"a":2}'))
        self._append((topic, self.chance.randrange(self.world.broker.partitions), b"acct_0", value, headers))

    def base(self, customer: Customer, name: str) -> dict[str, Any]:
        at = self.now()
        return {"event_id": EventId(f"{name}-{self.number()}"), "account_id": customer.account_id, "occurred_at": at}

    def word(self, customer: Customer, name: str) -> dict[str, Any]:
        """Return the base of a word that replaces the one before; no two of an account are of one instant."""
        said = self.base(customer, name)
        if customer.changed_at is not None:
            said["occurred_at"] = max(said["occurred_at"], customer.changed_at + MILLISECOND)
        customer.changed_at = said["occurred_at"]
        return said

    def _open(self, customer: Customer) -> None:
        customer.opened = True
        language = self.chance.choice(("zh-CN", "en"))
        terms: Fields = {
            "credit_limit_minor": customer.limit,
            "currency": customer.currency,
            "product": customer.product,
        }
        place: Fields = {"language": language, "timezone": "Asia/Shanghai"}
        self.say(account.AccountOpened(**self.base(customer, "open"), **terms, **place))

    def status(self, customer: Customer, status: AccountStatus, reason: str) -> None:
        if customer.status == "closed":
            return
        if status == "frozen" and self.held(customer):
            self.world.situations["freeze_during_a_hold"] += 1
        customer.status = status
        said = self.word(customer, "status")
        self.say(account.AccountStatusChanged(**said, status=status, reason=reason))

    def buy(self, customer: Customer, amount: int, **more: Any) -> str:
        purchase_id = f"buy-{self.number()}"
        money: Fields = {"amount_minor": amount, "currency": customer.currency}
        self.facts.setdefault(customer.account_id, set()).add(f"purchase:{purchase_id}")
        self.say(account.PurchasePosted(**self.base(customer, "bought"), purchase_id=purchase_id, **money, **more))
        return purchase_id

    def charge(self, customer: Customer, fee: int, interest: int) -> None:
        event = account.ChargesAccrued(
            **self.base(customer, "charged"), currency=customer.currency, fee_minor=fee, interest_minor=interest
        )
        self.facts.setdefault(customer.account_id, set()).add(f"charges:{event.event_id}")
        self.say(event)

    def refund(self, customer: Customer, purchase_id: str, amount: int) -> None:
        ref = f"refund-{self.number()}"
        parts: Fields = {"to_debt_minor": amount, "to_payer_minor": 0, "currency": customer.currency}
        self.facts.setdefault(customer.account_id, set()).add(f"refund:{ref}")
        said = self.base(customer, "refunded")
        self.say(account.PurchaseRefunded(**said, refund_id=ref, purchase_id=purchase_id, **parts))

    def pay_out(self, customer: Customer, amount: int) -> None:
        ref = f"payout-{self.number()}"
        self.facts.setdefault(customer.account_id, set()).add(f"payout:{ref}")
        money: Fields = {"amount_minor": amount, "currency": customer.currency}
        self.say(account.CreditBalanceRefunded(**self.base(customer, "paid-out"), refund_id=ref, **money))

    def statement(self, customer: Customer, due: int) -> None:
        on = (self.now() + timedelta(days=self.chance.choice((1, 3, 20)))).date()
        owed: Fields = {
            "due_minor": due,
            "minimum_minor": max(1, due // 10),
            "due_on": on,
            "currency": customer.currency,
        }
        event = account.StatementIssued(**self.base(customer, "statement"), **owed)
        self.facts.setdefault(customer.account_id, set()).add(f"statement:{event.event_id}")
        self.say(event)

    def limit(self, customer: Customer, limit: int) -> None:
        customer.limit = limit
        said = self.word(customer, "limit")
        self.say(account.CreditLimitChanged(**said, credit_limit_minor=limit, currency=customer.currency))

    def link(self, customer: Customer, name: str) -> None:
        self.say(account.FundingAccountLinked(**self.base(customer, "link"), funding_account_id=name, verified=True))

    def authorise(self, customer: Customer, amount: int) -> str:
        ref = f"auth-{self.number()}"
        money: Fields = {"amount_minor": amount, "currency": customer.currency}
        self.say(account.AuthorisationPlaced(**self.base(customer, "authorised"), authorisation_id=ref, **money))
        return ref

    def let_go(self, customer: Customer, ref: str) -> None:
        self.say(account.AuthorisationReleased(**self.base(customer, "let-go"), authorisation_id=ref))

    def take(
        self, customer: Customer, amount: int, *, rail: str = "", method: repayment.Method = "auto", ago: float = 1
    ) -> Taken:
        """Take a repayment; it is not reported yet."""
        at = self.now() - timedelta(seconds=ago)
        rail = rail or self.chance.choice(RAILS)
        taken = Taken(f"ref-{self.number()}", customer.account_id, amount, rail, method, at)
        customer.taken.append(taken)
        return taken

    def _report(self, taken: Taken, customer: Customer, **changes: Any) -> dict[str, Any]:
        content = {"amount_minor": taken.amount_minor, "currency": customer.currency, "rail": taken.rail}
        return {**self.base(customer, "report"), "source": SOURCE, "external_ref": taken.ref, **content, **changes}

    def report(self, customer: Customer, taken: Taken, status: str = "succeeded", **changes: Any) -> None:
        if status == "succeeded" and not changes:
            taken.reported = True
            self.succeeded[repayment_id(SOURCE, taken.ref)] = taken
        how: dict[str, Any] = {"method": taken.method, "funding_account_id": "funding_1", "status": status}
        report = self._report(taken, customer, **changes)
        self.say(repayment.RepaymentReported(**report, **how, repaid_at=taken.repaid_at))

    def fail(self, customer: Customer, taken: Taken) -> None:
        report = self._report(taken, customer)
        self.say(repayment.RepaymentFailed(**report, method=taken.method, code="refused"))

    def give_back(self, customer: Customer, taken: Taken) -> None:
        taken.returned = True
        faults: tuple[repayment.Fault, ...] = ("payer", "payer", "issuer", "rail")
        fault = self.chance.choice(faults)
        code = self.chance.choice(CODES)
        report = self._report(taken, customer)
        self.say(repayment.RepaymentReturnReported(**report, code=code, fault=fault))

    def _report_again(self) -> None:
        """The same report under a new message id."""
        known = [(c, taken) for c in self.customers for taken in c.taken if taken.reported]
        if known:
            self.world.situations["reported_again"] += 1
            self.report(*self.chance.choice(known))

    def held(self, customer: Customer) -> list[tuple[str, int, int, datetime]]:
        """Return what a reviewer sees held for an account: repayment, tranche, amount and date."""
        rows = self.world.database.services["limit_release"].tables["tranche"].rows.values()
        return [(row[0], row[1], row[3], row[5]) for row in rows if row[2] == customer.account_id and row[4] == "held"]

    def review(self, customer: Customer, kind: str) -> None:
        """Let a reviewer extend a hold or end it, whole or in part."""
        held = self.held(customer)
        if not held:
            return
        at, number, amount, until = self.chance.choice(held)
        base: Fields = {
            "event_id": event_id(kind, at, str(self.number())),
            "account_id": customer.account_id,
            "occurred_at": self.now(),
            "caused_by": EventId("case-1"),
            "repayment_id": RepaymentId(at),
            "tranche": number,
            "actor": "reviewer_1",
            "reason": "looked",
        }
        if kind == "extend":
            self.say(review.HoldExtended(**base, until=until + timedelta(hours=self.chance.choice((5, 30)))))
            return
        part = self.chance.choice((None, None, amount // 2 or None))
        self.say(review.HoldReleaseApproved(**base, amount_minor=part))


# Lives: what happens to one account, in order; other lives and faults come in between.


def held(billing: Billing, customer: Customer) -> Life:
    """Wait until something is held, as somebody who acts on a hold does; not for ever."""
    for _ in range(8):
        if billing.held(customer):
            return
        yield NOT_YET


def _amount(billing: Billing, customer: Customer, *shares: float) -> int:
    return max(1_000, int(customer.limit * billing.chance.choice(shares)))


def repaid(billing: Billing, customer: Customer) -> Life:
    """Buy and repay, now and then more than is owed."""
    amount = _amount(billing, customer, 0.1, 0.4, 0.8)
    billing.buy(customer, amount)
    yield SOON
    taken = billing.take(customer, int(amount * billing.chance.choice((0.3, 1, 1.4))))
    if billing.chance.random() < 0.3:
        billing.report(customer, taken, "pending")
        yield SOON
        if billing.chance.random() < 0.4:
            billing.fail(customer, taken)
            return
    billing.report(customer, taken)


def returned_after_spending(billing: Billing, customer: Customer) -> Life:
    """Restored, spent again, and then taken back (R8)."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    taken = billing.take(customer, int(customer.limit * 0.8), rail="wallet")
    billing.report(customer, taken)
    yield 0.4
    billing.buy(customer, int(customer.limit * 0.7))
    yield 0.4
    billing.give_back(customer, taken)


def returned_when_partly_restored(billing: Billing, customer: Customer) -> Life:
    """A part restored at once, the rest held, all of it taken back (R7)."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    taken = billing.take(customer, int(customer.limit * 0.8), rail="direct_debit")
    billing.report(customer, taken)
    yield from held(billing, customer)
    billing.give_back(customer, taken)


def frozen_while_held(billing: Billing, customer: Customer) -> Life:
    """Held, frozen until after its date, active again (R23)."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    billing.report(customer, billing.take(customer, int(customer.limit * 0.8), rail="direct_debit"))
    yield from held(billing, customer)
    billing.status(customer, "frozen", billing.chance.choice(("overdue", "risk_review", "lost_card")))
    yield 0.4
    billing.world.jump(timedelta(days=billing.chance.choice((1, 4, 10))))
    yield 0.4
    billing.status(customer, "active", "reviewed")


def frozen_with_two_held(billing: Billing, customer: Customer) -> Life:
    """Two repayments held, frozen until after their dates, and both given back by one thaw (R23)."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    for _ in range(2):
        billing.report(customer, billing.take(customer, int(customer.limit * 0.4), rail="direct_debit"))
    yield from held(billing, customer)
    billing.status(customer, "frozen", "risk_review")
    yield 0.4
    billing.world.jump(timedelta(days=10))
    yield 0.4
    billing.status(customer, "active", "reviewed")


def limit_cut_while_held(billing: Billing, customer: Customer) -> Life:
    """The limit is cut while credit is held, and raised again (R18)."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    billing.report(customer, billing.take(customer, int(customer.limit * 0.7), rail="card"))
    yield from held(billing, customer)
    if billing.held(customer):
        billing.world.situations["limit_cut_during_hold"] += 1
    whole = customer.limit
    billing.limit(customer, whole // 2)
    yield SOON
    yield SOON
    billing.limit(customer, whole)


def reviewed(billing: Billing, customer: Customer) -> Life:
    """Held; a reviewer extends it, or ends it, whole or in part."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    billing.report(customer, billing.take(customer, int(customer.limit * 0.8), rail="direct_debit"))
    for _ in range(3):
        yield from held(billing, customer)
        yield 0.2
        billing.review(customer, billing.chance.choice(("extend", "extend", "release")))


def paid_twice(billing: Billing, customer: Customer) -> Life:
    """By hand and by debit for the same debt (R11)."""
    amount = _amount(billing, customer, 0.2, 0.5)
    billing.buy(customer, amount)
    yield SOON
    billing.report(customer, billing.take(customer, amount, rail="wallet", method="manual"))
    yield 0.4
    billing.report(customer, billing.take(customer, amount, method="auto"))
    yield 0.4
    if billing.chance.random() < 0.5:
        billing.pay_out(customer, amount // 2)


def reported_late(billing: Billing, customer: Customer) -> Life:
    """A repayment of an earlier value date is heard of after a later one, then one is taken back (R24)."""
    billing.charge(customer, 3_000, 12_000)
    billing.buy(customer, _amount(billing, customer, 0.3, 0.6))
    yield SOON
    earlier = billing.take(customer, 20_000, ago=86_400 * billing.chance.choice((0, 1)) + 30)
    later = billing.take(customer, 30_000)
    billing.report(customer, later)
    yield SOON
    billing.report(customer, earlier)
    yield SOON
    if billing.chance.random() < 0.6:
        billing.give_back(customer, billing.chance.choice((earlier, later)))


def returned_first(billing: Billing, customer: Customer) -> Life:
    """The return is heard of before the report (R12)."""
    billing.buy(customer, 50_000)
    yield SOON
    taken = billing.take(customer, 20_000)
    billing.give_back(customer, taken)
    yield SOON
    billing.report(customer, taken)


def contradicted(billing: Billing, customer: Customer) -> Life:
    """The same reference with another amount, or money of another currency (R10, R26)."""
    billing.buy(customer, 50_000)
    yield SOON
    taken = billing.take(customer, 20_000)
    billing.report(customer, taken)
    yield SOON
    billing.contradictions.add(taken.ref)
    taken.contradicted = True  # whichever billing is heard to say first counts
    billing.report(customer, taken, amount_minor=taken.amount_minor + 1)
    yield SOON
    billing.report(customer, billing.take(customer, 5_000), currency="EUR")


def authorised(billing: Billing, customer: Customer) -> Life:
    """A purchase approved, then posted for less, the same or more, or let go."""
    amount = _amount(billing, customer, 0.1, 0.3)
    ref = billing.authorise(customer, amount)
    yield SOON
    if billing.chance.random() < 0.3:
        billing.let_go(customer, ref)
        return
    billing.buy(customer, int(amount * billing.chance.choice((0.5, 1, 1.2))), authorisation_id=ref)


def billed(billing: Billing, customer: Customer) -> Life:
    """A statement, charges, a repayment that pays them first, the day after the due day."""
    billing.buy(customer, _amount(billing, customer, 0.2, 0.5))
    yield SOON
    billing.charge(customer, 500, 700)
    billing.statement(customer, _amount(billing, customer, 0.1))
    yield SOON
    billing.report(customer, billing.take(customer, 1_200))
    yield SOON
    billing.world.jump(timedelta(days=4))
    billing.charge(customer, -200, -100)


def refunded(billing: Billing, customer: Customer) -> Life:
    """A purchase in instalments, repaid in part and refunded; the rest is paid out."""
    part = _amount(billing, customer, 0.05)
    purchase_id = billing.buy(customer, part * 4, plan="instalment", instalments_minor=(part,) * 4)
    yield SOON
    billing.report(customer, billing.take(customer, part * 2))
    yield SOON
    billing.refund(customer, purchase_id, part * billing.chance.choice((2, 4)))
    yield SOON
    if billing.chance.random() < 0.4:
        billing.pay_out(customer, part)


def verified_later(billing: Billing, customer: Customer) -> Life:
    """The funding account is verified while credit is held: dates may only come earlier."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    billing.report(customer, billing.take(customer, int(customer.limit * 0.8), rail="direct_debit"))
    yield from held(billing, customer)
    billing.link(customer, "funding_1")


def cycled(billing: Billing, customer: Customer) -> Life:
    """Spent and repaid again and again (R15)."""
    for _ in range(4):
        billing.buy(customer, int(customer.limit * 0.9))
        yield SOON
        billing.report(customer, billing.take(customer, int(customer.limit * 0.9)))
        yield SOON


def closed(billing: Billing, customer: Customer) -> Life:
    """Closed with credit held."""
    billing.buy(customer, int(customer.limit * 0.9))
    yield SOON
    billing.report(customer, billing.take(customer, int(customer.limit * 0.7), rail="direct_debit"))
    yield from held(billing, customer)
    if billing.chance.random() < 0.5:
        billing.status(customer, "closed", "by_customer")


LIVES: tuple[Callable[[Billing, Customer], Life], ...] = (
    *(repaid,) * 2,
    *(returned_after_spending,) * 2,
    *(returned_when_partly_restored,) * 4,
    *(frozen_while_held,) * 4,
    *(frozen_with_two_held,) * 4,
    *(limit_cut_while_held,) * 7,
    *(reviewed,) * 6,
    *(paid_twice,) * 2,
    *(reported_late,) * 2,
    returned_first,
    contradicted,
    authorised,
    billed,
    refunded,
    *(verified_later,) * 6,
    cycled,
    *(closed,) * 2,
)
