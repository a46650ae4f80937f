"""Become the program a specification file describes, tied to the life of the supervisor.

Runs alone, with the standard library only: a part must start under any user and folder.
"""

import ctypes
import json
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
CLONE_NEWUSER: Final = 0x10000000
PR_SET_SECUREBITS: Final = 28
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
CAP_DAC_OVERRIDE: Final = 1
CAPABILITY_VERSION_3: Final = 0x20080522
UNREACHABLE: Final = 77


class Header(ctypes.Structure):
    """Lay out the header of capset(2)."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Sets(ctypes.Structure):
    """Lay out one word of the capability sets of capset(2)."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def main(path: Path) -> None:
    """Replace this process with the described program."""
    program = json.loads(path.read_text())
    record_start(path.with_suffix(".pid"), path.with_suffix(".starts"))
    os.chdir(program["directory"])
    os.umask(0o077)
    if program["user"]:
        become(program["user"])
    check_reach(program["reaches"])
    if program["needs_account"] and not has_account():
        borrow_account()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    # Changing the user clears the death signal, so it is asked for last.
    die_with_parent(signal.Signals[program["stop_signal"]])
    command = program["command"]
    os.execvpe(command[0], command, {**os.environ, **program["environment"]})


def record_start(pid: Path, starts: Path) -> None:
    """Note who runs and how many times it was started, for status and for cleaning up."""
    pid.write_text(str(os.getpid()))
    count = int(starts.read_text() or "0") if starts.exists() else 0
    starts.write_text(str(count + 1))


def become(user: int) -> None:
    """Drop root, keeping only the right to reach folders that root alone may enter."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    # access(2) honours capabilities for a plain user only with this bit, and initdb asks it.
    kept = libc is not None and prctl(libc, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    if libc is not None and kept:
        keep_reach(libc)


def keep_reach(libc: ctypes.CDLL) -> None:
    """Drop every capability but CAP_DAC_OVERRIDE, and pass that one on through exec."""
    bit = 1 << CAP_DAC_OVERRIDE
    header = Header(CAPABILITY_VERSION_3, 0)
    if libc.capset(ctypes.byref(header), (Sets * 2)(Sets(bit, bit, bit), Sets(0, 0, 0))) == 0:
        prctl(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    else:
        libc.capset(ctypes.byref(header), (Sets * 2)())


def prctl(libc: ctypes.CDLL, *arguments: int) -> bool:
    """Call prctl(2) and tell whether it worked."""
    return bool(libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)) == 0)


def has_account() -> bool:
    """Tell whether the user database knows who we are."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def borrow_account() -> None:
    """Appear as a known user in a namespace of our own: initdb asks for a user's name."""
    user, group = os.geteuid(), os.getegid()
    known = next((each.pw_uid for each in pwd.getpwall() if each.pw_uid), 0)
    if known and ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{known} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    else:
        sys.exit(f"user {user} cannot be found in the user database, and initdb needs its name")


def check_reach(paths: list[str]) -> None:
    """Leave with a status of its own when the program could not reach its files."""
    for path in paths:
        try:
            os.stat(path)
        except PermissionError:
            print(f"user {os.getuid()} cannot reach {path}", file=sys.stderr)
            sys.exit(UNREACHABLE)


def die_with_parent(stop: signal.Signals) -> None:
    """Ask Linux for the stop signal when the supervisor dies without stopping its parts."""
    if sys.platform == "linux":
        prctl(ctypes.CDLL(None, use_errno=True), PR_SET_PDEATHSIG, stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
