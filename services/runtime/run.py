"""A worker as a Faust app: its CLI, web server, signals and supervision; Kafka itself is the money loop's."""

import asyncio
import gc
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, cast

import faust
import uvloop
from aiohttp.web import Response
from faust.app.base import BootStrategy
from prometheus_client.exposition import choose_encoder
from typing_extensions import override

from services.hosted import Hosted, datadir
from services.runtime import health, logs, metrics
from services.runtime.consumer import BatchConsumer
from services.runtime.settings import load_settings, masked
from services.runtime.worker import AnyWorker


class _Boot(BootStrategy):
    """Faust's own Kafka parts stay off: its acknowledgements lose messages (services/README.md)."""

    enable_kafka = False


class _App(faust.App):
    BootStrategy = _Boot

    def __init__(self, worker: AnyWorker, **options: Any) -> None:
        super().__init__(worker.name, **options)
        self._worker_declared = worker
        self.money: BatchConsumer | None = None

    @override
    def on_init_dependencies(self) -> Iterable[Any]:
        """Start the money loop with the app; settings are read here, never at import."""
        settings = load_settings()
        logs.set_level(settings.log_level)
        metrics.begin(self._worker_declared.name, version("opentobuy"))
        shown = {name: value for name, value in masked(settings).items() if value != "None"}
        logs.LOGGER.info("starting", service=self._worker_declared.name, settings=shown)
        self.money = BatchConsumer(self._worker_declared, settings, loop=self.loop, beacon=self.beacon)
        gc.disable()  # the money loop collects between batches
        return [*super().on_init_dependencies(), self.money]


def host(worker: AnyWorker, hosted: type[Hosted] = Hosted) -> faust.App:
    """Return the app that runs ``worker``: ``faust -A services.<package>.worker worker``."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = _App(
        worker,
        broker="kafka://",
        store="memory://",
        datadir=datadir(),
        Worker=hosted,
        autodiscover=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_bind="127.0.0.1",
        worker_redirect_stdouts=False,
        logging_config=logs.configure(),
    )
    _pages(app)
    return app


def _pages(app: _App) -> None:
    @app.page("/metrics")
    async def metrics_page(view: Any, request: Any) -> Any:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(body=encode(metrics.REGISTRY), headers={"Content-Type": content_type})

    @app.page("/livez")
    async def livez(view: Any, request: Any) -> Any:
        return _probe(health.live(app.money))

    @app.page("/readyz")
    async def readyz(view: Any, request: Any) -> Any:
        return _probe(health.ready(app.money))


def _probe(problem: str | None) -> Any:
    return Response(text=problem or "ok", status=200 if problem is None else 503)


def main(worker_module: str) -> None:
    """Run a worker's app as ``python -m`` does, with Faust's own command line."""
    from faust.cli.faust import cli

    cast(Any, cli)(["-A", worker_module, "worker", "-l", "info"])
