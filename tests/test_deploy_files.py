"""The deployment files agree with the code and with each other; the shim and `deploy` say what is wrong in one line."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import re
import subprocess
import sys
import tomllib
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, RawScheduleConfig, WorkPoolConfig
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.events import Resource
from prefect.plugins import HookContext

from flows.server.automations import HEARTBEAT_SECONDS, TAG
from flows.server.deploy import MESSAGE_LENGTH, POOL_NAME, deployment_names, ensure_work_pool, last_message
from flows.server.events import REJECTIONS_HIGH
from flows.server.short_names import AmbiguousDeploymentError, setup_environment, teach_short_names
from manifests.errors import ConfigError
from tests.helpers.source_tree import PACKAGES

REPO = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
VARIABLE = re.compile(r"\$\{(\w+)")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((REPO / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(read_yaml("docker-compose.yml")["services"])


@pytest.fixture(scope="module")
def deployments() -> list[dict[str, Any]]:
    return list(read_yaml("prefect.yaml")["deployments"])


def _entrypoint(deployment: dict[str, Any]) -> tuple[ModuleType, str]:
    module, _, function = deployment["entrypoint"].rpartition(".")
    return importlib.import_module(module), function


# prefect.yaml


def test_prefect_reads_every_key_of_prefect_yaml(deployments: list[dict[str, Any]]) -> None:
    # Prefect drops a key that it does not know without a word, and with it, say, the limit of runs.
    for deployment in deployments:
        assert set(deployment) <= set(DeploymentConfig.model_fields)
        assert set(deployment["work_pool"]) <= set(WorkPoolConfig.model_fields)
        assert set(deployment["concurrency_limit"]) <= set(ConcurrencyLimitSpec.model_fields)
        for schedule in deployment["schedules"]:
            RawScheduleConfig.model_validate(schedule)


def test_deployments_wait_in_line_and_are_scheduled_only_when_asked(deployments: list[dict[str, Any]]) -> None:
    for deployment in deployments:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert [schedule["active"] for schedule in deployment["schedules"]] == [False]
        assert deployment["work_pool"]["name"] == POOL_NAME


def test_deployments_configure_a_flow_that_exists(deployments: list[dict[str, Any]]) -> None:
    for deployment in deployments:
        flow = getattr(*_entrypoint(deployment))
        flow.validate_parameters(deployment["parameters"])
        assert list(flow.parameters.properties) == ["config"]


def test_each_deployment_goes_to_the_workers_that_can_carry_it_out(deployments: list[dict[str, Any]]) -> None:
    assert {deployment["name"]: deployment["work_pool"]["work_queue_name"] for deployment in deployments} == {
        "preprocess-ffpp": "cpu",
        "preprocess-celebdf": "cpu",
        "reprocess": "cpu",
        "download-ffpp": "cpu",
        "verify-store": "cpu",
        "train-m2tr": "gpu",
        "evaluate": "gpu",
        "pipeline-ffpp": "gpu",
    }


def test_every_run_is_watched_by_the_automations(deployments: list[dict[str, Any]]) -> None:
    for deployment in deployments:
        environment = deployment["work_pool"]["job_variables"]["env"]
        assert TAG in deployment["tags"]
        assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_SECONDS)
        # Jinja is the server's, YAML's numbers are not strings: an environment has strings alone.
        assert all(isinstance(value, str) for value in environment.values())


def test_nothing_is_fetched_to_run_a_deployment() -> None:
    steps = [*read_yaml("prefect.yaml")["build"], *read_yaml("prefect.yaml")["pull"]]

    assert [next(iter(step)).rpartition(".")[2] for step in steps] == ["run_shell_script", "set_working_directory"]


# docker-compose.yml, Dockerfile, .env.example


def test_services_start_in_order(services: dict[str, dict[str, Any]]) -> None:
    waits_for = {
        name: {other: wait["condition"] for other, wait in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits_for == {
        "postgres": {},
        "redis": {},
        "server": {"postgres": "service_healthy", "redis": "service_healthy"},
        "services": {"server": "service_healthy"},
        "deploy": {"server": "service_healthy"},
        "worker": {"deploy": "service_completed_successfully"},
        "gpu-worker": {"deploy": "service_completed_successfully"},
    }


def test_every_service_that_stays_up_is_checked_and_has_room(services: dict[str, dict[str, Any]]) -> None:
    staying = {name for name, service in services.items() if service["restart"] == "unless-stopped"}

    assert staying == services.keys() - {"deploy"}
    assert {name for name, service in services.items() if "healthcheck" in service} == staying
    for name in staying:
        assert services[name]["deploy"]["resources"]["reservations"]["memory"]


def test_api_and_background_services_share_one_database_and_one_redis(services: dict[str, dict[str, Any]]) -> None:
    server, background = (dict(services[name]["environment"]) for name in ("server", "services"))
    server.pop("PREFECT_SERVER_UI_API_URL")

    assert server == background
    assert services["server"]["command"][:4] == ["prefect", "server", "start", "--no-services"]
    modules = {value for value in server.values() if value.startswith("prefect_redis.")}
    # What Prefect keeps in memory by default, and two processes would each have their own of.
    assert modules == {f"prefect_redis.{name}" for name in ("messaging", "ordering", "lease_storage", "cleanup_queue")}
    assert all(importlib.util.find_spec(module) for module in modules)


def test_the_settings_of_the_server_are_settings_of_prefect(services: dict[str, dict[str, Any]]) -> None:
    # Prefect ignores a variable that it does not know without a word.
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    sections = {
        "PREFECT_REDIS_MESSAGING_": importlib.import_module("prefect_redis.client").RedisMessagingSettings,
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_": importlib.import_module(
            "prefect_redis.cleanup_queue"
        ).RedisWorkerCleanupQueueSettings,
    }
    known = set(_get_settings_fields(Settings)) | {"DO_NOT_TRACK", "FACESHARDS_FFPP_SERVER"}
    known |= {f"{prefix}{name.upper()}" for prefix, section in sections.items() for name in section.model_fields}
    used = {name for service in services.values() for name in service.get("environment", {})}

    assert {name for name in used if not name.startswith(("POSTGRES_", "REDIS_"))} <= known


def test_workers_serve_every_queue_that_a_deployment_names(
    services: dict[str, dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    queues = {
        name: [word for flag, word in pairwise(services[name]["command"]) if flag == "--work-queue"]
        for name in ("worker", "gpu-worker")
    }
    assert queues == {"worker": ["cpu"], "gpu-worker": ["gpu", "cpu"]}
    assert {deployment["work_pool"]["work_queue_name"] for deployment in deployments} == {"cpu", "gpu"}


def test_the_gpu_worker_is_started_when_asked_for_and_gets_the_gpus(services: dict[str, dict[str, Any]]) -> None:
    gpu = services["gpu-worker"]

    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        "gpu-worker": ["gpu"]
    }
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert gpu["image"] != services["worker"]["image"]


def test_each_image_is_built_by_one_service_and_pulled_by_none(services: dict[str, dict[str, Any]]) -> None:
    ours = {name: service for name, service in services.items() if name not in ("postgres", "redis")}

    assert {name: service["build"]["target"] for name, service in ours.items() if "build" in service} == {
        "server": "cpu",
        "gpu-worker": "cuda",
    }
    assert {service["pull_policy"] for service in ours.values()} == {"never"}
    assert {name: service["image"] for name, service in ours.items()} == {
        **dict.fromkeys(ours, "faceshards:cpu"),
        "gpu-worker": "faceshards:cuda",
    }


def test_two_checkouts_have_one_project() -> None:
    assert read_yaml("docker-compose.yml")["name"] == "faceshards"


def test_no_service_gains_privileges_or_fills_the_disk_with_logs(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_health_checks_ask_what_the_next_service_needs(services: dict[str, dict[str, Any]]) -> None:
    tests = {name: " ".join(row["healthcheck"]["test"]) for name, row in services.items() if "healthcheck" in row}

    # By the socket the temporary server of the image's first start would answer.
    assert "pg_isready --host=127.0.0.1 " in tests["postgres"]
    assert "'http://127.0.0.1:4200/api/ready'" in tests["server"]  # /api/health is true without a database
    assert tests["worker"] == tests["gpu-worker"]
    assert "'http://127.0.0.1:8080/health'" in tests["worker"]
    assert all(address in tests["services"] for address in ('("postgres", 5432)', '("redis", 6379)'))


def test_redis_is_the_process_that_signals_reach_and_its_password_is_on_no_command_line(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    entrypoint = tmp_path / "docker-entrypoint.sh"  # the image's: it goes on as user redis
    entrypoint.write_text('#!/bin/sh\necho "$$" "$@"\ncat\n')
    entrypoint.chmod(0o755)
    command = [word.replace("$$", "$") for word in services["redis"]["command"]]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": "p4ssword"}

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=30)

    assert output.splitlines() == [f"{process.pid} redis-server -", "requirepass p4ssword", "appendonly yes"]


def test_links_lead_to_the_browser(services: dict[str, dict[str, Any]]) -> None:
    for name in ("deploy", "worker", "gpu-worker"):
        assert services[name]["environment"]["PREFECT_UI_URL"] == "http://127.0.0.1:4200"


def test_ports_are_offered_to_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports == ["127.0.0.1:4200:4200"]


def test_datasets_are_read_only_unless_asked_and_stores_are_not(services: dict[str, dict[str, Any]]) -> None:
    mounts = dict(re.findall(r"^\$\{.*?\}:([^:]+):(.*)$", "\n".join(services["worker"]["volumes"]), re.MULTILINE))
    assert len(mounts) == len(services["worker"]["volumes"])

    assert mounts == {"/app/data": "${FACESHARDS_DATASETS_MODE:-ro}", "/app/stores": "rw", "/app/runs": "rw"}
    assert services["gpu-worker"]["volumes"] == services["worker"]["volumes"]
    assert "WORKDIR /app\n" in (REPO / "Dockerfile").read_text(encoding="utf-8")


def test_every_named_volume_is_declared(services: dict[str, dict[str, Any]]) -> None:
    sources = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}

    assert {source for source in sources if not source.startswith("$")} == set(
        read_yaml("docker-compose.yml")["volumes"]
    )


@pytest.mark.skipif(not (BIN / "check-jsonschema").exists(), reason="check-jsonschema is not installed")
def test_the_compose_file_keeps_to_its_published_schema() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    checked = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(not (BIN / "hadolint").exists(), reason="hadolint is not installed")
def test_the_dockerfile_passes_its_linter() -> None:
    checked = subprocess.run(
        [str(BIN / "hadolint"), "Dockerfile"], cwd=REPO, capture_output=True, text=True, check=False
    )

    assert (checked.stdout, checked.returncode) == ("", 0)


def test_every_variable_is_in_the_example_and_nothing_else_is() -> None:
    wanted = set(VARIABLE.findall((REPO / "docker-compose.yml").read_text(encoding="utf-8")))
    lines = (REPO / ".env.example").read_text(encoding="utf-8").splitlines()

    values = dict(line.split("=") for line in lines if line and not line.startswith("#"))
    assert values.keys() == wanted
    # A password that is in the example is one that stays.
    assert {name for name, value in values.items() if not value} == {
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "FACESHARDS_FFPP_SERVER",
    }


def test_no_secret_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    secrets = {
        name: value
        for service in services.values()
        for name, value in service["environment"].items()
        if re.search("PASSWORD|SECRET|TOKEN|KEY|DOCKET_URL", name)
    }
    assert set(secrets) == {
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "PREFECT_SERVER_DATABASE_PASSWORD",
        "PREFECT_REDIS_MESSAGING_PASSWORD",
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_PASSWORD",
        "PREFECT_SERVER_DOCKET_URL",
    }
    assert all(re.search(r"\$\{\w+_PASSWORD:\?", value) for value in secrets.values())


def is_copied(path: str) -> bool:
    """Whether `COPY . .` takes a file, as Docker does: the last line that matches it or a folder above it decides."""
    copied = True
    for line in (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").rstrip("/")
        if pattern and not pattern.startswith("#"):
            wildcards = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            above = [str(parent) for parent in PurePosixPath(path).parents][:-1]
            if any(re.fullmatch(wildcards, name) for name in (path, *above)):
                copied = line.startswith("!")
    return copied


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.try", ".env.local", "prod.env", "flows/.env", "training/presets/.env.production"),
        *(".git/config", ".netrc", ".aws/credentials", ".ssh/id_rsa", "id_rsa", "key.pem", "flows/.pypirc"),
        *("secrets.json", "data/ffpp/000.mp4", "stores/ffpp/index.json", "runs/m2tr/model.pt", "weights.pth"),
        *(".venv/bin/python", "tests/test_house.py", "docs/deployment.md", "README.md", "CHANGELOG.md", "x.ipynb"),
        *("docker-compose.yml", "Dockerfile", ".ci/run", "flows/__pycache__/x.pyc", "flows/.cache/x"),
    ],
)  # fmt: skip
def test_what_the_image_does_not_run_stays_outside(path: str) -> None:
    assert not is_copied(path)


def test_what_the_image_runs_is_copied(services: dict[str, dict[str, Any]]) -> None:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=REPO, capture_output=True, text=True, check=True)
    needed = [
        *listed.stdout.split(),
        "prefect.yaml",
        "pyproject.toml",
        "constraints.txt",
        services["worker"]["command"][0],
    ]

    assert len(needed) > 100
    assert [path for path in needed if not is_copied(path)] == []


def test_the_image_has_what_pipeline_training_and_server_need() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"--editable '\.\[(.*)\]'", (REPO / "Dockerfile").read_text(encoding="utf-8"))
    wanted, installed = list(project["dependencies"]), set[str]()
    wanted += [row for extra in extras.split(",") for row in project["optional-dependencies"][extra]]
    while wanted:
        name, nested = re.match(r"([\w-]+)(?:\[(.*?)\])?", wanted.pop()).groups()  # type: ignore[union-attr]  # all match
        installed.add(name)
        if name == project["name"]:
            wanted += [row for extra in nested.split(",") for row in project["optional-dependencies"][extra]]

    assert {"prefect", "torch", "torchvision", "facenet-pytorch", "face-alignment", "decord", "av", "lmdb"} <= installed
    assert {"lightning", "timm", "scikit-learn", "asyncpg", "prefect-redis"} <= installed


def test_git_ignores_every_file_of_passwords() -> None:
    names = [".env", ".env.try", ".env.local", ".env.example"]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=REPO, capture_output=True, text=True, check=False)

    assert ignored.stdout.split() == names[:-1]


def test_telemetry_is_off_wherever_prefect_runs(
    services: dict[str, dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    ours = {name: service for name, service in services.items() if name not in ("postgres", "redis")}
    environments = [service["environment"] for service in ours.values()]
    environments += [deployment["work_pool"]["job_variables"]["env"] for deployment in deployments]

    assert len(environments) == len(ours) + len(deployments) == 13
    for environment in environments:
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_the_image_keeps_its_wheels_when_code_changes_and_does_not_run_as_root() -> None:
    dockerfile = (REPO / "Dockerfile").read_text(encoding="utf-8")
    steps = [
        "COPY pyproject.toml",
        "--requirement",
        "COPY . .",
        "--no-deps --editable .",
        "USER 1000:1000",
        "CMD",
        "FROM code AS cuda",
        "FROM code AS cpu",
    ]
    positions = [dockerfile.index(step) for step in steps]

    assert positions == sorted(positions)


def test_hooks_use_the_tools_of_the_environment() -> None:
    repos = read_yaml(".pre-commit-config.yaml")["repos"]
    hooks = [hook for repo in repos for hook in repo["hooks"]]

    assert {repo["repo"] for repo in repos} == {"local"}
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format", "mypy"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)


# flows/server/deploy.py


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got No such file"),
        ("deployments: [}", "expected YAML"),
        ("- a list", "got the deployment names []"),
        ("deployments: []", "got the deployment names []"),
        ("deployments: [{name: one}, {entrypoint: two}]", "got the deployment names ['one', None]"),
    ],
)
def test_a_file_without_named_deployments_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "prefect.yaml").write_text(content, encoding="utf-8")

    with pytest.raises(ConfigError) as refusal:
        deployment_names(tmp_path / "prefect.yaml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


class FakePools(AbstractContextManager[Any]):
    """A client that answers every pool name with a work pool of type docker."""

    def __exit__(self, *_: object) -> None:
        """Keep nothing open."""

    def read_work_pool(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, type="docker")


def test_a_pool_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: FakePools())

    with pytest.raises(ConfigError, match="work pool 'local': got type 'docker', expected 'process'; rename it"):
        ensure_work_pool()


def test_the_last_message_is_the_exception_or_the_last_line() -> None:
    traceback = (
        "a log line\nTraceback (most recent call last):\n  File 'x', line 1\n    f()\nValueError: first\nsecond\n"
    )

    assert last_message("An exception occurred.\n", traceback) == "ValueError: first second"
    assert last_message("building\nwork pool missing\n\n", "a log line\n") == "work pool missing"
    assert last_message("", "") == "no output"
    assert len(last_message("word " * 1000, "")) <= MESSAGE_LENGTH


# docs/deployment.md


def test_the_example_in_the_documentation_waits_for_our_event() -> None:
    text = (REPO / "docs/deployment.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    automation = AutomationCore.model_validate(yaml.safe_load(example))

    trigger: Any = automation.trigger
    assert trigger.expect == {REJECTIONS_HIGH}
    assert trigger.match.matches(Resource({"prefect.resource.id": "faceshards.store.ffpp"}))
    assert [action.type for action in automation.actions] == ["pause-deployment"]


def test_the_documentation_lists_every_deployment(deployments: list[dict[str, Any]]) -> None:
    text = (REPO / "docs/deployment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| (\w+) \|", text, flags=re.MULTILINE)
    flows = {row["name"]: getattr(*_entrypoint(row)).name for row in deployments}

    assert rows == [(row["name"], flows[row["name"]], row["work_pool"]["work_queue_name"]) for row in deployments]


# flows/server/short_names.py


class FakeClient:
    """A client with the replaced method and `read_flows`, and a table of deployments."""

    full_names = ("ffpp/nightly", "celeb/nightly", "ffpp/only-here")

    async def read_deployment_by_name(self, name: str) -> str:
        if name.count("/") != 1:
            raise ValueError("Invalid deployment name format")
        return name if name in self.full_names else f"not found: {name}"

    async def read_flows(self, *, deployment_filter: Any) -> list[SimpleNamespace]:
        (wanted,) = deployment_filter.name.any_
        pairs = [full_name.split("/") for full_name in self.full_names]
        return [SimpleNamespace(name=flow) for flow, deployment in pairs if deployment == wanted]


class TaughtClient(FakeClient):
    """A copy to patch; the original is not changed."""


@pytest.fixture
def read() -> Any:
    assert teach_short_names(TaughtClient)
    return lambda name: asyncio.run(TaughtClient().read_deployment_by_name(name))


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("only-here", "ffpp/only-here"),
        ("celeb/nightly", "celeb/nightly"),
        ("nowhere", "not found: nowhere/nowhere"),
        ("ffpp/nowhere", "not found: ffpp/nowhere"),
    ],
)
def test_short_names_are_completed_and_full_ones_left_alone(read: Any, typed: str, answer: str) -> None:
    assert read(typed) == answer


@pytest.mark.parametrize("caught", [ConfigError, SystemExit])
def test_a_name_of_several_lists_them(read: Any, caught: type[BaseException]) -> None:
    with pytest.raises(
        caught, match="one of the 2 that have this name: celeb/nightly, ffpp/nightly; write the full name"
    ):
        read("nightly")
    assert AmbiguousDeploymentError("one line").code == "one line"


def test_teaching_twice_replaces_once(read: Any) -> None:
    taught = TaughtClient.read_deployment_by_name

    assert teach_short_names(TaughtClient)
    assert TaughtClient.read_deployment_by_name is taught


class OtherParameters(FakeClient):
    async def read_deployment_by_name(self, flow: str, name: str) -> str:  # type: ignore[override]  # differs on purpose
        return f"{flow}/{name}"


class NotCoroutines(FakeClient):
    def read_deployment_by_name(self, name: str) -> str:  # type: ignore[override]  # differs on purpose
        return name


class OtherQuestions(FakeClient):
    async def read_flows(self, *, query: str) -> list[SimpleNamespace]:  # type: ignore[override]  # differs on purpose
        return [SimpleNamespace(name=query)]


@pytest.mark.parametrize("unknown", [None, object, OtherParameters, NotCoroutines, OtherQuestions])
def test_an_unknown_client_is_left_alone_and_named(
    unknown: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = getattr(unknown, "read_deployment_by_name", None)
    monkeypatch.setattr("prefect.client.orchestration.PrefectClient", unknown)

    setup_environment(ctx=HookContext(prefect_version="9.9", api_url=None, logger_factory=logging.getLogger))

    assert getattr(unknown, "read_deployment_by_name", None) is before
    assert "got a client of Prefect 9.9" in caplog.text
    assert "write <flow>/<deployment>" in caplog.text


def test_telemetry_goes_off_unless_somebody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    context = HookContext(prefect_version="3.8", api_url=None, logger_factory=logging.getLogger)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")

    result = setup_environment(ctx=context)
    assert result is not None
    assert dict(result.env) == {"DO_NOT_TRACK": "1"}

    monkeypatch.setenv("DO_NOT_TRACK", "0")
    assert setup_environment(ctx=context) is None
