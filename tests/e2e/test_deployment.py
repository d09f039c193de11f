"""Deployment on a Prefect server on a loopback port: `deploy()`, commands as a user types them, and a worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import RecordStore
from tests.helpers.deployed import Server, own_server
from tests.helpers.processes import REPO, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

FULL_NAME = "preprocess-ffpp/preprocess-ffpp"
NAMES = (
    *("preprocess-ffpp", "preprocess-celebdf", "reprocess", "download-ffpp"),
    *("verify-store", "train-m2tr", "evaluate", "pipeline-ffpp"),
)
SCHEDULER_SECONDS = 180  # it looks at all deployments once a minute, at changed ones every five seconds

# Two flows with a deployment of one name, run nowhere: only their names matter.
TWO_FLOWS = """
from prefect import flow

@flow(name="first-flow")
def first(): ...

@flow(name="second-flow")
def second(): ...
"""
TWO_DEPLOYMENTS = """
deployments:
  - {name: nightly, entrypoint: two_flows.first, work_pool: {name: local}}
  - {name: nightly, entrypoint: two_flows.second, work_pool: {name: local}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def deployed(server: Server) -> Server:
    finished = server.deploy()
    assert (finished.stdout, finished.stderr, finished.returncode) == (" ".join(NAMES) + "\n", "", 0)
    return server


def test_deploy_registers_what_prefect_yaml_says_and_can_be_repeated(deployed: Server) -> None:
    before = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")
    assert deployed.deploy().returncode == 0
    after = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")

    assert after["id"] == before["id"]
    assert after["entrypoint"] == "flows.preprocess.preprocess_ffpp"
    assert (after["work_pool_name"], after["work_queue_name"]) == ("local", "cpu")
    assert after["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(REPO)}}]
    assert [(row["schedule"]["cron"], row["active"]) for row in after["schedules"]] == [("0 2 * * *", False)]
    assert after["global_concurrency_limit"]["limit"] == 1
    assert after["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert after["parameters"] == {"config": {"dataset": {"name": "ffpp", "root": "data/ffpp"}, "out": "stores/ffpp"}}
    assert "config" in after["parameter_openapi_schema"]["properties"]


def test_a_schedule_that_somebody_switched_on_stays_on(deployed: Server) -> None:
    before = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")
    (schedule,) = before["schedules"]
    deployed.ask("PATCH", f"/deployments/{before['id']}/schedules/{schedule['id']}", {"active": True})
    try:
        assert deployed.deploy().returncode == 0
        rows = deployed.ask("POST", "/deployments/filter", {})
        assert [row["name"] for row in rows for schedule in row["schedules"] if schedule["active"]] == [before["name"]]
    finally:
        deployed.ask("PATCH", f"/deployments/{before['id']}/schedules/{schedule['id']}", {"active": False})
        deployed.take_runs()


def test_a_schedule_that_is_on_asks_for_runs_by_itself(deployed: Server) -> None:
    # Prefect 3.8 allows SQLAlchemy 2.1, on which its scheduler fails: every night, and only in the server's own log.
    row = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")
    schedule = f"/deployments/{row['id']}/schedules/{row['schedules'][0]['id']}"
    deployed.take_runs()
    deployed.ask("PATCH", schedule, {"active": True})
    try:
        runs = wait_for(lambda: deployed.ask("POST", "/flow_runs/filter", {}), SCHEDULER_SECONDS, every=0.5)
        assert {(run["deployment_id"], run["state_name"], run["auto_scheduled"]) for run in runs} == {
            (row["id"], "Scheduled", True)
        }
    finally:
        deployed.ask("PATCH", schedule, {"active": False})
        deployed.take_runs()


def test_every_deployment_has_its_queue_a_form_and_a_watch_over_its_runs(deployed: Server) -> None:
    rows = {row["name"]: row for row in deployed.ask("POST", "/deployments/filter", {}) if "faceshards" in row["tags"]}

    assert rows.keys() == set(NAMES)
    for row in rows.values():
        # The form in the user interface is drawn from this: a model with a description of each field.
        (form,) = row["parameter_openapi_schema"]["properties"].values()
        fields = row["parameter_openapi_schema"]["definitions"][form["$ref"].rpartition("/")[2]]["properties"]
        assert all("description" in field or "$ref" in field for field in fields.values())
        assert not any(schedule["active"] for schedule in row["schedules"])
        assert row["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    queues = {queue["name"] for queue in deployed.ask("POST", "/work_pools/local/queues/filter", {})}
    assert queues >= {row["work_queue_name"] for row in rows.values()} == {"cpu", "gpu"}
    automations = deployed.ask("POST", "/automations/filter", {})
    assert sorted(row["name"] for row in automations) == [
        "faceshards: crashed runs start again",
        "faceshards: runs that do not start are handed out again",
        "faceshards: silent runs have crashed",
    ]


def test_prefects_own_command_registers_the_same(deployed: Server) -> None:
    before = {row["name"]: row["id"] for row in deployed.ask("POST", "/deployments/filter", {})}
    finished = deployed.run("prefect", "--no-prompt", "deploy", "--all")

    assert finished.returncode == 0, finished.stderr
    assert {row["name"]: row["id"] for row in deployed.ask("POST", "/deployments/filter", {})} == before


def test_every_short_name_finds_its_deployment(deployed: Server) -> None:
    code = (
        "import asyncio, sys\n"
        "from prefect.client.orchestration import get_client\n"
        "async def main():\n"
        "    async with get_client() as client:\n"
        "        for name in sys.argv[1:]: print((await client.read_deployment_by_name(name)).name)\n"
        "asyncio.run(main())"
    )
    assert deployed.run("python", "-c", code, *NAMES).stdout.split() == list(NAMES)


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        pytest.param("preprocess-ffpp", {}, id="short"),
        pytest.param(FULL_NAME, {}, id="full"),
        pytest.param(FULL_NAME, {"PREFECT_PLUGINS_ENABLED": "false"}, id="full-without-plugin"),
    ],
)
def test_a_run_is_asked_for_as_typed(deployed: Server, typed: str, settings: dict[str, str]) -> None:
    deployed.take_runs()

    finished = deployed.run("prefect", "deployment", "run", typed, **settings)

    assert (finished.stderr, finished.returncode) == ("", 0)
    assert f"Creating flow run for deployment '{FULL_NAME}'..." in finished.stdout
    asked_of = [run["deployment_id"] for run in deployed.take_runs()]
    assert asked_of == [deployed.ask("GET", f"/deployments/name/{FULL_NAME}")["id"]]


def test_a_name_that_nothing_has_is_not_found(deployed: Server) -> None:
    finished = deployed.run("prefect", "deployment", "run", "preprocess-nothing")

    assert (finished.stdout, finished.stderr) == ("Deployment 'preprocess-nothing' not found!\n", "")
    assert finished.returncode == 1


def test_a_name_that_several_have_lists_them(deployed: Server, tmp_path: Path) -> None:
    (tmp_path / "two_flows.py").write_text(TWO_FLOWS, encoding="utf-8")
    (tmp_path / "prefect.yaml").write_text(TWO_DEPLOYMENTS, encoding="utf-8")
    assert deployed.deploy(str(tmp_path)).stdout == "nightly nightly\n"
    deployed.take_runs()

    finished = deployed.run("prefect", "deployment", "run", "nightly")

    assert finished.stderr == (
        "deployment: got 'nightly', expected one of the 2 that have this name: "
        "first-flow/nightly, second-flow/nightly; write the full name\n"
    )
    assert (finished.stdout, finished.returncode) == ("", 1)
    assert deployed.take_runs() == []


@pytest.mark.parametrize(
    ("api_url", "message"),
    [
        ("", "got nothing, expected the address of a Prefect server; start one with `prefect server start`"),
        (
            "http://127.0.0.1:1",
            "expected an address that ends in /api; `export PREFECT_API_URL=http://127.0.0.1:1/api`",
        ),
        ("http://127.0.0.1:1/api", "Connection refused), expected a Prefect server that answers; start one with"),
    ],
    ids=["no-address", "not-the-api", "nobody-there"],
)
def test_deploy_without_a_server_says_how_to_get_one(server: Server, api_url: str, message: str) -> None:
    finished = server.deploy(PREFECT_API_URL=api_url)

    assert message in finished.stderr
    assert (finished.stderr.count("\n"), finished.returncode) == (1, 1)


def test_a_folder_without_a_file_gets_the_packaged_deployments(server: Server, tmp_path: Path) -> None:
    finished = server.deploy(str(tmp_path))

    assert (finished.stdout, finished.stderr, finished.returncode) == (" ".join(NAMES) + "\n", "", 0)
    (step,) = server.ask("GET", f"/deployments/name/{FULL_NAME}")["pull_steps"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}


def test_deploy_says_what_prefect_refused(server: Server, tmp_path: Path) -> None:
    content = "deployments: [{name: one, entrypoint: no_such_module.flow, work_pool: {name: local}}]"
    (tmp_path / "prefect.yaml").write_text(content, encoding="utf-8")

    finished = server.deploy(str(tmp_path))

    assert "got exit status 1 (ModuleNotFoundError: No module named 'no_such_module')" in finished.stderr
    assert (finished.stderr.count("\n"), finished.returncode) == (1, 1)


def test_a_worker_in_the_checkout_carries_the_run_out(deployed: Server, tmp_path: Path) -> None:
    root, out = tmp_path / "ffpp", tmp_path / "store"
    sampled = deployed.run("faceshards", "sample", str(root), "--pairs", "1", "--seconds", "1", "1")
    assert sampled.returncode == 0, sampled.stderr
    mask = next((root / "manipulated_sequences").rglob("masks/videos/*.mp4"))
    shutil.copy(mask, root / "original_sequences/youtube/c23/videos/999.mp4")
    config = {"dataset": {"root": str(root)}, "out": str(out), "frames": {"count": 4}, "runner": {"workers": 1}}
    deployed.take_runs()

    asked = deployed.run("prefect", "deployment", "run", "preprocess-ffpp", "--param", f"config={json.dumps(config)}")
    worked = deployed.run("prefect", "worker", "start", "--pool", "local", "--run-once")

    assert (asked.returncode, worked.returncode) == (0, 0)
    messages = [row["message"] for row in deployed.ask("POST", "/logs/filter", {})]
    (run,) = deployed.take_runs()
    assert (run["state_name"], run["parameters"]["config"]) == ("Completed", config), worked.stderr
    # One pair is two real videos and, both ways round, two forgeries of each of four methods.
    with RecordStore(out) as store:
        assert len({record.video_id for record in store}) == 10
    # The mask shows no face. The stage's own logger says so in the run's log, because prefect.yaml names it.
    assert [message for message in messages if message.startswith("ffpp/youtube/c23/999 rejected: no_face")]
