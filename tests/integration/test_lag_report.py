"""`otb lag` and its report: the ledger's figures, the same in the table, in JSON and in the file that opens offline."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console
from typing_extensions import override

from services.cli.journey import MEASURED, Found, ledger_of, told_of
from services.cli.lag_report import Mark, html, read, seconds_of
from services.cli.ledger import Figures, cause_table, figures
from services.cli.look import show_timeline
from services.cli.servers import connected
from services.cli.terminal import Problem
from services.lag_monitor.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.wording import cause_label
from tests import builders
from tests.integration.conftest import MakeFeed
from tests.integration.support import owner
from tests.unit.given import rid
from tests.unit.test_lag_ledger import EVERYTHING, observed
from tests.unit.test_rules_of_time import restored_of_r9

AGES = 10 * 365 * 86_400.0


class Page(HTMLParser):
    """What a browser would fetch, and the text of the cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "td":
            self.cells.append("")
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    @override
    def handle_data(self, data: str) -> None:
        if self.cells and self.lasttag == "td":
            self.cells[-1] += data


async def everything(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)


async def found_of(settings: Settings) -> Figures:
    async with connected(settings) as connection:
        found = await figures(connection, AGES)
    assert found is not None
    return found


async def test_the_lines_add_up_to_the_lag_of_what_was_restored(feed_of: MakeFeed, settings: Settings) -> None:
    await everything(feed_of)
    found = await found_of(settings)
    facts = [fact for journey in observed(EVERYTHING).values() for fact in journey.facts]
    (total,) = found.totals
    assert total["parts"] == len(facts)
    assert sum(line.total_ms for line in found.lines) == sum(fact.lag.milliseconds for fact in facts)
    amount = sum(fact.restored.amount_minor for fact in facts)
    weighted = sum(fact.restored.amount_minor * fact.lag.milliseconds for fact in facts)
    assert total["weighted_ms"] == round(weighted / amount)
    assert total["withheld_minor_seconds"] == round(weighted / 1000)
    shares = sum((line.weighted_ms or {}).get("CNY", 0) for line in found.lines)
    assert shares == pytest.approx(total["weighted_ms"], abs=len(found.lines))
    assert cause_table(found).row_count == len(found.lines) + 2 + len(found.promises)


async def test_r09_the_lag_of_the_worked_example_is_the_ledger_s(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    held = restored_of_r9()[-1]
    at = {"repayment_id": held.repayment_id, "repaid_at": held.repaid_at}
    await feed.deliver(builders.repayment_received(**at), builders.risk_assessed(**at), held)
    async with owner(settings) as connection:
        rows = await connection.fetch(
            "SELECT split_part(cause, '.', 1) AS kind, sum(ms) AS ms FROM lag_monitor.lag_segment GROUP BY 1"
        )
        lag = await connection.fetchval("SELECT sum(lag_ms) FROM lag_monitor.restoration_fact")
    assert {row["kind"]: row["ms"] for row in rows} == {
        "external": 4_200,
        "system_delay": 2_700,
        "risk_observation": 172_800_000,
    }
    assert lag == 172_806_900


async def test_the_report_opens_offline_and_says_what_json_says(feed_of: MakeFeed, settings: Settings) -> None:
    await everything(feed_of)
    async with connected(settings) as connection:
        report = await read(connection, AGES, [Mark(utc_now(), "settlement killed")])
    text = html(report)
    page = Page(text)
    assert page.fetched == []
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert {"svg", "table", "rect", "polyline"} <= page.tags
    (total,) = report.figures.described()["totals"]
    assert str(total["parts"]) in page.cells
    for _, line in report.examples:
        assert f"{line.milliseconds} ms" in page.cells
        assert line.tiles
    assert "settlement killed" in text


async def test_trace_shows_the_segments_of_the_ledger(feed_of: MakeFeed, settings: Settings) -> None:
    await everything(feed_of)
    for at, known in observed(EVERYTHING).items():
        async with connected(settings) as connection:
            lines = await ledger_of(connection, MEASURED, at)
        facts = sorted(known.facts, key=lambda fact: fact.restored.tranche)
        assert [line.tranche for line in lines] == [fact.restored.tranche for fact in facts]
        for line, fact in zip(lines, facts, strict=True):
            told = [(s.stage, s.cause, s.to_at, s.milliseconds) for s in fact.lag.segments]
            assert [(s.stage, s.cause, s.until, s.milliseconds) for s in line.stretches] == told
            assert (line.tiles, line.milliseconds) == (True, fact.lag.milliseconds)


async def test_a_wait_for_the_rail_is_traced_as_the_ledger_knows_it(feed_of: MakeFeed, settings: Settings) -> None:
    """The trail of the report that said succeeded knows of no pending one before it; the ledger does."""
    await everything(feed_of)
    async with connected(settings) as connection:
        lines = await ledger_of(connection, MEASURED, rid("waits"))
        told = tuple(replace(line, stretches=(), ledger=False) for line in lines)
        of = Found(rid("waits"), builders.ACCOUNT, None)
        known = replace(await told_of(connection, of), timelines=told, measured=lines)
    assert known.lines == lines
    with (console := Console(width=200)).capture() as shown:
        show_timeline(console, known.lines[0], "en")
    assert "the lag ledger's: adds up exactly" in shown.get()
    assert cause_label("external.settlement_wait", "en", audience="agent") in shown.get()


async def test_an_empty_ledger_has_a_report_too(settings: Settings) -> None:
    async with connected(settings) as connection:
        report = await read(connection, 60)
    assert "Parts restored in the last" in html(report)


async def test_where_no_observer_keeps_a_ledger_that_is_said(settings: Settings) -> None:
    async with owner(settings) as connection:
        await connection.execute("DROP SCHEMA lag_monitor CASCADE")
    async with connected(settings) as connection:
        assert await figures(connection, 60) is None
        assert await ledger_of(connection, MEASURED, builders.REPAYMENT) == ()
        with pytest.raises(Problem, match="lag-monitor"):
            await read(connection, 60)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3_600), ("2d", 172_800), ("0.5h", 1_800)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "one hour"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        seconds_of(text)
