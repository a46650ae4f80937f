"""When what of a repayment is back, and whether that is sooner."""

from datetime import datetime

from services.risk_scoring.model import Verdict

Course = list[tuple[datetime, int]]
"""What is back by each date; a date already past means now."""


def course(verdict: Verdict, now: datetime) -> Course:
    """Return when what of a verdict is back, in all."""
    found: Course = []
    back = 0
    for due, amount in sorted([(max(now, tranche.due_at), tranche.amount_minor) for tranche in verdict.tranches]):
        back += amount
        found.append((due, back))
    return found


def given_until(course: Course, due: datetime) -> int:
    """Return what is back by a date."""
    back = 0
    for at, amount in course:
        if at > due:
            break
        back = amount
    return back


def sooner(gives: Course, had: Course, now: datetime) -> bool:
    """Tell whether a course gives all back at once, or never later than ``had`` and once sooner."""
    if not gives:
        return False
    last = gives[-1][0]
    if last == now:
        return True
    sooner = last < had[-1][0]
    for due, amount in had:
        back = given_until(gives, due)
        if back < amount:
            return False
        sooner = sooner or back > amount
    return sooner and last <= had[-1][0]
