"""The automations, evaluated by the code of Prefect's server on a database in memory."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.events.schemas.automations import Automation
from prefect.server.database import provide_database_interface
from prefect.server.events import triggers
from prefect.server.events.models import automations as stored
from prefect.server.events.schemas.automations import Automation as ServerAutomation
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_EVENTS_EXPIRED_BUCKET_BUFFER,
    temporary_settings,
)
from prefect.types._datetime import now

from flows.server.automations import TAG, automations, ensure_automations
from tests.helpers.processes import REPO

CRASHED, NOT_STARTED, SILENT = (
    "crashed runs start again",
    "runs that do not start are handed out again",
    "silent runs have crashed",
)
TICK_SECONDS = 10  # between two looks of the server at what has not come

Happened = tuple[float, str, int]  # seconds since the beginning, the state or "heartbeat", the number of starts so far


async def _fired(runs: Sequence[list[Happened]], until: int, tag: str, first_tick: int) -> list[list[tuple[int, str]]]:
    """Return, for each run, the second and the name of each automation that acts on it."""
    server: Any = stored  # its decorators hide the types
    database = provide_database_interface()
    fired: dict[str, list[tuple[int, str]]] = {f"prefect.flow-run.{uuid4()}": [] for _ in runs}
    engine = await database.engine()
    tables = [table for name, table in database.Base.metadata.tables.items() if name.startswith("automation")]
    async with engine.begin() as connection:
        await connection.run_sync(database.Base.metadata.create_all, tables=tables)
    for wanted in automations():
        async with server.automations_session(begin_transaction=True) as session:
            row = wanted.model_dump(mode="json") | {"id": str(uuid4())}
            triggers.load_automation(await server.create_automation(session, ServerAutomation.model_validate(row)))
    begin: Any = now("UTC") - timedelta(hours=2)
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}]
    seconds = 0

    async def act(firing: Any) -> None:
        run = firing.triggering_labels["prefect.resource.id"]
        fired[run].append((seconds, firing.trigger.automation.name.removeprefix("faceshards: ")))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(triggers, "act", act)
        for seconds in range(0, until + 1, TICK_SECONDS):
            for run, (at, name, run_count) in (
                (run, one) for run, all_of in zip(fired, runs, strict=True) for one in all_of
            ):
                if seconds - TICK_SECONDS < at <= seconds:
                    labels = {"prefect.resource.id": run, "prefect.run-count": str(run_count)}
                    occurred = begin + timedelta(seconds=at)
                    event = {"id": uuid4(), "event": f"prefect.flow-run.{name}", "occurred": occurred}
                    await triggers.reactive_evaluation(ReceivedEvent(**event, resource=labels, related=related))
            if seconds < first_tick:
                continue
            looked = begin + timedelta(seconds=seconds - await triggers.get_events_clock_offset())
            await triggers.periodic_evaluation(looked)  # the server starts with it: it drops what came due long ago
            for trigger in list(triggers.triggers.values()):
                await triggers.proactive_evaluation(trigger, looked)
    await triggers.reset()
    await engine.dispose()
    return list(fired.values())


def fired(*runs: list[Happened], until: int = 130, tag: str = TAG, first_tick: int = 0) -> list[list[tuple[int, str]]]:
    in_memory = {PREFECT_API_DATABASE_CONNECTION_URL: "sqlite+aiosqlite:///:memory:"}
    with temporary_settings(in_memory):
        return asyncio.run(_fired(runs, until, tag, first_tick))


BEGUN: list[Happened] = [(0, "Pending", 0), (4, "Running", 1), (4, "heartbeat", 1)]
SECOND_START: list[Happened] = [(31, "AwaitingRetry", 1), (32, "Pending", 1), (34, "Running", 2), (34, "heartbeat", 2)]


def test_a_run_is_started_again_once_for_each_death() -> None:
    cases: list[tuple[list[Happened], list[tuple[int, str]]]] = [
        # The two reports of one death; the second comes before the run is started again.
        ([*BEGUN, (8, "Crashed", 1)], [(30, CRASHED)]),
        ([*BEGUN, (8, "Crashed", 1), (16, "Crashed", 1)], [(30, CRASHED)]),
        ([*BEGUN, (8, "Crashed", 1), *SECOND_START, (50, "Completed", 2)], [(30, CRASHED)]),
        ([*BEGUN, (8, "Crashed", 1), *SECOND_START, (50, "Crashed", 2)], [(30, CRASHED), (70, CRASHED)]),
        # The third start is the last; a run that never began would crash again at once, and for ever.
        ([(0, "heartbeat", 3), (8, "Crashed", 3)], []),
        ([(0, "Pending", 0), (8, "Crashed", 0)], []),
        # A person was faster, or stopped it.
        ([*BEGUN, (8, "Crashed", 1), (12, "AwaitingRetry", 1), (14, "Pending", 1), (15, "Running", 2)], []),
        ([*BEGUN, (8, "Crashed", 1), (12, "Cancelled", 1)], []),
        # Three missed heartbeats are a death; a run that ended or waits owes none.
        ([*BEGUN, (34, "heartbeat", 1)], [(130, SILENT)]),
        ([*BEGUN, (34, "heartbeat", 1), (64, "heartbeat", 1), (94, "heartbeat", 1), (124, "heartbeat", 1)], []),
        *(
            ([*BEGUN, (40, state, 1)], [])
            for state in ("Completed", "Failed", "Cancelled", "Cancelling", "AwaitingConcurrencySlot")
        ),
    ]
    acted = fired(*(happened for happened, _ in cases))  # in one server: its start takes longer than all runs
    for (happened, expected), found in zip(cases, acted, strict=True):
        assert found == expected, happened


def test_a_run_that_does_not_start_is_handed_out_again() -> None:
    assert fired([(0, "Pending", 0)], until=610) == [[(600, NOT_STARTED)]]


def test_runs_of_others_are_left_alone() -> None:
    assert fired([*BEGUN, (8, "Crashed", 1)], tag="theirs") == [[]]


def test_what_came_due_while_the_server_was_down_is_done_at_its_start() -> None:
    setting = re.compile(r"PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER\W+(\w+)")
    files = [REPO / "docker-compose.yml", REPO / "scripts/cluster-local"]
    (kept,) = {value for file in files for value in setting.findall(file.read_text(encoding="utf-8"))}
    an_hour = 3600

    assert fired(BEGUN, until=an_hour, first_tick=an_hour) == [[]]  # by default it is forgotten
    with temporary_settings({PREFECT_EVENTS_EXPIRED_BUCKET_BUFFER: kept}):
        acted = fired(BEGUN, [*BEGUN, (8, "Crashed", 1)], until=an_hour, first_tick=an_hour)
    assert acted == [[(an_hour, SILENT)], [(an_hour, CRASHED)]]


class FakeAutomations(AbstractContextManager[Any]):
    """A client with a table of automations, which records the requested changes."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.changed: list[str] = []

    def __exit__(self, *_: object) -> None:
        """Keep nothing open."""

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [self.rows[name]] if name in self.rows else []

    def create_automation(self, automation: Any) -> None:
        # As the server does: through JSON, where a set is a list.
        stored = Automation.model_validate_json(json.dumps(automation.model_dump(mode="json") | {"id": str(uuid4())}))
        self.rows[automation.name] = stored
        self.changed.append(automation.name)

    def update_automation(self, _automation_id: Any, automation: Any) -> None:
        self.create_automation(automation)


def test_automations_are_made_once_and_mended_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeAutomations()
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: client)

    ensure_automations()
    assert client.changed == [automation.name for automation in automations()]
    ensure_automations()
    assert len(client.changed) == 3

    first = client.changed[0]
    client.rows[first] = client.rows[first].model_copy(update={"actions": [], "enabled": False})
    ensure_automations()
    assert client.changed[3:] == [first]
    assert client.rows[first].actions == automations()[0].actions
    assert client.rows[first].enabled is False
