"""The containers' health check waits for a yes, and says no in the end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from typing_extensions import override

from deploy import ready
from services.cli.system import free_port

PORT_OF_NOBODY = 1


@contextmanager
def answering(*statuses: int) -> Iterator[int]:
    """Serve /readyz with these statuses one after the other, then with the last; yield the port."""
    asked = iter(statuses)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(next(asked, statuses[-1]))
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", free_port()), Page) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_service_that_becomes_ready_while_it_is_asked_is_healthy() -> None:
    with answering(503, 503, 200) as port:
        assert ready.main(port, attempts=3) == 0


def test_a_service_that_does_not_become_ready_is_not_healthy() -> None:
    with answering(503) as port:
        assert ready.main(port, attempts=2) == 1


def test_nobody_there_is_not_healthy() -> None:
    assert ready.main(PORT_OF_NOBODY, attempts=2) == 1


def test_it_runs_without_anything_installed() -> None:
    with answering(200) as port:
        assert subprocess.run([sys.executable, "-IS", ready.__file__, str(port)]).returncode == 0
