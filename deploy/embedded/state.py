"""Keep what the embedded stack remembers between starts: one folder, one layout."""

import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAYOUT: Final = "1"
KIND: Final = "opentobuy embedded stack"
# Kafka, Java and supervisord each give these a meaning of their own inside a path.
UNSAFE: Final = re.compile(r'[,:;#%"\\\x00-\x1f\x7f]')
# Below the range the kernel hands out to clients, so a remembered port stays ours while down.
PORTS: Final = range(20_000, 32_000)
LOCK_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.05
# What `reset` removes: the cache of verified jars stays, so a reset works without network.
OWNED: Final = ("kafka", "postgres", "logs", "run", "secrets", "ports.json", "versions.json")


class StackError(Exception):
    """Say in one clear line what keeps the embedded stack from doing what was asked."""


@dataclass(frozen=True, slots=True)
class State:
    """Name every place inside the state folder."""

    root: Path
    cache: Path

    @property
    def versions(self) -> Path:
        """Return the file that marks the folder as ours and names its layout."""
        return self.root / "versions.json"

    @property
    def logs(self) -> Path:
        """Return the folder with one log per part and program."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of pids, start counts and generated configuration."""
        return self.root / "run"

    @property
    def kafka(self) -> Path:
        """Return the folder of the broker."""
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        """Return the folder of the database cluster."""
        return self.root / "postgres"

    def secret(self, name: str) -> str:
        """Return the named secret, made on first use and readable by its owner only."""
        path = self.root / "secrets" / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def locate(root: Path, cache: Path | None) -> State:
    """Name the places of a stack, refusing paths its parts could not read."""
    absolute = Path(os.path.abspath(root))
    shared = os.environ.get("OTB_CACHE_DIR", "")
    chosen = cache or (Path(shared) if shared else absolute / "cache")
    state = State(absolute, Path(os.path.abspath(chosen)))
    for path, variable in ((state.root, "OTB_STATE_DIR"), (state.cache, "OTB_CACHE_DIR")):
        if found := UNSAFE.search(str(path)):
            raise StackError(f"{path} holds {found[0]!r}, set {variable} to a plainer path")
    return state


def known(state: State) -> bool:
    """Tell whether the folder is a stack's, of whatever version."""
    try:
        return bool(_read(state.versions).get("kind") == KIND)
    except FileNotFoundError:
        return False


def prepare(state: State, versions: Mapping[str, str]) -> None:
    """Make the folder ready for these versions, or say why it cannot be."""
    wanted = {"kind": KIND, "layout": LAYOUT, **versions}
    try:
        if state.versions.exists():
            _refuse_other(state, wanted)
        else:
            _refuse_foreign(state)
        for folder in (state.logs, state.run, state.root / "secrets"):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not state.versions.exists():
            write_private(state.versions, json.dumps(wanted))
    except OSError as error:
        raise _unusable(state.root, error) from error
    try:
        state.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(state.cache, error, "OTB_CACHE_DIR") from error


def _refuse_other(state: State, wanted: Mapping[str, str]) -> None:
    found = _read(state.versions)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        name = differing[0]
        raise StackError(
            f"{state.root} was made with {name} {found.get(name, 'unknown')}, this version needs "
            f"{wanted[name]}: run `otb stack reset` (it removes the stack's data)"
        )


def _refuse_foreign(state: State) -> None:
    taken = [name for name in OWNED if (state.root / name).exists()]
    if taken:
        raise StackError(f"{state.root} holds {taken[0]} but is not a stack's folder: set OTB_STATE_DIR")


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in dict(found).items()}


def _unusable(folder: Path, error: OSError, variable: str = "OTB_STATE_DIR") -> StackError:
    return StackError(f"cannot use {folder} ({error.strerror or error}): set {variable}")


@contextmanager
def locked(state: State, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Let one caller change the stack while others wait, for a bounded time."""
    deadline = time.monotonic() + seconds
    try:
        descriptor = _open_lock(state.root)
        while not _hold(descriptor, state.root / "lock"):
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 20, 0).decode() or "unknown"
                os.close(descriptor)
                raise StackError(
                    f"process {holder} is changing the stack in {state.root}: gave up after {seconds:.0f} s"
                )
            time.sleep(POLL_SECONDS)
            os.close(descriptor)
            descriptor = _open_lock(state.root)
    except OSError as error:
        raise _unusable(state.root, error) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(root: Path) -> int:
    # Others may pass through (PostgreSQL under its own user), none but the owner may list.
    root.mkdir(parents=True, exist_ok=True, mode=0o711)
    return os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)


def _hold(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # A reset may have removed the file between the opening and the lock.
    if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return True


def remembered_port(state: State, part: str) -> int:
    """Return the port a part last used, 0 when it never had one."""
    try:
        return int(_read(state.root / "ports.json").get(part, "0"))
    except FileNotFoundError:
        return 0


def claim_port(state: State, part: str) -> int:
    """Choose the port of a part that is not running: forced, remembered or free."""
    forced = forced_port(part)
    port = forced or remembered_port(state, part) or free_port(state)
    if not is_free(port):
        raise StackError(f"port {port} for {part} is taken: free it or set {variable_of(part)} to another")
    remember_port(state, part, port)
    return port


def variable_of(part: str) -> str:
    """Return the environment variable that forces the port of a part."""
    return f"OTB_{part.upper()}_PORT"


def forced_port(part: str) -> int:
    """Return the port the environment forces for a part, 0 when it forces none."""
    text = os.environ.get(variable_of(part), "").strip()
    if not text:
        return 0
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(f"{variable_of(part)}={text} is not a port between 1 and 65535")
    return int(text)


def remember_port(state: State, part: str, port: int) -> None:
    """Keep the port a part uses."""
    path = state.root / "ports.json"
    ports = _read(path) if path.exists() else {}
    if ports.get(part) != str(port):
        write_private(path, json.dumps({**ports, part: port}))


def free_port(state: State) -> int:
    """Return a loopback port nobody listens on, and no part of this stack remembers."""
    path = state.root / "ports.json"
    ours = set(_read(path).values()) if path.exists() else set()
    for _ in range(1_000):
        port = secrets.choice(PORTS)
        if str(port) not in ours and is_free(port):
            return port
    raise StackError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remove(state: State) -> list[str]:
    """Remove what the stack made, the marker last, and return the paths removed."""
    removed = []
    for name in OWNED:
        path = state.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists() or path.is_symlink():
            path.unlink()
        else:
            continue
        removed.append(str(path))
    (state.root / "lock").unlink(missing_ok=True)
    if not any(state.root.iterdir()):
        state.root.rmdir()
        removed.append(str(state.root))
    return removed


def wait_until(done: Callable[[], bool], *, seconds: float) -> bool:
    """Poll until done, and tell whether that came in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
