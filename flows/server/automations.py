"""Automations of the Prefect server, which start dead runs again; `faceshards deploy` creates and updates them.

    RUNNING ── no heartbeat for 90 s ──► CRASHED ── 20 s, fewer than 3 starts ──► AWAITING RETRY ──► a worker takes it
    PENDING ── does not start in 600 s ─────────────────────────────────────────► AWAITING RETRY

Each arrow with a condition is one automation. Without the first, a run whose worker and process died together, for
example with their machine, would stay Running for ever. The second also restarts a run of which only the process died.
The store keeps its complete shards, so little is computed twice. A run that crashes its machine is not started a fourth
time. Cancelled and failed runs are not started again.

The third waits, because a killed process is reported twice: at once by the code that ran it, and some seconds later by
the worker around that code. The second report would mark a run as Crashed that another worker has started again in
between: a healthy attempt would be aborted, and one of the three starts lost.

Only runs with the tag `faceshards` are affected. The deployments of prefect.yaml have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger

TAG: Final = "faceshards"
MAX_STARTS: Final = 3

# Prefect's minimum (MINIMUM_HEARTBEAT_INTERVAL of its flow engine); prefect.yaml sets it for every deployment.
HEARTBEAT_SECONDS: Final = 30

# Three missed heartbeats: one may be lost while the server restarts.
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS

# Between Pending and Running a process imports torch: 12 s on two cores, longer from a cold network file system.
START_SECONDS: Final = 600

# Between a crash and its restart. The worker's own report of the crash was 2 to 7 s late on two cores.
SETTLE_SECONDS: Final = 20

ENDED: Final = frozenset(f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed"))
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
# A run that is being cancelled, or that is queued again, sends no heartbeat.
EXCUSED: Final = frozenset(
    f"prefect.flow-run.{state}" for state in ("Cancelling", "AwaitingRetry", "AwaitingConcurrencySlot", "Scheduled")
)
# Somebody else was faster, for example a person by the button *Retry*.
STARTED_AGAIN: Final = frozenset(
    f"prefect.flow-run.{state}" for state in ("Scheduled", "AwaitingRetry", "Pending", "Running", "Retrying")
)


def automations() -> tuple[AutomationCore, ...]:
    """Return the automations that the server should have."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore

    crash = ChangeFlowRunState(
        state=StateType.CRASHED,
        message=f"No heartbeat for {SILENCE_SECONDS} s: the worker, its machine or the network is gone",
    )
    again = ChangeFlowRunState(
        state=StateType.SCHEDULED,
        name="AwaitingRetry",
        message="The run or its worker died; an automation started it again",
    )
    return (
        AutomationCore(
            name="faceshards: silent runs have crashed",
            description=f"Marks a run as Crashed that sent no heartbeat for {SILENCE_SECONDS} s.",
            trigger=_trigger(after={HEARTBEAT}, expect={HEARTBEAT, *ENDED, *EXCUSED}, within_seconds=SILENCE_SECONDS),
            actions=[crash],
        ),
        AutomationCore(
            name="faceshards: runs that do not start are handed out again",
            description=f"Hands a run to a worker again that was Pending for {START_SECONDS} s.",
            trigger=_trigger(
                after={"prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
                expect={"prefect.flow-run.Running", "prefect.flow-run.Retrying", HEARTBEAT, *ENDED, *EXCUSED},
                within_seconds=START_SECONDS,
            ),
            actions=[again],
        ),
        AutomationCore(
            name="faceshards: crashed runs start again",
            description=f"Hands a run to a worker again {SETTLE_SECONDS} s after a crash, up to {MAX_STARTS} starts.",
            trigger=_trigger(
                after={"prefect.flow-run.Crashed"},
                expect=STARTED_AGAIN | (ENDED - {"prefect.flow-run.Crashed"}),
                match={"prefect.run-count": [str(count) for count in range(1, MAX_STARTS)]},
                within_seconds=SETTLE_SECONDS,
            ),
            actions=[again],
        ),
    )


def ensure_automations() -> None:
    """Create or update the automations; one that a user has disabled stays disabled.

    An automation that has not changed is not updated: an update would forget which runs it watches.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for wanted in automations():
            found = client.read_automations_by_name(wanted.name)
            if not found:
                client.create_automation(wanted)
            elif _content(found[0]) != _content(wanted):
                client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))


def _content(automation: Automation | AutomationCore) -> dict[str, object]:
    """Return what an automation does, without fields that the server adds or a user may change."""
    return automation.model_dump(include={"description", "trigger", "actions"})


def _trigger(
    *,
    after: Set[str],
    expect: Set[str],
    within_seconds: int,
    match: Mapping[str, str | list[str]] | None = None,
) -> EventTrigger:
    """Return an event trigger that watches each of our runs separately.

    Args:
        after: events of the run that start the wait.
        expect: events of the run that end it.
        within_seconds: the trigger fires where none of `expect` comes in this time after one of `after`.
        match: further labels of the run.
    """
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(
        posture=Posture.Proactive,
        within=timedelta(seconds=within_seconds),
        expect=set(expect),
        after=set(after),
        match={"prefect.resource.id": "prefect.flow-run.*", **(match or {})},
        match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
        for_each={"prefect.resource.id"},
        threshold=1,
    )
