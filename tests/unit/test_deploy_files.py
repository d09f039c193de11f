"""The deployment files agree with the code and with each other; the shim and `deploy` say what is wrong in one line."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, RawScheduleConfig, WorkPoolConfig
from prefect.plugins import HookContext

from flows.config import PreprocessConfig
from flows.deploy import MESSAGE_LENGTH, POOL_NAME, deployment_names, ensure_work_pool, last_words
from flows.prefect_plugin import AmbiguousDeploymentError, setup_environment, teach_short_names
from manifests.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+)")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((REPO / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(read_yaml("docker-compose.yml")["services"])


@pytest.fixture(scope="module")
def deployments() -> list[dict[str, Any]]:
    return list(read_yaml("prefect.yaml")["deployments"])


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
    assert [deployment["name"] for deployment in deployments] == ["preprocess-ffpp"]
    for deployment in deployments:
        module, _, function = deployment["entrypoint"].rpartition(".")
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        assert f"def {function}(" in Path(found.origin).read_text(encoding="utf-8")
        config = PreprocessConfig.model_validate(deployment["parameters"]["config"])
        assert (config.dataset.root, config.out) == (Path("data/ffpp"), Path("stores/ffpp"))


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
        "server": {"postgres": "service_healthy"},
        "deploy": {"server": "service_healthy"},
        "worker": {"deploy": "service_completed_successfully"},
    }


def test_every_service_that_stays_up_is_checked(services: dict[str, dict[str, Any]]) -> None:
    staying = {name for name, service in services.items() if service["restart"] == "unless-stopped"}

    assert staying == {"postgres", "server", "worker"}
    assert {name for name, service in services.items() if "healthcheck" in service} == staying


def test_ports_are_offered_to_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports == ["127.0.0.1:4200:4200"]


def test_datasets_are_read_only_and_stores_are_not(services: dict[str, dict[str, Any]]) -> None:
    mounts = dict(volume.rsplit(":", 2)[1:] for volume in services["worker"]["volumes"])

    assert mounts == {"/app/data": "ro", "/app/stores": "rw"}
    assert "WORKDIR /app\n" in (REPO / "Dockerfile").read_text(encoding="utf-8")


def test_every_named_volume_is_declared(services: dict[str, dict[str, Any]]) -> None:
    sources = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}

    assert {source for source in sources if not source.startswith("$")} == set(
        read_yaml("docker-compose.yml")["volumes"]
    )


def test_every_variable_is_in_the_example_and_nothing_else_is() -> None:
    wanted = set(VARIABLE.findall((REPO / "docker-compose.yml").read_text(encoding="utf-8")))
    lines = (REPO / ".env.example").read_text(encoding="utf-8").splitlines()

    assert {line.partition("=")[0] for line in lines if line and not line.startswith("#")} == wanted


def test_no_secret_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    secrets = {
        name: value
        for service in services.values()
        for name, value in service["environment"].items()
        if re.search("PASSWORD|SECRET|TOKEN|KEY", name)
    }
    assert set(secrets) == {"POSTGRES_PASSWORD", "PREFECT_SERVER_DATABASE_PASSWORD"}
    assert all(value.startswith("${") for value in secrets.values())
    assert ".env\n" in (REPO / ".dockerignore").read_text(encoding="utf-8")


def test_telemetry_is_off_wherever_prefect_runs(
    services: dict[str, dict[str, Any]], deployments: list[dict[str, Any]]
) -> None:
    environments = [service["environment"] for name, service in services.items() if name != "postgres"]
    environments += [deployment["work_pool"]["job_variables"]["env"] for deployment in deployments]

    assert len(environments) == 4
    for environment in environments:
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_the_image_keeps_its_wheels_when_code_changes_and_does_not_run_as_root() -> None:
    dockerfile = (REPO / "Dockerfile").read_text(encoding="utf-8")
    steps = ["COPY pyproject.toml", "--requirement", "COPY . .", "--no-deps --editable .", "USER 1000:1000", "CMD"]
    positions = [dockerfile.index(step) for step in steps]

    assert positions == sorted(positions)


def test_hooks_use_the_tools_of_the_environment() -> None:
    repos = read_yaml(".pre-commit-config.yaml")["repos"]
    hooks = [hook for repo in repos for hook in repo["hooks"]]

    assert {repo["repo"] for repo in repos} == {"local"}
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format", "mypy"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)


# flows/deploy.py


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got no such file"),
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
    """A client that knows one work pool, called as every name, which starts containers."""

    def __exit__(self, *_: object) -> None:
        """Keep nothing open."""

    def read_work_pool(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, type="docker")


def test_a_pool_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: FakePools())

    with pytest.raises(ConfigError, match="work pool 'local': got type 'docker', expected 'process'; rename it"):
        ensure_work_pool()


def test_last_words_are_the_exception_or_the_last_line() -> None:
    traceback = (
        "a log line\nTraceback (most recent call last):\n  File 'x', line 1\n    f()\nValueError: first\nsecond\n"
    )

    assert last_words("An exception occurred.\n", traceback) == "ValueError: first second"
    assert last_words("building\nwork pool missing\n\n", "a log line\n") == "work pool missing"
    assert last_words("", "") == "it said nothing"
    assert len(last_words("word " * 1000, "")) <= MESSAGE_LENGTH


# flows/prefect_plugin.py


class FakeClient:
    """A client with the two methods that the shim touches, over a table of deployments."""

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
    """A copy to patch: the original stays what it is."""


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
    async def read_deployment_by_name(self, flow: str, name: str) -> str:  # type: ignore[override]
        return f"{flow}/{name}"


class NotCoroutines(FakeClient):
    def read_deployment_by_name(self, name: str) -> str:  # type: ignore[override]
        return name


class OtherQuestions(FakeClient):
    async def read_flows(self, *, query: str) -> list[SimpleNamespace]:  # type: ignore[override]
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
