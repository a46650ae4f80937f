"""Fetch the jars of Kafka named in the lock, and use none whose sha256 differs."""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded.state import StackError

LOCK: Final = Path(__file__).with_name("kafka.lock")
MIRROR: Final = "OTB_MAVEN_REPOSITORY"
ATTEMPTS: Final = 3
THREADS: Final = 8
SAY_EVERY: Final = 15


@dataclass(frozen=True, slots=True)
class Jar:
    """Pin one file of Maven's repository."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """Return the name Maven knows it by."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def filename(self) -> str:
        """Return its name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Read `group:artifact:version:sha256` lines; `#` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Jar(*line.split(":")) for line in lines if line]


def kafka_version(jars: list[Jar]) -> str:
    """Return the major and minor version of the locked broker."""
    broker = next(jar for jar in jars if jar.artifact.startswith("kafka_"))
    return ".".join(broker.version.split(".")[:2])


def fetch(cache: Path, jars: list[Jar]) -> list[Path]:
    """Return the verified path of every jar, fetching in parallel what is missing."""
    folder = cache / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS) as pool:
        good = list(pool.map(lambda jar: matches(folder / jar.filename, jar), jars))
    missing = [jar for jar, fine in zip(jars, good, strict=True) if not fine]
    if missing:
        _fetch_all(folder, missing)
    return [folder / jar.filename for jar in jars]


def matches(path: Path, jar: Jar) -> bool:
    """Tell whether the file is there and is the locked one."""
    return path.is_file() and digest(path) == jar.sha256


def digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(folder: Path, jars: list[Jar]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as draft,
        _trust(),
        _progress(len(jars)) as advance,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        futures = [pool.submit(_fetch_one, folder, Path(draft), jar) for jar in jars]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(folder: Path, draft: Path, jar: Jar) -> None:
    fetched = download(draft, jar.coordinate)
    if not matches(fetched, jar):
        raise StackError(
            f"{jar.coordinate} does not match kafka.lock (expected sha256 {jar.sha256}): "
            f"it was changed on the way, check {MIRROR} or your proxy"
        )
    fetched.replace(folder / jar.filename)


def download(draft: Path, coordinate: str) -> Path:
    """Fetch one jar without resolving anything, trying again when the network falters."""
    import requests  # what jgo fetches with; both are needed on a first start only
    from jgo.maven import MavenContext

    mirror = os.environ.get(MIRROR, "").rstrip("/")
    context = MavenContext(repo_cache=draft, remote_repos={"mirror": mirror} if mirror else None)
    artifact = context.create_dependency(coordinate).artifact
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return Path(artifact.resolve())
        except (requests.RequestException, RuntimeError, OSError) as error:
            if attempt == ATTEMPTS:
                raise _unreachable(coordinate, error) from error
            if artifact.cached_path is not None:
                artifact.cached_path.unlink(missing_ok=True)
    raise AssertionError("the last attempt returns or raises")


def _unreachable(coordinate: str, error: Exception) -> StackError:
    reason = type(error).__name__
    return StackError(
        f"cannot download {coordinate} ({reason}): the first start needs a network; "
        f"set {MIRROR} to a mirror, or SSL_CERT_FILE behind a proxy that inspects TLS"
    )


@contextmanager
def _trust() -> Iterator[None]:
    """Trust while fetching what Python and pip were told to trust."""
    told = (os.environ.get(name, "") for name in ("SSL_CERT_FILE", "PIP_CERT"))
    bundle = next((path for path in told if path), "")
    if not bundle or "REQUESTS_CA_BUNDLE" in os.environ:
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show the fetch on stderr: a bar in a terminal, plain lines elsewhere."""
    logging.getLogger("jgo").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        yield _plain_lines(total)
        return
    from rich.console import Console  # only who downloads waits for them
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Kafka jars", total=total)
        yield lambda: bar.advance(task)


def _plain_lines(total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done == total or done % SAY_EVERY == 0:
            print(f"Kafka jars: {done} of {total}", file=sys.stderr)

    return advance
