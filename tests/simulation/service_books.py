"""The five services' own tables: what each store's reads find and its writes leave, with the checks of their DDL."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # no stub has it
from typing import Any

from services.limit_release import store as limit_release
from services.notifier import store as notifier
from services.repayment_ingest import store as repayment_ingest
from services.risk_scoring import store as risk_scoring
from services.risk_scoring.outcomes import Outcome
from services.settlement import store as settlement
from tests.simulation.runtime_books import Books
from tests.simulation.tables import RowTuple, Table, Values, check, jsonable, listing, restricted, zipped

STEPS_OF_A_LANE = {
    ("held", "lapsed"), ("held", "parked"), ("held", "restored"), ("held", "reversed"), ("held", "voided"),
    ("lapsed", "voided"),
    ("parked", "held"), ("parked", "lapsed"), ("parked", "restored"), ("parked", "reversed"), ("parked", "voided"),
    ("restored", "reversed"),
}  # fmt: skip
STEPS_OF_MONEY = {
    ("waiting", "settled"),
    ("waiting", "rejected"),
    ("settled", "returned"),
    ("returned_first", "rejected"),
}
JOURNAL_KINDS = ("POST", "PURCHASE", "REFUND")
WAITING = ("held", "parked")
_AGGREGATES = c_make_encoder(None, jsonable, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def aggregated(rows: Sequence[Any]) -> str | None:
    """Return what json_agg() makes of rows."""
    return "".join(_AGGREGATES(rows, 0)) if rows else None


def parsed(text: str | None) -> Any:
    """Return a jsonb value."""
    return None if text is None else json.loads(text)


def guard(table: Table, row: RowTuple, *, keep: Sequence[int] = ()) -> int:
    """Insert a row, or replace the one whose version is one less; return how many rows it was."""
    old = table.get(table.key_of(row))
    version = table.columns.index("version")
    if old is None:
        table.put(row)
        return 1
    if old[version] != row[version] - 1:
        return 0
    made = list(row)
    for n in keep:
        made[n] = old[n]
    table.put(tuple(made))
    return 1


def _only(row: dict[str, Any], columns: str) -> dict[str, Any]:
    return {name: row[name] for name in columns.split()}


class IngestBooks:
    """repayment-ingest: references and conflicts."""

    REFERENCE = "source external_ref account_id amount_minor currency rail kinds"
    CONFLICT = "event_id source external_ref account_id amount_minor currency rail kind differs received_at"

    def __init__(self, books: Books) -> None:
        self.reference = books.table("reference", self.REFERENCE, 2)
        self.conflict = books.table("conflict", self.CONFLICT, 1)
        books.serve(repayment_ingest.READS, repayment_ingest.WRITES, self)

    def read(self, values: Values, now: datetime) -> dict[str, Any]:
        found = [row for at in zipped(values[0:2]) if (row := self.reference.get(at)) is not None]
        return {"reported": aggregated([self.reference.named(row) for row in found])}

    def write(self, parts: Values, now: datetime) -> int:
        guarded = 0
        created, changed, conflicts = (listing(part) for part in parts[:3])
        for row in created:
            check(row[3] > 0, "reference_amount_minor_check")
            self.reference.insert(row)
        for source, external_ref, kinds, before in changed:
            old = self.reference.get((source, external_ref))
            if old is not None and old[6] == before:
                guarded += 1
                self.reference.put(self.reference.changed(old, kinds=kinds))
        for row in conflicts:
            if row[0] not in self.conflict.rows:
                self.conflict.insert((*row[:9], now))
        return guarded

    def check(self) -> None:
        """Every check is made where a row is written."""


class SettlementBooks:
    """settlement: accounts, facts, bases and the money lane."""

    ACCOUNT = (
        "account_id product currency buckets credit_balance_minor books last_at latest kept fold_at penalty_minor "
        "fee_minor interest_minor principal_minor version read_to told"
    )
    READ = "account_id product currency credit_balance_minor books last_at latest kept fold_at version read_to told"
    REPAYMENT = (
        "repayment_id account_id status amount_minor method repaid_at credited_on final_on portions penalty_minor "
        "fee_minor interest_minor principal_minor credit_balance_minor restorable_minor reallocated_minor folded"
    )
    SHORT = (
        "repayment_id account_id status amount_minor method repaid_at credited_on final_on portions "
        "credit_balance_minor restorable_minor reallocated_minor folded"
    )
    ENTRY = "account_id entry kind at day subject content folded"

    def __init__(self, books: Books) -> None:
        self.account = books.table("account", self.ACCOUNT, 1)
        self.repayment = books.table("repayment", self.REPAYMENT, 1)
        self.entry = books.table("entry", self.ENTRY, 2)
        self.base = books.table("base", "account_id books credit_balance_minor", 1)
        books.serve(settlement.READS, settlement.WRITES, self)

    def read(self, values: Values, now: datetime) -> dict[str, Any]:
        late = self._late(values)
        accounts = [row for at in listing(values[0]) if (row := self.account.get(at)) is not None]
        asked = [row for at in listing(values[4]) if (row := self.repayment.get(at)) is not None]
        asked += [row for row in self.repayment.rows.values() if row[1] in late and row[2] == "settled" and not row[16]]
        entries = [row for at in zipped(values[5:7]) if (row := self.entry.get(at)) is not None]
        unfolded = [row for row in self.entry.rows.values() if row[0] in late and not row[7]]
        bought = [self.entry.get((row[0], f"purchase:{row[5]}")) for row in unfolded if row[2] == "refund"]
        entries += [*unfolded, *(row for row in bought if row is not None)]
        short = self.SHORT.split()
        named = [self.repayment.named(row) for row in asked]
        return {
            "accounts": aggregated([_only(self.account.named(row), self.READ) for row in accounts]),
            "repayments": aggregated([{name: row[name] for name in short} for row in named]),
            "entries": aggregated([self.entry.named(row) for row in entries]),
            "bases": aggregated([self.base.named(self.base.rows[at]) for at in late if at in self.base.rows]),
            "late": late,
        }

    def _late(self, values: Values) -> list[str]:
        found = []
        for at, first_at, facts, late in zipped(values[0:4]):
            row = self.account.get(at)
            if row is None:
                continue
            before = first_at is not None and row[6] is not None and first_at <= row[6]
            if late or before or row[8] + facts >= row[9]:
                found.append(at)
        return found

    def write(self, parts: Values, now: datetime) -> int:
        guarded = 0
        accounts, repayments, entries, bases = (listing(part) for part in parts[:4])
        for row in accounts:
            self._check_account(row)
            made = (*row[:5], parsed(row[5]), row[6], parsed(row[7]), *row[8:])
            guarded += guard(self.account, made, keep=(1, 2))
        for row in repayments:
            self._keep_repayment((*row[:8], parsed(row[8]), *row[9:]))
        for row in entries:
            old = self.entry.get(row[:2])
            self.entry.put((*row[:6], parsed(row[6]), row[7]) if old is None else (*old[:7], row[7]))
        for at, books, balance in bases:
            check(balance >= 0, "base_credit_balance_minor_check")
            self.base.put((at, parsed(books), balance))
        return guarded

    @staticmethod
    def _check_account(row: RowTuple) -> None:
        buckets, balance, parts = row[3], row[4], row[10:14]
        check(len(buckets) == 12 and min(buckets) >= 0 and balance >= 0, "account_buckets_check")
        check(balance == 0 or not any(buckets), "account_check: a credit balance beside debt")
        sums = tuple(sum(buckets[n::4]) for n in range(4))
        check(sums == tuple(parts), "account_check: the parts of the buckets")

    def _keep_repayment(self, row: RowTuple) -> None:
        paid, balance, restorable, reallocated = row[9:13], row[13], row[14], row[15]
        check(min(*paid, balance, restorable) >= 0, "repayment_minor_check")
        check(0 <= restorable + reallocated <= row[3], "repayment_reallocated_minor_check")
        if row[2] in ("settled", "returned"):
            check(row[3] == sum(paid) + balance and None not in row[4:8], "repayment_check: parts of the amount")
        old = self.repayment.get(row[0])
        if old is not None:
            restricted(old[2] == row[2] or (old[2], row[2]) in STEPS_OF_MONEY, f"lane {old[2]} to {row[2]}")
            row = (row[0], old[1], *row[2:])
        self.repayment.put(row)

    def check(self) -> None:
        """Every check is made where a row is written."""


class RiskBooks:
    """risk-scoring: accounts, funding accounts, strikes, assessments, outcomes and what is exposed."""

    ACCOUNT = (
        "account_id credit_limit_minor cycle_started_at settled_minor before_minor version limit_at product currency "
        "opened_at months score tier returned_at refused_at closed_at review_on reviews early"
    )
    ASSESSMENT = "repayment_id account_id funding_account_id assessed_at instant_minor hold held_until repaid_at"
    LATELY = ("account_id", "repayment_id", "repaid_at", "amount_minor")

    def __init__(self, books: Books) -> None:
        self.account = books.table("account", self.ACCOUNT, 1)
        self.funding = books.table("funding_account", "account_id funding_account_id verified linked_at", 2)
        self.strike = books.table("strike", "repayment_id account_id funding_account_id struck_at", 1)
        self.assessment = books.table("assessment", self.ASSESSMENT, 1)
        self.outcome = books.table("risk_outcome", " ".join(Outcome.__dataclass_fields__), 1)
        self.exposure = books.table("exposure", "account_id until_on from_on minor", 3)
        self.portfolio = books.table("portfolio_exposure", "product until_on from_on shard minor", 4)
        self.warning = books.table("warning", "account_id kind name at ended_at", 3)
        self.use = books.table("funding_use", "funding_account_id account_id first_at", 2)
        self.inbox = books.inbox
        books.serve(risk_scoring.READS, risk_scoring.WRITES, self)

    def read(self, values: Values, now: datetime) -> dict[str, Any]:
        accounts, whole, linked, named = (set(listing(found)) for found in values[0:4])
        found = [self.account.named(row) for at in accounts if (row := self.account.get(at)) is not None]
        kept = [
            self._kept(row[0], "funding", name=row[1], verified=row[2], at=row[3])
            for row in self.funding.rows.values()
            if row[0] in whole
        ]
        kept += [
            self._kept(row[1], "strike", name=row[2], repayment=row[0], at=row[3])
            for row in self.strike.rows.values()
            if row[1] in whole and row[3] > now - timedelta(days=400)
        ]
        for row in self.assessment.rows.values():
            told = {"name": row[2], "repayment": row[0], "at": row[3], "minor": row[4], "repaid": row[7]}
            if row[1] in whole and row[4] > 0 and row[3] > now - timedelta(days=100):
                kept.append(self._kept(row[1], "assessment", **told))
            if row[1] in linked and row[5] is not None and row[6] > now:
                kept.append(self._kept(row[1], "assessment", hold=row[5], **told))
            if row[0] in named:
                kept.append(self._kept(row[1], "assessment", hold=row[5], **told))
        kept.sort(key=lambda k: (k["at"] is None, k["at"] or now, k["repayment_id"] or "", k["hold"] or ""))
        return {
            "accounts": aggregated(found),
            "kept": aggregated(kept),
            "champion": None,
            "trial": None,
            "watch": None,
            "read": aggregated([str(at) for at in listing(values[7]) if self.inbox.get(at) is not None]),
            **self._exposed(whole, linked, named, now),
            **self._guarded(whole, zipped(values[4:6]), set(listing(values[6])), now),
        }

    def _guarded(self, whole: set[str], sources: Iterable[RowTuple], paid: set[str], now: datetime) -> dict[str, Any]:
        """Return what guards ask: warnings of accounts, the use of funding accounts, what was repaid lately."""
        warned = [row for row in self.warning.rows.values() if row[0] in whole and row[3] > now - timedelta(days=400)]
        used = Counter(name for name, _ in self.use.rows)
        first = {key: row[2] for key, row in self.use.rows.items()}
        uses = [
            {"account_id": at, "name": name, "first_at": first.get((name, at)), "users": min(9, used[name])}
            for name, at in sources
        ]
        known = [self.outcome.named(row) for row in self.outcome.rows.values() if row[1] in paid]
        lately = [one for one in known if one["repaid_at"] > now - timedelta(days=2)]
        return {
            "warned": aggregated([self.warning.named(row) for row in warned]),
            "uses": aggregated(uses),
            "lately": aggregated([{name: one[name] for name in self.LATELY} for one in lately]),
            "relief": None,
        }

    def _exposed(self, whole: set[str], linked: set[str], named: set[str], now: datetime) -> dict[str, Any]:
        held = [row for row in self.assessment.rows.values() if row[1] in linked and row[5] is not None]
        wanted = named | {row[0] for row in held if row[6] > now}
        outcomes = [self.outcome.named(row) for at in sorted(wanted) if (row := self.outcome.get(at)) is not None]
        today = now.astimezone(UTC).date()
        accounts: Counter[str] = Counter()
        held_of: Counter[str] = Counter()
        products: Counter[str] = Counter()
        for (at, until, since), (*_, minor) in self.exposure.rows.items():
            (accounts if since <= today else held_of)[at] += minor if at in whole and today <= until else 0
        for (product, until, since, _), (*_, minor) in self.portfolio.rows.items():
            products[product] += minor if whole and since <= today <= until else 0
        return {
            "outcomes": aggregated(outcomes),
            "exposed": aggregated(
                [{"account_id": at, "minor": accounts[at], "held": held_of[at]} for at in {**accounts, **held_of}]
            ),
            "portfolio": aggregated([{"product": at, "minor": minor} for at, minor in products.items()]),
        }

    @staticmethod
    def _kept(account_id: str, kind: str, **found: Any) -> dict[str, Any]:
        return {
            "account_id": account_id,
            "kind": kind,
            "name": found.get("name"),
            "repayment_id": found.get("repayment"),
            "at": found.get("at"),
            "minor": found.get("minor"),
            "verified": found.get("verified"),
            "hold": found.get("hold"),
            "repaid_at": found.get("repaid"),
        }

    def write(self, parts: Values, now: datetime) -> int:
        guarded = 0
        accounts, linked, struck, assessed, became, exposed, portfolio = (listing(part) for part in parts[:7])
        for row in accounts:
            check(min(row[3], row[4]) >= 0 and (row[2] is not None or row[4] == 0), "account_check")
            check(len(row[10]) % 9 == 0 and len(row[10]) <= 63, "months_are_whole")
            check((row[12] == "unknown") == (row[11] is None), "tier_has_a_score")
            guarded += guard(self.account, row)
        for row in linked:
            self.funding.put(row)
        for row in struck:
            if row[0] not in self.strike.rows:
                self.strike.insert(row)
        for row in assessed:
            check((row[5] is None) == (row[6] is None) and row[4] >= 0, "assessment_check")
            check(row[6] is None or row[6] > row[3], "assessment_check: held until after it was assessed")
            old = self.assessment.get(row[0])
            self.assessment.put(row if old is None else (*old[:5], *row[5:]))
        for row in became:
            self._keep_outcome(row)
        for table, rows in ((self.exposure, exposed), (self.portfolio, portfolio)):
            for row in rows:
                old = table.get(row[:-1])
                table.put(row if old is None else (*row[:-1], old[-1] + row[-1]))
        self._keep_for_guards(listing(parts[10]), listing(parts[11]))
        return guarded

    def _keep_for_guards(self, warned: Sequence[RowTuple], used: Sequence[RowTuple]) -> None:
        for row in warned:
            self.warning.put(row)
        for row in used:
            if self.use.get((row[0], row[1])) is None:
                self.use.insert(row)

    def _keep_outcome(self, row: RowTuple) -> None:
        made = self.outcome.named(row)
        check(made["fast_at"] >= made["fast_until"] and made["amount_minor"] > 0, "risk_outcome_check")
        check((made["returned_at"] is None) == (made["returned_by"] is None), "risk_outcome_check: returned")
        old = self.outcome.get(row[0])
        again = {name: made[name] for name in ("parts", "restorable_minor", "returned_at", "returned_by")}
        self.outcome.put(row if old is None else self.outcome.changed(old, **again))

    def check(self) -> None:
        """Every check is made where a row is written."""


class ReleaseBooks:
    """limit-release: the availability ledger and the credit lane."""

    ACCOUNT = (
        "account_id product currency status status_reason credit_limit_minor available_minor used_debt_minor "
        "used_authorisation_minor pending_minor credit_balance_minor charges_minor overpaid_minor overpaid_until "
        "limit_lowered_at spendable cash_sub_limit_minor cash_used_minor shown_minor zero_reason version "
        "status_at limit_at cash_limit_at corrected_at corrected_minor heard unjoined_minor"
    )
    NOT_READ = ("shown_minor", "zero_reason")
    JOURNAL = (
        "account_id kind ref limit_minor available_minor used_debt_minor used_authorisation_minor pending_minor "
        "booked_at"
    )
    REPAYMENT = (
        "repayment_id account_id assessed returned late joined amount_minor restorable_minor credit_balance_minor "
        "reallocated_minor reallocated_available_minor reallocated_balance_minor currency rail repaid_at version "
        "revision trail reasons faster policy_version model_version calendar_version clear_seconds hold_slack_seconds"
    )
    TRANCHE = (
        "repayment_id number account_id amount_minor state until reason promised_by restored_at promises extensions "
        "delayed"
    )

    def __init__(self, books: Books) -> None:
        self.account = books.table("account", self.ACCOUNT, 1)
        self.journal = books.table("journal", self.JOURNAL, 3)
        self.repayment = books.table("repayment", self.REPAYMENT, 1)
        self.tranche = books.table("tranche", self.TRANCHE, 2)
        self.authorisation = books.table("authorisation", "account_id authorisation_id amount_minor", 2)
        self.record = books.table("decision_record", "repayment_id version account_id decided_at record", 2)
        self._to_add_up: list[str] = []
        books.serve(limit_release.READS, limit_release.WRITES, self)

    def read(self, values: Values, now: datetime) -> dict[str, Any]:
        accounts = [self.account.named(row) for at in values[0] if (row := self.account.get(at)) is not None]
        for account in accounts:
            for name in self.NOT_READ:
                del account[name]
        touched = set(values[2])
        wanted = dict.fromkeys(values[1])
        wanted |= {row[0]: None for row in self.tranche.rows.values() if row[2] in touched and row[4] in WAITING}
        repayments = [self._with_tranches(row) for at in wanted if (row := self.repayment.get(at)) is not None]
        booked = [
            {"account_id": at, "ref": ref}
            for at, ref in dict.fromkeys(zipped(values[3:5]))
            for kind in JOURNAL_KINDS
            if (at, kind, ref) in self.journal.rows
        ]
        held = [row for at in dict.fromkeys(zipped(values[5:7])) if (row := self.authorisation.get(at)) is not None]
        return {
            "accounts": aggregated(accounts),
            "repayments": aggregated(repayments),
            "booked": aggregated(booked),
            "authorisations": aggregated([self.authorisation.named(row) for row in held]),
        }

    def _with_tranches(self, row: RowTuple) -> dict[str, Any]:
        named = self.repayment.named(row)
        tranches = [self.tranche.named(t) for at, t in self.tranche.rows.items() if at[0] == row[0]]
        for tranche in tranches:
            del tranche["account_id"]
        return {**named, "tranches": tranches or None}

    def write(self, parts: Values, now: datetime) -> int:
        self._to_add_up = []
        guarded = 0
        accounts, journals, repayments, tranches, authorisations, records = (listing(part) for part in parts[:6])
        for row in accounts:
            self._check_account(row)
            guarded += guard(self.account, row, keep=(1, 2))
        for kind, ref, at, limit, *legs, _ in journals:
            check(sum(legs) == limit and (limit == 0 or kind in ("OPEN", "RAISE", "CUT")), "journal_check")
            self.journal.insert((at, kind, ref, limit, *legs, now))
        for at, repayment_id, *rest in repayments:
            self._keep_repayment((repayment_id, at, *rest))
        for at, repayment_id, number, *rest in tranches:
            self._keep_tranche((repayment_id, number, at, *rest))
        for row in authorisations:
            check(row[2] >= 0, "authorisation_amount_minor_check")
            self.authorisation.put(row)
        for row in records:
            self.record.insert(row)
        return guarded

    @staticmethod
    def _check_account(row: RowTuple) -> None:
        limit, available, debt, authorised, pending, balance = row[5:11]
        check(min(limit, debt, authorised, pending, balance, *row[11:13], row[18]) >= 0, "account_minor_check")
        check(balance == 0 or debt == 0, "account_check: a credit balance beside debt")
        check(row[19] is None or row[18] == 0, "account_check: a reason of no 0")
        check(available + debt + authorised + pending == limit and available <= limit, "account_check: the identity")

    def _keep_repayment(self, row: RowTuple) -> None:
        check(0 <= row[7] <= row[6] and row[8] >= 0, "repayment_check")
        old = self.repayment.get(row[0])
        self.repayment.put(row if old is None else (row[0], old[1], *row[2:]))
        if row[2]:
            self._to_add_up.append(row[0])

    def _keep_tranche(self, row: RowTuple) -> None:
        amount, state, restored_at = row[3], row[4], row[8]
        check(amount > 0 or (amount == 0 and state == "voided"), "tranche_amount_minor_check")
        check((state in ("restored", "reversed")) == (restored_at is not None), "tranche_check")
        old = self.tranche.get(row[:2])
        if old is not None:
            restricted(old[4] == state or (old[4], state) in STEPS_OF_A_LANE, f"tranche {old[4]} to {state}")
            if old[4] in ("restored", "reversed", "voided"):
                restricted((old[3], old[8]) == (amount, restored_at), "what left PENDING_RELEASE stays")
            if old[3] != amount:
                self._to_add_up.append(row[0])
            row = (*row[:2], old[2], *row[3:])
        self.tranche.put(row)

    def check(self) -> None:
        """At commit the tranches of an assessed repayment add up to what may be restored of it."""
        wanted, self._to_add_up = set(self._to_add_up), []
        for at in wanted:
            row = self.repayment.rows[at]
            parts = [t[3] for key, t in self.tranche.rows.items() if key[0] == at]
            if row[2] and not (row[3] and not parts):
                check(row[7] + row[9] == sum(parts) + row[10], "the tranches do not add up to what may be restored")


class NotifierBooks:
    """notifier: customers, messages and how their deliveries stand."""

    NOTIFICATION = (
        "notification_id account_id repayment_id caused_by channel language template record_version text requested_at "
        "told_by"
    )
    DELIVERY = "notification_id state attempts next_attempt_at ended_at"
    CLAIMED = ("account_id", "notification_id", "repayment_id", "channel", "language", "template", "text")

    def __init__(self, books: Books) -> None:
        self.books = books
        self.account = books.table("account", "account_id language timezone", 1)
        self.disabled = books.table("disabled_channel", "channel disabled_at", 1)
        self.notification = books.table("notification", self.NOTIFICATION, 1)
        self.delivery = books.table("delivery", self.DELIVERY, 1)
        books.statements[notifier.CLAIM] = self.claim
        books.serve(notifier.READS, notifier.WRITES, self)

    def read(self, values: Values, now: datetime) -> dict[str, Any]:
        accounts = [self.account.named(row) for at in values[0] if (row := self.account.get(at)) is not None]
        asked = set(values[1])
        messages = [
            {**self.delivery.named(self.delivery.rows[row[10] or at]), **self.notification.named(row)}
            for at, row in self.notification.rows.items()
            if (at in asked or row[10] in asked) and (row[10] or at) in self.delivery.rows
        ]
        return {
            "accounts": aggregated(accounts),
            "disabled": aggregated([self.disabled.named(row) for row in self.disabled.rows.values()]),
            "messages": aggregated(messages),
        }

    def write(self, parts: Values, now: datetime) -> int:
        guarded = 0
        accounts, messages, started, tried, gone = (listing(part) for part in parts[:5])
        for row in accounts:
            self.account.put(row)
        for channel in gone:
            if channel not in self.disabled.rows:
                self.disabled.put((channel, now))
        for at, notification_id, *rest in messages:
            check(rest[5] >= 1 and (rest[4] == "limit_review") == (rest[0] is None), "notification_check")
            self.notification.insert((notification_id, at, *rest))
        for row in started:
            self._check_delivery(row)
            self.delivery.insert(row)
        for *told, before in tried:
            row = tuple(told)
            self._check_delivery(row)
            old = self.delivery.get(row[0])
            if old is not None and old[1] == "requested" and old[2] == before:
                guarded += 1
                self.delivery.put(row)
        return guarded

    @staticmethod
    def _check_delivery(row: RowTuple) -> None:
        check((row[1] == "requested") == (row[3] is not None), "delivery_check: a next attempt")
        check((row[1] == "requested") == (row[4] is None), "delivery_check: an end")

    def claim(self, values: Values) -> list[dict[str, Any]]:
        now = self.books.clock()
        due = [row for row in self.delivery.rows.values() if row[1] == "requested" and row[3] <= now]
        due.sort(key=lambda row: (row[3], row[0]))
        claimed = []
        for row in due[: values[0]]:
            self.delivery.put(self.delivery.changed(row, next_attempt_at=now + timedelta(seconds=values[1])))
            message = self.notification.named(self.notification.rows[row[0]])
            claimed.append({name: message[name] for name in self.CLAIMED})
        return claimed

    def check(self) -> None:
        """Every check is made where a row is written."""


OWN = {
    "repayment_ingest": IngestBooks,
    "settlement": SettlementBooks,
    "risk_scoring": RiskBooks,
    "limit_release": ReleaseBooks,
    "notifier": NotifierBooks,
}
