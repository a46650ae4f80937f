"""A real Prometheus with the committed rules, scraping real processes each second, and asked over HTTP."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from services.cli.system import free_port
from services.runtime.clock import monotonic, utc_now
from tests.debian import program
from tests.grafana import DEPLOY
from tests.tied import tied

START_SECONDS: Final = 30.0
SCRAPED_EVERY: Final = "1s"
STEP_SECONDS: Final = 2
RULES: Final = "rules.yml"
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Prometheus:
    """A running server and the folder its configuration is in."""

    client: httpx.Client
    folder: Path
    began: float

    def scrape(self, ports: Mapping[str, int]) -> None:
        """Scrape these processes from now on, a job each as a deployment does."""
        told = [{"targets": [f"127.0.0.1:{port}"], "labels": {"job": name}} for name, port in ports.items()]
        (self.folder / "targets" / "processes.yml").write_text(yaml.safe_dump(told))

    @property
    def began_ms(self) -> int:
        """Return since when it runs, in milliseconds since 1970."""
        return round(self.began * 1000)

    def epoch_ms(self) -> int:
        """Return this moment in milliseconds since 1970."""
        return round(_epoch() * 1000)

    def now(self, expression: str) -> list[Sample]:
        """Return the series of an expression at this moment."""
        found = self._asked("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    def since_the_start(self, expression: str) -> list[Sample]:
        """Return every point of an expression since the server runs."""
        found = self.answered(expression, instant=False)
        return [(series["metric"], float(value)) for series in found for _, value in series["values"]]

    def answered(self, expression: str, *, instant: bool) -> list[Mapping[str, Any]]:
        """Return the series of an expression as the server tells them, at this moment or since it runs."""
        asked = {"start": str(self.began), "end": str(_epoch()), "step": str(STEP_SECONDS)}
        found = self._asked("query" if instant else "query_range", query=expression, **({} if instant else asked))
        told = found["result"]
        return [{"metric": {}, "value": told}] if found["resultType"] == "scalar" else list(told)

    def exemplars(self, expression: str) -> list[Mapping[str, Any]]:
        """Return the exemplars of an expression since the server runs."""
        found = self._asked("query_exemplars", query=expression, start=str(self.began), end=str(_epoch()))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def seconds(self) -> int:
        """Return for how long it has run."""
        return round(_epoch() - self.began)

    def _asked(self, what: str, **parameters: str) -> Any:
        answer = self.client.post(f"/api/v1/{what}", data=parameters)
        told = answer.json()
        assert told["status"] == "success", f"{parameters['query']}: {told.get('error')}"
        return told["data"]


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Run a server until the end of the block."""
    (folder / "targets").mkdir(parents=True)
    _configure(folder)
    at = f"127.0.0.1:{free_port()}"
    command = [
        *(
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ),
        *(f"--web.listen-address={at}", "--enable-feature=exemplar-storage"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(tied(*command), stdout=log, stderr=log)
        try:
            ready(f"http://{at}/-/ready")
            with httpx.Client(base_url=f"http://{at}", trust_env=False, timeout=30) as client:
                yield Prometheus(client, folder, _epoch())
        finally:
            process.terminate()
            process.wait()


def ready(url: str) -> None:
    """Wait until a server says that it is ready."""
    began = monotonic()
    while monotonic() - began < START_SECONDS:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
    raise AssertionError(f"{url} does not answer")


def _configure(folder: Path) -> None:
    """Write the committed configuration with seconds instead of its intervals; how long an alert holds stays."""
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    told["global"] = {"scrape_interval": SCRAPED_EVERY, "evaluation_interval": SCRAPED_EVERY}
    told["scrape_configs"] = [each for each in told["scrape_configs"] if "file_sd_configs" in each]
    told["scrape_configs"][0]["file_sd_configs"][0]["refresh_interval"] = "1s"
    del told["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
    rules = yaml.safe_load((DEPLOY / "prometheus" / RULES).read_text())
    for group in rules["groups"]:
        group["interval"] = SCRAPED_EVERY
    (folder / RULES).write_text(yaml.safe_dump(rules))


def _epoch() -> float:
    return utc_now().timestamp()
