"""What billing says of one rule's account, round by round; amounts in minor units."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.event import Event, to_millisecond
from tests import builders
from tests.integration.support import Raw, written

ROUNDS: Final = (0.0, 3.0, 6.0, 9.0, 15.0)
"""When billing speaks, seconds after the start; the demo's holds end 10 s and 20 s after a repayment of round 1."""
One = tuple[int, Event]
Said = list[tuple[int, Event | Raw]]


@dataclass(frozen=True)
class Billing:
    """Writes the events of one rule's account."""

    rule: str
    start: datetime

    @property
    def account(self) -> str:
        return f"acct_{self.rule}"

    def at(self, of_round: int, seconds: float = 0.0) -> datetime:
        """Return an instant of a round."""
        return to_millisecond(self.start + timedelta(seconds=ROUNDS[of_round] + seconds))

    def said(self, make: Callable[..., Event], of_round: int, seconds: float, changes: dict[str, Any]) -> One:
        at = self.at(of_round, seconds)
        name = f"{self.rule}-{of_round}-{seconds}-{make.__name__}"
        return of_round, make(**{"account_id": self.account, "occurred_at": at, "event_id": name, **changes})

    def opened(self, limit: int, product: str = "demo", **changes: Any) -> One:
        values = {"credit_limit_minor": limit, "product": product, **changes}
        return self.said(builders.account_opened, 0, -3, values)

    def bought(self, amount: int, of_round: int = 0, *, seconds: float = -2, **changes: Any) -> One:
        values = {"purchase_id": f"{self.rule}-p{of_round}", "amount_minor": amount, **changes}
        return self.said(builders.purchase_posted, of_round, seconds, values)

    def charged(self, fee: int, interest: int) -> One:
        charges = {"penalty_minor": 0, "fee_minor": fee, "interest_minor": interest}
        return self.said(builders.charges_accrued, 0, -1, charges)

    def paid_out(self, amount: int, of_round: int) -> One:
        return self.said(builders.credit_balance_refunded, of_round, 0, {"amount_minor": amount})

    def limited(self, limit: int, of_round: int, **changes: Any) -> One:
        return self.said(builders.credit_limit_changed, of_round, 0, {"credit_limit_minor": limit, **changes})

    def status(self, status: str, reason: str, of_round: int) -> One:
        changes = {"status": status, "reason": reason}
        return self.said(builders.account_status_changed, of_round, 0, changes)

    def repaid(self, amount: int, of_round: int = 1, *, ref: str = "r", again: int = 0, **changes: Any) -> One:
        values = {"external_ref": f"{self.rule}-{ref}", "amount_minor": amount, "rail": "wallet"}
        values |= {"repaid_at": self.at(of_round), "event_id": f"{self.rule}-{ref}-{of_round}-{again}"}
        return of_round, builders.repayment_reported(account_id=self.account, **values | changes)

    def returned(self, amount: int, of_round: int, *, ref: str = "r", **changes: Any) -> One:
        values = {"external_ref": f"{self.rule}-{ref}", "amount_minor": amount, "rail": "wallet", "code": "R01"}
        values |= {"event_id": f"{self.rule}-{ref}-back", "occurred_at": self.at(of_round)}
        return of_round, builders.repayment_return_reported(account_id=self.account, **values | changes)


def with_more(said: One, more: Mapping[str, str]) -> tuple[int, Raw]:
    """Return what billing said with fields nobody asked for."""
    of_round, event = said
    raw = written(event)
    return of_round, Raw(raw.topic, json.dumps({**json.loads(raw.value or b""), **more}).encode(), raw.key, raw.headers)


@dataclass(frozen=True)
class Rule:
    """What billing says, and where both ledgers stand in the end; amounts in minor units."""

    says: Callable[[Billing], Said]
    ends: Mapping[str, int]
