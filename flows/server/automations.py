"""What the Prefect server does by itself when a run goes quiet: Prefect's automations, kept by `faceshards deploy`.

    RUNNING ── no heartbeat for 90 s ──► CRASHED ── fewer than 3 starts ──► AWAITING RETRY ──► a worker takes it again
    PENDING ── does not start in 600 s ───────────────────────────────────► AWAITING RETRY

Without the first one a run whose worker and process died together, with their machine say, would say Running for ever.
The third starts every crashed run again, also one whose process alone died; the store then has what was complete, so
little is done twice. A run that brings its machine down stops after its third start. Cancelled and failed runs stay
what they are.

Only runs with the tag `faceshards` are touched: the deployments of prefect.yaml have it, others on the server do not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect.events.schemas.automations import Automation, AutomationCore

TAG: Final = "faceshards"
MAX_STARTS: Final = 3

# Prefect's least (its flow engine's MINIMUM_HEARTBEAT_INTERVAL); prefect.yaml sets it for every deployment.
HEARTBEAT_SECONDS: Final = 30

# Three heartbeats missed: one may be lost with a server that is started anew.
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS

# From Pending to Running a process imports torch: 12 s on two cores, more from a cold network file system.
START_SECONDS: Final = 600

ENDED: Final = frozenset(f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed"))
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
# A run that is asked to end, or that waits for its turn again, owes no heartbeat.
EXCUSED: Final = frozenset(
    f"prefect.flow-run.{state}" for state in ("Cancelling", "AwaitingRetry", "AwaitingConcurrencySlot", "Scheduled")
)


def automations() -> tuple[AutomationCore, ...]:
    """Return the automations as they should be on the server."""
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
            trigger=_absence(after={HEARTBEAT}, expect={HEARTBEAT, *ENDED, *EXCUSED}, within_seconds=SILENCE_SECONDS),
            actions=[crash],
        ),
        AutomationCore(
            name="faceshards: runs that do not start are handed out again",
            description=f"Hands a run to a worker again that was Pending for {START_SECONDS} s.",
            trigger=_absence(
                after={"prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
                expect={"prefect.flow-run.Running", "prefect.flow-run.Retrying", HEARTBEAT, *ENDED, *EXCUSED},
                within_seconds=START_SECONDS,
            ),
            actions=[again],
        ),
        AutomationCore(
            name="faceshards: crashed runs start again",
            description=f"Hands a crashed run to a worker again, until it was started {MAX_STARTS} times.",
            trigger=_trigger(
                expect={"prefect.flow-run.Crashed"},
                match={"prefect.run-count": [str(count) for count in range(1, MAX_STARTS)]},
                posture="Reactive",
            ),
            actions=[again],
        ),
    )


def ensure_automations() -> None:
    """Create the automations, or bring them up to date; one that somebody switched off stays off.

    One that is as it should be is left alone: an update would forget which runs it is watching.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for wanted in automations():
            found = client.read_automations_by_name(wanted.name)
            if not found:
                client.create_automation(wanted)
            elif _content(found[0]) != _content(wanted):
                client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))


def _content(automation: Automation | AutomationCore) -> dict[str, Any]:
    """Return what an automation does, without what the server adds and a person may switch."""
    return automation.model_dump(include={"description", "trigger", "actions"})


def _absence(*, after: set[str], expect: set[str], within_seconds: int) -> Any:
    """Return a trigger that fires when, after one of some events of a run, none of others comes in time."""
    return _trigger(after=after, expect=expect, posture="Proactive", within=timedelta(seconds=within_seconds))


def _trigger(*, match: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Return an event trigger on each of our runs for itself."""
    from prefect.events.schemas.automations import EventTrigger

    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*", **(match or {})},
        match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
        for_each={"prefect.resource.id"},
        threshold=1,
        **settings,
    )
