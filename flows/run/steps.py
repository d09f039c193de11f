"""The steps of a flow run as nodes of Prefect's graph, each with an arrow from the step before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import StateDetails, TaskRunResult
from prefect.states import Completed

from flows.run.task_runs import TASKS_PER_WINDOW

Given = ParamSpec("Given")
Result = TypeVar("Result")

SKIPPED = "Skipped"  # name of the state of a step with nothing to do; its type is Completed


# No retries, no caching and no stored results, as for shards: only the files on disk tell what is done.
@task(cache_policy=NO_CACHE, persist_result=False)
def take_step(work: Callable[[], State[None] | None]) -> State[None] | None:
    """Do the work of a step."""
    return work()


class Steps:
    """The steps of one flow run, in the order in which they are taken, in the thread of the flow.

    Their arguments and results do not pass through Prefect, which would look into every row of every video for results
    of other tasks. So Prefect is told what each step follows.
    """

    def __init__(self) -> None:
        self._before: list[Any] = []

    @property
    def before(self) -> list[Any]:
        """What the next run follows, for Prefect's `wait_for`."""
        return list(self._before)

    @property
    def inputs(self) -> set[TaskRunResult]:
        """The same for the `dependencies` of a task runner: its process runner takes no states in `wait_for`."""
        states = [before.state_details for before in self._before if isinstance(before, State)]
        return {TaskRunResult(id=state.task_run_id) for state in states if state.task_run_id}

    def take(self, name: str, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Return the result of a function, called as a task of this name."""
        results: list[Result] = []
        self._run(name, (work.__doc__ or "").partition("\n")[0], lambda: results.append(work(*args, **kwargs)))
        return results[0]

    def skip(self, name: str, why: str) -> None:
        """Show a step as skipped, with the reason."""
        self._run(f"{name}: skipped", why, lambda: Completed(name=SKIPPED, message=why))

    def subflow(self, flow: Callable[..., Result], config: object) -> Result:
        """Return the result of a flow that runs as a part of this one."""
        result = flow(config, wait_for=self.before)
        self._before = [result]  # Prefect knows the results of flows by their identity
        return result

    def follow(self, task_runs: Sequence[UUID | None]) -> None:
        """Let the next step follow task runs; of very many, arrows from the last ones stand for all."""
        # Prefect takes states in `wait_for`, and asks each for its result. No result is kept, so True stands for it.
        self._before = [
            Completed(data=True, state_details=StateDetails(task_run_id=task_run))
            for task_run in task_runs[-TASKS_PER_WINDOW:]
        ]

    def _run(self, name: str, about: str, work: Callable[[], State[None] | None]) -> None:
        step = take_step.with_options(name=name, task_run_name=name, description=about)
        state: State[Any] = step(work, wait_for=self.before, return_state=True)
        state.result()  # raises what the work raised
        self.follow([state.state_details.task_run_id])
