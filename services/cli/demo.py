"""The demo: a stranger sees credit come back, a worker die and recover, and every second accounted for."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from deploy.embedded import StackError
from services.billing_simulator.load import Load, accounts_plan, repayments_plan
from services.billing_simulator.scenarios import SCENARIOS, Scenario, scenario, together
from services.billing_simulator.send import Ledger
from services.cli import lag_report
from services.cli.checks import Report, examine, verdict_lines
from services.cli.declared import OBSERVERS, WORKERS
from services.cli.lag import Flow, begin, described
from services.cli.lag_report import Mark
from services.cli.live import Screen, Watch
from services.cli.load import run_label
from services.cli.playing import ask_for_review, open_accounts, send_rest, send_until
from services.cli.servers import Connection, connected, stack_of
from services.cli.story import books_line, stories
from services.cli.system import System, open_system, provision, start_probe, start_workers, wait_ready
from services.cli.terminal import EPILOG, FOUND, OK, Json, Problem, print_json, seconds_since
from services.cli.windows import address, start_picture
from services.lag_monitor import PICTURE, PROBE
from services.lag_monitor.probe import EVERY_SECONDS
from services.profiles import load_profiles
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import load_settings

PARTITIONS: Final = 6
ACCOUNTS: Final = 60
KILLED: Final = "settlement"
RUNNING: Final = (*WORKERS, *(each for each in OBSERVERS if not each.writes))
"""The five, and who only watches them."""
STOPPED: Final = (*(worker.name for worker in RUNNING), PICTURE, PROBE)
# Restored parts the observer has not measured yet.
UNMEASURED = """
SELECT (SELECT count(*) FROM limit_release.tranche WHERE restored_at IS NOT NULL)
  - (SELECT count(*) FROM lag_monitor.restoration_fact)
"""
BEFORE_KILL_SECONDS: Final = 2.0
RECOVERY_SECONDS_MAX: Final = 60.0
TRAFFIC_SECONDS_MAX: Final = 900.0
REST_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.2
CAUGHT_UP_SECONDS: Final = 2.0


@dataclass(slots=True)
class Result:
    """What was measured in this run."""

    run: str
    ready_seconds: float = 0.0
    killed: str = KILLED
    down_seconds: float | None = None
    caught_up_seconds: float | None = None
    acknowledged: int = 0
    missing: int = 0
    lag: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=monotonic)
    marks: list[Mark] = field(default_factory=list)
    lag_report: Path | None = None
    report: Report | None = None

    @property
    def good(self) -> bool:
        """Tell whether all went as promised."""
        verdict = self.report is not None and not self.report.violated
        return verdict and self.missing == 0 and self.down_seconds is not None


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("demo", epilog=EPILOG)(demo)


def demo(
    seconds: Annotated[float, typer.Option(min=0, max=600, help="Traffic after the recovery.")] = 60,
    rate: Annotated[float, typer.Option(min=1, max=500, help="Repayments a second.")] = 20,
    plain: Annotated[bool, typer.Option("--plain", help="Lines only: for a screen reader or a log.")] = False,
    as_json: Json = False,
) -> int:
    """Show it all: starts real Kafka and PostgreSQL and the workers, plays billing, kills a worker, tells the story."""
    settings = load_settings()
    screen = Screen(plain=plain or as_json, aside=as_json)
    result = Result(run_label())
    screen.say("opentobuy gives credit back after a repayment and accounts for every second between.", bold=True)
    screen.say("Every figure below is measured in this run, on this machine. Ctrl-C stops and cleans up at any moment.")
    with _cleaned(settings.state_dir, screen):
        system, ports = _start(screen, result)
        asyncio.run(_show(screen, system, ports, result, seconds=seconds, rate=rate))
        system.stack.stop(STOPPED)
    _end(screen, result)
    if as_json:
        print_json(_summary(result))
    return OK if result.good else FOUND


def _start(screen: Screen, result: Result) -> tuple[System, Mapping[str, int]]:
    """Start servers and workers, each step timed."""
    begun = monotonic()
    screen.title("1. Start")
    screen.say("Kafka and PostgreSQL: starting; the first time downloads 41 MB of jars ...")
    system = open_system(load_settings())
    screen.say(f"Kafka and PostgreSQL: up after {seconds_since(begun)}, in {system.stack.state_dir}")
    step = monotonic()
    migrated, topics = asyncio.run(provision(system.settings, partitions=PARTITIONS))
    screen.say(f"schemas and topics: {len(migrated)} migrations and {len(topics)} topics new, {seconds_since(step)}")
    step = monotonic()
    screen.say(f"workers: starting {', '.join(worker.name for worker in RUNNING)} ...")
    ports = start_workers(system, RUNNING)
    asyncio.run(wait_ready(ports))
    screen.say(f"workers: all ready after {seconds_since(step)}")
    result.ready_seconds = monotonic() - begun
    ports = {**ports, PICTURE: start_picture(system)}
    screen.say(f"live picture, windows in memory that no figure needs: {address(ports[PICTURE])}")
    start_probe(system)
    screen.say(
        f"synthetic probe: a repayment of 1 every {EVERY_SECONDS} s in books of its own, counted in the verdict only"
    )
    return system, ports


async def _show(
    screen: Screen, system: System, ports: Mapping[str, int], result: Result, *, seconds: float, rate: float
) -> None:
    """Play the scenarios and the traffic, kill and watch, then tell what became of all of it."""
    played = [scenario(name, result.run) for name in SCENARIOS]
    async with connected(system.settings) as connection:
        flow = await begin(connection, 0.001)
        ledger = Ledger()
        scene = Scene(connection, flow, ledger, result)
        await _scenarios(screen, system, played, scene)
        await _traffic(screen, system, ports, scene, seconds=seconds, rate=rate)
        await _review(screen, system, played, connection)
        result.lag = described(flow, TRAFFIC_SECONDS_MAX)
        await _at_rest(screen, system, flow, connection, result)
        await _lag_report(screen, system, connection, result)
        screen.title("4. What became of each named repayment")
        for heading, lines in await stories(connection, load_profiles(system.settings), played):
            screen.story(heading, lines)
        result.acknowledged = len(ledger.acknowledged)
        result.missing, words = await books_line(connection, ledger.acknowledged)
        screen.title("5. Verdict")
        screen.say(words)
        for line in verdict_lines(result.report) if result.report else ():
            screen.say(line)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the traffic part works on."""

    connection: Connection
    flow: Flow
    ledger: Ledger
    result: Result


async def _scenarios(screen: Screen, system: System, played: Sequence[Scenario], scene: Scene) -> None:
    screen.title(f"2. {len(played)} named stories begin")
    for each in played:
        screen.say(f"{each.name.replace('_', ' ')}: {each.about}")
    begun, plan = monotonic(), together(played)
    accounts = await open_accounts(system.settings, scene.connection, plan, scene.ledger)
    screen.say(
        f"billing opened {accounts} accounts with a debt each; every service knows them after {seconds_since(begun)}"
    )
    sent = await send_rest(system.settings, plan, scene.ledger)
    screen.say(f"billing sent {sent.messages} messages; the longest hold ends 20 s after its repayment")


async def _traffic(
    screen: Screen, system: System, ports: Mapping[str, int], scene: Scene, *, seconds: float, rate: float
) -> None:
    """Send an open loop of repayments; kill a worker in the middle of it and watch."""
    screen.title(f"3. {rate:g} repayments a second, and {KILLED} is killed in the middle")
    stop = asyncio.Event()
    load = Load(seed=1, run=scene.result.run, accounts=ACCOUNTS, rate=rate, seconds=TRAFFIC_SECONDS_MAX)
    await open_accounts(system.settings, scene.connection, accounts_plan(load), scene.ledger)
    sending = asyncio.create_task(send_until(system.settings, repayments_plan(load), stop, scene.ledger))
    watch = Watch(screen, scene.flow, scene.connection, ports[PICTURE])
    try:
        async with watch.running():
            await _kill_and_recover(watch, system, ports, scene.result)
            await watch.until(lambda: False, seconds)
            stop.set()
            await sending
    finally:
        sending.cancel()


async def _review(screen: Screen, system: System, played: Sequence[Scenario], connection: Connection) -> None:
    """Let the customer who always paid on time ask why the limit does not grow."""
    for each in played:
        if each.reviewed:
            begun = monotonic()
            answered = await ask_for_review(system.settings, connection, each)
            came = f"answered and told after {seconds_since(begun)}" if answered else "not told within a minute"
            screen.say(f"{each.name.replace('_', ' ')}: a review of the limit is asked for; {came}")


async def _kill_and_recover(watch: Watch, system: System, ports: Mapping[str, int], result: Result) -> None:
    """Kill one worker without warning; measure until it answers again and until nothing waits for it."""
    before = watch.flow.received_count
    await watch.until(lambda: watch.flow.received_count > before, RECOVERY_SECONDS_MAX)
    await watch.until(lambda: False, BEFORE_KILL_SECONDS)
    pid = _pid_of(system, KILLED)
    os.kill(pid, signal.SIGKILL)
    begun = monotonic()
    result.marks.append(Mark(utc_now(), f"{KILLED} killed"))
    watch.note(f"killed {KILLED} (pid {pid}) with SIGKILL; billing goes on sending")
    if not await _answers_again(system, ports[KILLED], pid):
        watch.note(f"{KILLED} did not come back within {RECOVERY_SECONDS_MAX:.0f} s")
        return
    result.down_seconds = monotonic() - begun
    result.marks.append(Mark(utc_now(), f"{KILLED} ready"))
    waiting = len(watch.flow.waiting()["settlement"])
    again = _pid_of(system, KILLED)
    watch.note(
        f"{KILLED} is ready again after {result.down_seconds:.1f} s, as pid {again}; "
        f"{waiting} repayments waited for it at that moment"
    )
    if not await watch.until(lambda: watch.oldest_seconds() < CAUGHT_UP_SECONDS, RECOVERY_SECONDS_MAX):
        watch.note(f"not caught up after {RECOVERY_SECONDS_MAX:.0f} s")
        return
    result.caught_up_seconds = monotonic() - begun - result.down_seconds
    most = f"no repayment on its way is older than {CAUGHT_UP_SECONDS:g} s"
    watch.note(f"caught up {result.caught_up_seconds:.1f} s later: {most}")


async def _answers_again(system: System, port: int, old: int) -> bool:
    """Wait until another process than ``old`` answers ready."""
    deadline = monotonic() + RECOVERY_SECONDS_MAX
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        while monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            try:
                ready = (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            except httpx.HTTPError:
                continue
            if ready and _pid_of(system, KILLED) != old:
                return True
    return False


async def _at_rest(screen: Screen, system: System, flow: Flow, connection: Connection, result: Result) -> None:
    """Wait until holds ended and nothing is in flight, then check every invariant."""
    begun = monotonic()
    await asyncio.to_thread(system.stack.stop, [PROBE])
    screen.say("billing stopped; waiting for the last holds and for nothing to be in flight ...")
    while monotonic() - begun < REST_SECONDS_MAX:
        await flow.read(connection)
        if not flow.held and not any(flow.waiting().values()):
            result.report = await examine(system.settings, at_rest=True)
            if not result.report.violated:
                break
        await asyncio.sleep(1.0)
    else:
        result.report = await examine(system.settings, at_rest=True)
    screen.say(f"at rest after {seconds_since(begun)}")


async def _lag_report(screen: Screen, system: System, connection: Connection, result: Result) -> None:
    """Write where the time of this run went, once the observer measured all that was restored."""
    begun = monotonic()
    while monotonic() - begun < REST_SECONDS_MAX:
        if not await connection.fetchval(UNMEASURED):
            break
        await asyncio.sleep(POLL_SECONDS)
    found = await lag_report.read(connection, max(10.0, monotonic() - result.begun), result.marks)
    result.lag_report = system.stack.state_dir / "lag.html"
    result.lag_report.write_text(lag_report.html(found))
    screen.say(f"where the time of {len(found.facts)} restored parts went, as a page to open: {result.lag_report}")


def _end(screen: Screen, result: Result) -> None:
    """Say what runs on, how to stop it and where to look next."""
    otb = command()
    screen.title("Look next")
    for words in (
        f"{otb} trace rep_demo_case_a_{result.run}",
        f"{otb} explain rep_demo_held_and_explained_{result.run} --lang zh-CN --for agent",
        f"{otb} dlq list",
    ):
        screen.say(words)
    screen.say(f"The workers are stopped. Kafka and PostgreSQL keep running; stop them with: {otb} stack down")


def command() -> str:
    """Return how this command can be typed again: its name where the shell finds it, else its path."""
    found, here = shutil.which("otb"), Path(sys.argv[0])
    if found and here.exists() and Path(found).samefile(here):
        return "otb"
    return os.path.relpath(here) if here.name == "otb" else f"{os.path.relpath(sys.executable)} -m services.cli.main"


def _pid_of(system: System, name: str) -> int:
    for process in system.stack.processes():
        if process.name == name:
            return process.pid or 0
    raise Problem(f"{name} is not under supervision")


@contextmanager
def _cleaned(state_dir: Path, screen: Screen) -> Iterator[None]:
    """Leave nothing running when interrupted; what fails leaves servers that ran before."""
    stack = stack_of(load_settings())
    before = {process.name for process in stack.processes() if process.pid}
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
        with _deaf():
            if interrupted or not before:
                stack.down()
            else:
                with suppress(StackError):
                    stack.stop(STOPPED)
        if interrupted:
            screen.say("interrupted: workers, Kafka and PostgreSQL are stopped, nothing is left running")
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _deaf() -> Iterator[None]:
    """Finish cleaning up whatever the terminal sends meanwhile."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [(number, signal.signal(number, signal.SIG_IGN)) for number in signals]
    try:
        yield
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)


def _summary(result: Result) -> dict[str, Any]:
    report = result.report
    return {
        "ok": result.good,
        "run": result.run,
        "ready_seconds": round(result.ready_seconds, 1),
        "killed": result.killed,
        "down_seconds": result.down_seconds,
        "caught_up_seconds": result.caught_up_seconds,
        "acknowledged": result.acknowledged,
        "missing": result.missing,
        "lag": result.lag,
        "lag_report": None if result.lag_report is None else str(result.lag_report),
        "counts": report.counts if report else {},
        "violated": [finding.name for finding in report.violated] if report else [],
    }
