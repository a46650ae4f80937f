"""What risk-scoring keeps of accounts, by the batch."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from schemas.account import FundingAccountLinked
from schemas.ids import event_id
from schemas.reasons import Reason
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.risk import Given, RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Input
from services.prior import ANY_RAIL, Prior
from services.risk_scoring import rows
from services.risk_scoring.credit import Credit
from services.risk_scoring.model import (
    Account,
    Assessment,
    Cycle,
    FundingAccount,
    Strike,
    Table,
    Trial,
    Use,
    Warned,
    Watch,
)
from services.risk_scoring.outcomes import Outcome, Part
from services.risk_scoring.trials import Stage, broken
from services.runtime.postgres import Row, columns, instant, listed
from services.runtime.worker import Saved, Store
from services.statements import Month
from services.values import replace

NOBODY: Final = Account("")
"""Of whom nothing is known: what is read of an account is changed in it, in a fifth of the time of __init__."""
INSTANTS = ("repaid_at", "settled_at", "assessed_at", "fast_until", "fast_at", "slow_at", "returned_at")
# The accounts ($1); funding accounts, strikes of 400 days and uses of the cap of 100 days of those whose verdict may
# need them ($2); running holds of those that were linked ($3); what was assessed of the repayments named ($4), and what
# became of both; what is exposed today of the accounts ($2) and of everything, and what of the accounts comes back
# later. The return model in force, in its first 14 days what decided before it, and the candidate that is tried, seen
# at the same instant: no batch decides an account by two. With every batch it is asked whether what one came to ends
# it. And what guards ask: what billing warned of ($2), the use of the funding accounts ($5) accounts ($6) repay from,
# what those ($7) repaid lately. And the products whose instant cap is wider now.
READS = """
(SELECT json_agg(a) FROM risk_scoring.account AS a WHERE account_id = ANY($1::text[])) AS accounts,
(SELECT json_agg(k) FROM (
  SELECT account_id, 'funding' AS kind, funding_account_id AS name, NULL AS repayment_id, linked_at AS at,
    NULL::bigint AS minor, verified, NULL AS hold, NULL::timestamptz AS repaid_at
  FROM risk_scoring.funding_account WHERE account_id = ANY($2::text[])
  UNION ALL SELECT account_id, 'strike', funding_account_id, repayment_id, struck_at, NULL, NULL, NULL, NULL
  FROM risk_scoring.strike WHERE account_id = ANY($2::text[]) AND struck_at > clock_timestamp() - interval '400 days'
  UNION ALL SELECT account_id, 'assessment', funding_account_id, repayment_id, assessed_at, instant_minor, NULL, NULL,
    repaid_at
  FROM risk_scoring.assessment WHERE account_id = ANY($2::text[]) AND instant_minor > 0
    AND assessed_at > clock_timestamp() - interval '100 days'
  UNION ALL SELECT account_id, 'assessment', funding_account_id, repayment_id, assessed_at, instant_minor, NULL, hold,
    repaid_at
  FROM risk_scoring.assessment WHERE account_id = ANY($3::text[]) AND hold IS NOT NULL
    AND held_until > clock_timestamp()
  UNION ALL SELECT account_id, 'assessment', funding_account_id, repayment_id, assessed_at, instant_minor, NULL, hold,
    repaid_at
  FROM risk_scoring.assessment WHERE repayment_id = ANY($4::text[])
  ORDER BY at, repayment_id, hold NULLS FIRST
) AS k) AS kept,
(SELECT json_agg(o) FROM risk_scoring.risk_outcome AS o
 WHERE repayment_id = ANY($4::text[] || ARRAY(SELECT repayment_id FROM risk_scoring.assessment
   WHERE account_id = ANY($3::text[]) AND hold IS NOT NULL AND held_until > clock_timestamp()))) AS outcomes,
(SELECT json_agg(e) FROM (
  SELECT account_id,
    coalesce(sum(minor) FILTER (WHERE from_on <= (statement_timestamp() AT TIME ZONE 'UTC')::date), 0) AS minor,
    coalesce(sum(minor) FILTER (WHERE from_on > (statement_timestamp() AT TIME ZONE 'UTC')::date), 0) AS held
  FROM risk_scoring.exposure
  WHERE account_id = ANY($2::text[]) AND until_on >= (statement_timestamp() AT TIME ZONE 'UTC')::date
  GROUP BY 1) AS e) AS exposed,
(SELECT json_agg(p) FROM (
  SELECT product, sum(minor) AS minor FROM risk_scoring.portfolio_exposure
  WHERE cardinality($2::text[]) > 0 AND from_on <= (statement_timestamp() AT TIME ZONE 'UTC')::date
    AND until_on >= (statement_timestamp() AT TIME ZONE 'UTC')::date GROUP BY 1) AS p) AS portfolio,
(SELECT artefact FROM risk_scoring.risk_models
 WHERE kind = 'return' AND status = 'champion' AND cardinality($2::text[]) > 0) AS champion,
(SELECT to_json(t) FROM (
  SELECT version, artefact, activated_at AS began_at, status = 'canary' AS canary, (SELECT json_agg(c)
    FROM risk_scoring.risk_trial_stage AS c WHERE version = m.version AND began_at = m.activated_at) AS stages
  FROM risk_scoring.risk_models AS m
  WHERE kind = 'return' AND status IN ('shadow', 'canary') AND cardinality($2::text[]) > 0 AND NOT EXISTS (
    SELECT FROM risk_scoring.risk_trial_stop WHERE version = m.version AND began_at = m.activated_at)) AS t) AS trial,
(SELECT to_json(w) FROM (
  SELECT version, activated_at AS began_at, (SELECT b.artefact FROM risk_scoring.risk_models AS b
      WHERE b.kind = 'return' AND b.version = (SELECT a.before FROM risk_scoring.risk_activation AS a
        WHERE a.kind = 'return' AND a.became = 'champion' ORDER BY a.id DESC LIMIT 1)) AS before,
    (SELECT json_agg(c) FROM risk_scoring.risk_trial_stage AS c
     WHERE version = m.version AND began_at = m.activated_at) AS stages
  FROM risk_scoring.risk_models AS m
  WHERE kind = 'return' AND status = 'champion' AND cardinality($2::text[]) > 0
    AND activated_at > statement_timestamp() - interval '14 days') AS w) AS watch,
(SELECT json_agg(w) FROM (
  SELECT account_id, kind, name, at, ended_at FROM risk_scoring.warning
  WHERE account_id = ANY($2::text[]) AND at > clock_timestamp() - interval '400 days') AS w) AS warned,
(SELECT json_agg(u) FROM (
  SELECT n.account_id, n.name, (SELECT first_at FROM risk_scoring.funding_use
      WHERE funding_account_id = n.name AND account_id = n.account_id) AS first_at,
    (SELECT count(*) FROM (SELECT FROM risk_scoring.funding_use
      WHERE funding_account_id = n.name LIMIT 9) AS f) AS users
  FROM unnest($5::text[], $6::text[]) AS n (name, account_id)) AS u) AS uses,
(SELECT json_agg(l) FROM (
  SELECT account_id, repayment_id, repaid_at, amount_minor FROM risk_scoring.risk_outcome
  WHERE account_id = ANY($7::text[]) AND repaid_at > clock_timestamp() - interval '2 days') AS l) AS lately,
(SELECT json_object_agg(product, factor_bps) FROM risk_scoring.relief_in_force
 WHERE cardinality($2::text[]) > 0) AS relief,
(SELECT json_agg(event_id) FROM risk_scoring.inbox WHERE event_id = ANY($8::uuid[])) AS read
"""
# Keeps accounts as they were read, and funding accounts, strikes, assessments and outcomes that changed; exposure is
# added to, in the order of its keys, so that two workers never wait for each other in a circle.
WRITES = """
guarded AS (
  INSERT INTO risk_scoring.account AS a SELECT * FROM unnest($1::risk_scoring.account[])
  ON CONFLICT (account_id) DO UPDATE SET credit_limit_minor = excluded.credit_limit_minor,
    cycle_started_at = excluded.cycle_started_at, settled_minor = excluded.settled_minor,
    before_minor = excluded.before_minor, version = excluded.version, limit_at = excluded.limit_at,
    product = excluded.product, currency = excluded.currency, opened_at = excluded.opened_at, months = excluded.months,
    score = excluded.score, tier = excluded.tier, returned_at = excluded.returned_at, refused_at = excluded.refused_at,
    closed_at = excluded.closed_at, review_on = excluded.review_on, reviews = excluded.reviews, early = excluded.early
  WHERE a.version = excluded.version - 1
  RETURNING 1),
linked AS (
  INSERT INTO risk_scoring.funding_account SELECT * FROM unnest($2::risk_scoring.funding_account[])
  ON CONFLICT (account_id, funding_account_id) DO UPDATE SET verified = excluded.verified,
    linked_at = excluded.linked_at),
struck AS (
  INSERT INTO risk_scoring.strike SELECT * FROM unnest($3::risk_scoring.strike[])
  ON CONFLICT (repayment_id) DO NOTHING),
assessed AS (
  INSERT INTO risk_scoring.assessment SELECT * FROM unnest($4::risk_scoring.assessment[])
  ON CONFLICT (repayment_id) DO UPDATE SET hold = excluded.hold, held_until = excluded.held_until),
became AS (
  INSERT INTO risk_scoring.risk_outcome SELECT * FROM unnest($5::risk_scoring.risk_outcome[])
  ON CONFLICT (repayment_id) DO UPDATE SET parts = excluded.parts, restorable_minor = excluded.restorable_minor,
    returned_at = excluded.returned_at, returned_by = excluded.returned_by),
exposed AS (
  INSERT INTO risk_scoring.exposure AS e SELECT * FROM unnest($6::risk_scoring.exposure[])
  ON CONFLICT (account_id, until_on, from_on) DO UPDATE SET minor = e.minor + excluded.minor),
portfolio AS (
  INSERT INTO risk_scoring.portfolio_exposure AS p
  SELECT product, until_on, from_on, pg_backend_pid() % 16, minor
  FROM unnest($7::risk_scoring.portfolio_exposure[])
  ON CONFLICT (until_on, from_on, product, shard) DO UPDATE SET minor = p.minor + excluded.minor),
compared AS (
  INSERT INTO risk_scoring.risk_comparison AS c SELECT * FROM unnest($8::risk_scoring.risk_comparison[])
  ON CONFLICT (place) DO UPDATE SET (repayment_id, account_id, version, began_at, by_candidate, assessed_at,
    restorable_minor, champion_verdict, champion_at_once_minor, champion_until, champion_likely, candidate_verdict,
    candidate_at_once_minor, candidate_until, candidate_likely)
    = (excluded.repayment_id, excluded.account_id, excluded.version, excluded.began_at, excluded.by_candidate,
    excluded.assessed_at, excluded.restorable_minor, excluded.champion_verdict, excluded.champion_at_once_minor,
    excluded.champion_until, excluded.champion_likely, excluded.candidate_verdict, excluded.candidate_at_once_minor,
    excluded.candidate_until, excluded.candidate_likely)
  WHERE (c.version, c.began_at, c.assessed_at::date)
    <> (excluded.version, excluded.began_at, excluded.assessed_at::date)),
tried AS (
  INSERT INTO risk_scoring.risk_trial_count AS t
  SELECT version, began_at, by_candidate, hour, pg_backend_pid() % 16, judged, differing, champion_held, candidate_held,
    released, expected, returned
  FROM unnest($9::risk_scoring.risk_trial_count[])
  ON CONFLICT (version, began_at, by_candidate, hour, shard) DO UPDATE SET judged = t.judged + excluded.judged,
    differing = t.differing + excluded.differing, champion_held = t.champion_held + excluded.champion_held,
    candidate_held = t.candidate_held + excluded.candidate_held, released = t.released + excluded.released,
    expected = t.expected + excluded.expected, returned = t.returned + excluded.returned),
stopped AS (
  INSERT INTO risk_scoring.risk_trial_stop (version, began_at, rule, figures)
  SELECT version, began_at, rule, figures FROM unnest($10::risk_scoring.risk_trial_stop[])
  ON CONFLICT (version, began_at) DO NOTHING),
warned AS (
  INSERT INTO risk_scoring.warning SELECT * FROM unnest($11::risk_scoring.warning[])
  ON CONFLICT (account_id, kind, name) DO UPDATE SET at = excluded.at, ended_at = excluded.ended_at),
used AS (
  INSERT INTO risk_scoring.funding_use SELECT * FROM unnest($12::risk_scoring.funding_use[])
  ON CONFLICT DO NOTHING)
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the accounts of the inputs, those whose verdict may need more, those linked, and what they name."""
    accounts = {event.account_id for event in inputs}
    whole = {event.account_id for event in inputs if not _final(event)}
    linked = {event.account_id for event in inputs if isinstance(event, FundingAccountLinked)}
    named = {name for event in inputs for name in _named(event)}
    paid = [event for event in inputs if isinstance(event, RepaymentSettled) and not _final(event)]
    sources = sorted({(event.funding_account_id, event.account_id) for event in paid if event.funding_account_id})
    settled = sorted({event.account_id for event in paid})
    read = sorted({_settled_as(name) for event in inputs for name in _moved(event)})
    return (sorted(accounts), sorted(whole), sorted(linked), sorted(named), *columns(sources, 2), settled, read)


@dataclass
class Besides:
    """What is kept of an account beside its row, gathered row by row; each field is the one of Account."""

    funding: dict[str, FundingAccount] = field(default_factory=dict)
    assessments: dict[str, Assessment] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    exposed_minor: int = 0
    held_minor: int = 0
    warned: dict[str, Warned] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)
    lately: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()


NOTHING: Final = Besides()


def states(inputs: Sequence[Input], row: Row) -> dict[str, Account]:
    """Return the account of every input, with what its verdict may need."""
    champion = None if row["champion"] is None else _table(row["champion"])
    watch = None if champion is None else _watch(row["watch"], champion)
    if watch is not None and watch.broken is not None:
        champion = watch.before
    portfolio = {each["product"]: int(each["minor"]) for each in listed(row["portfolio"])}
    relief = json.loads(row["relief"] or "{}")
    seen = {"champion": champion, "trial": _trial(row["trial"]), "watch": watch, "relief": relief}
    of_all = {**seen, "portfolio_minor": portfolio}
    found = {known["account_id"]: account(known) for known in listed(row["accounts"])}
    kept = _besides(inputs, row)
    named = dict.fromkeys(event.account_id for event in inputs)
    return {at: replace(found.get(at) or Account(at), **of_all, **vars(kept.get(at, NOTHING))) for at in named}


def _besides(inputs: Sequence[Input], row: Row) -> Mapping[str, Besides]:
    """Gather what is kept beside the accounts' own rows, and of some accounts that no input is about."""
    found: defaultdict[str, Besides] = defaultdict(Besides)
    for each in listed(row["kept"]):
        _keep(found[each["account_id"]], each, instant(each["at"]))
    for each in listed(row["outcomes"]):
        found[each["account_id"]].outcomes[each["repayment_id"]] = outcome(each)
    for each in listed(row["exposed"]):
        known = found[each["account_id"]]
        known.exposed_minor, known.held_minor = int(each["minor"]), int(each["held"])
    for each in listed(row["warned"]):
        word = Warned(each["kind"], each["name"], _sure(each["at"]), instant(each["ended_at"]))
        found[each["account_id"]].warned[f"{word.kind}:{word.name}"] = word
    for each in listed(row["uses"]):
        if each["users"]:
            use = Use(each["name"], instant(each["first_at"]), each["users"])
            found[each["account_id"]].uses[use.name] = use
    for each in listed(row["lately"]):
        found[each["account_id"]].lately[each["repayment_id"]] = _sure(each["repaid_at"]), each["amount_minor"]
    read = {UUID(one) for one in json.loads(row["read"] or "[]")}
    for event in inputs:
        unread = {name for name in _moved(event) if _settled_as(name) not in read}
        if unread:
            found[event.account_id].unread |= unread
    return found


def _sure(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _trial(told: str | None) -> Trial | None:
    if told is None:
        return None
    row = json.loads(told)
    table = _table(row["artefact"])
    stages = [Stage(*[each[name] for name in Stage._fields]) for each in row["stages"] or ()]
    found = broken(stages, table.prior.bank.survivor[ANY_RAIL]) if row["canary"] else None
    began_at = instant(row["began_at"])
    return None if began_at is None else Trial(row["version"], began_at, row["canary"], table, found)


def _watch(told: str | None, champion: Table) -> Watch | None:
    if told is None:
        return None
    row = json.loads(told)
    stages = [Stage(*[each[name] for name in Stage._fields]) for each in row["stages"] or ()]
    found = broken(stages, champion.prior.bank.survivor[ANY_RAIL])
    before = None if row["before"] is None else _table(row["before"])
    return Watch(row["version"], _sure(row["began_at"]), before, found)


@lru_cache(maxsize=4)
def _table(artefact: str) -> Table:
    """Read a table of returns once: what is computed of it is then there, too."""
    return Table(Prior.model_validate_json(artefact))


def save(changes: Sequence[tuple[Account, Account]]) -> Saved:
    """Keep what is new."""
    accounts: list[tuple[object, ...]] = []
    linked: list[tuple[object, ...]] = []
    struck: list[tuple[object, ...]] = []
    assessed: list[tuple[object, ...]] = []
    for before, after in changes:
        at, cycle = after.account_id, after.cycle
        sums = (cycle.started_at, cycle.settled_minor, cycle.before_minor)
        limit = (after.credit_limit_minor, *sums, before.version + 1, after.limit_at)
        accounts.append((at, *limit, *rows.credit_columns(after)))
        for source in rows.news(before.funding, after.funding):
            linked.append((at, source.name, source.verified, source.linked_at))
            struck += [(strike.repayment_id, at, source.name, strike.struck_at) for strike in source.strikes]
        assessed += [rows.assessment_row(at, one) for one in rows.news(before.assessments, after.assessments)]
    kept = (accounts or None, linked or None, struck or None, assessed or None)
    return Saved((*kept, *rows.became(changes), *rows.tried(changes), *rows.warned(changes)), guarded=len(accounts))


def account(row: Row) -> Account:
    """Return an account of its row, without what else is kept of it."""
    return replace(
        NOBODY,
        account_id=row["account_id"],
        credit_limit_minor=row["credit_limit_minor"],
        cycle=Cycle(instant(row["cycle_started_at"]), row["settled_minor"], row["before_minor"]),
        tier=row["tier"],
        version=row["version"],
        limit_at=instant(row["limit_at"]),
        early=json.loads(row["early"]),
        credit=Credit(
            product=row["product"],
            currency=row["currency"],
            opened_at=instant(row["opened_at"]),
            months=_months(row["months"]),
            score=row["score"],
            returned_at=instant(row["returned_at"]),
            refused_at=instant(row["refused_at"]),
            closed_at=instant(row["closed_at"]),
            review_on=None if row["review_on"] is None else date.fromisoformat(row["review_on"]),
            reviews=row["reviews"],
        ),
    )


def _months(figures: Sequence[int]) -> tuple[Month, ...]:
    size = len(Month._fields)
    return tuple(Month(*figures[n : n + size]) for n in range(0, len(figures), size))


def _keep(known: Besides, row: Row, at: datetime | None) -> None:
    """Add one row to the account it is of; of two about one assessment the one with its hold comes last."""
    name = row["name"]
    if row["kind"] == "funding" or at is None:
        source = known.funding.get(name) or FundingAccount(name)
        known.funding[name] = replace(source, verified=row["verified"], linked_at=at)
    elif row["kind"] == "strike":
        source = known.funding.get(name) or FundingAccount(name)
        known.funding[name] = source.struck(Strike(row["repayment_id"], at))
    else:
        hold = None if row["hold"] is None else RiskAssessed.model_validate_json(row["hold"])
        kept = Assessment(row["repayment_id"], name, at, row["minor"], hold, instant(row["repaid_at"]))
        known.assessments[kept.repayment_id] = kept


def outcome(row: Row) -> Outcome:
    """Return what became of a repayment, of its row as JSON."""
    told = {name: row[name] for name in Outcome.__dataclass_fields__}
    parts = [Part(minor, date.fromisoformat(day)) for minor, day in json.loads(row["parts"])]
    inputs = [Given(name, value) for name, value in json.loads(row["inputs"])]
    instants = {name: instant(row[name]) for name in INSTANTS}
    told |= {"final_on": date.fromisoformat(row["final_on"]), "parts": tuple(parts), "inputs": tuple(inputs)}
    return Outcome(**{**told, **instants, "rule": None if row["rule"] is None else Reason(row["rule"])})


def _final(event: Input) -> bool:
    """Tell whether an input is decided by the account's own row: most are, and four index scans are saved."""
    return isinstance(event, RepaymentSettled) and event.finality == "final"


def _named(event: Input) -> Iterable[str]:
    """Name the repayments whose assessment an input may change."""
    match event:
        case RepaymentSettled() | RepaymentsReallocated():
            return [change.repayment_id for change in event.reallocated]
        case RepaymentReturned():
            return [event.repayment_id, *(change.repayment_id for change in event.reallocated)]
        case HoldReleaseApproved() | HoldExtended():
            return [event.repayment_id]
        case _:
            return ()


def _moved(event: Input) -> Iterable[str]:
    """Name the repayments a replay moved."""
    return [one.repayment_id for one in getattr(event, "reallocated", ())]


def _settled_as(repayment_id: str) -> UUID:
    """Return the id of the event a repayment settled by."""
    return UUID(event_id("RepaymentSettled", repayment_id))


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
