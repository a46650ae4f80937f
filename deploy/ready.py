"""A container's health check: asks the service in it whether it is ready, until it says so.

A start is then seen when it is done and not at the next time of asking. Run with ``python -IS``, every few seconds in
every container: what takes long to import has no place here.
"""

import socket
import sys
import time
from typing import Final

ATTEMPTS: Final = 60
PAUSE_SECONDS: Final = 0.25
ANSWER_SECONDS: Final = 3


def ready(port: int) -> bool:
    """Return whether ``/readyz`` on this port of this host answers 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as asked:
            asked.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return asked.recv(16).startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
    except OSError:
        return False


def main(port: int, attempts: int = ATTEMPTS) -> int:
    """Ask so often; 0 once it is ready, else 1."""
    for left in reversed(range(attempts)):
        if ready(port):
            return 0
        if left:
            time.sleep(PAUSE_SECONDS)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
