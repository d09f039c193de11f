"""A shim on Prefect's client: `prefect deployment run preprocess-ffpp` works without `<flow>/` in front.

Prefect wants `<flow>/<deployment>` and answers anything else with `Invalid deployment name format`. The entry
point `prefect.plugins` in pyproject.toml names this module, so Prefect imports it as the last step of `import prefect`,
in the checkout (`[tool.prefect.plugins] enabled = true`) or wherever PREFECT_PLUGINS_ENABLED=true.

It replaces ONE method, `PrefectClient.read_deployment_by_name`, seen in Prefect 3.8:

    name with a slash       handed to Prefect untouched
    one deployment has it   read as `<its flow>/<name>`
    several have it         an error of one line that lists the full names
    none has it             Prefect's own not-found

On a Prefect whose client looks different nothing is replaced, a warning says so, and the full form still works.
Every `prefect` command pays for this import: nothing heavy may come in here.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefect.plugins import HookContext, SetupResult, register_hook

from manifests.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

ReadByName: TypeAlias = "Callable[[Any, str], Awaitable[DeploymentResponse]]"

PREFECT_PLUGIN_API_REQUIRES: Final = ">=0.1,<1"
PATCHED_METHOD: Final = "read_deployment_by_name"

# Both are needed: the client obeys the first, the server the second.
TELEMETRY_OFF: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


class AmbiguousDeploymentError(SystemExit, ConfigError):
    """Several deployments have the short name.

    A ConfigError for Python callers. Also a SystemExit, because the `prefect` command line lets only that one through:
    it would print any other exception as a traceback of forty lines.
    """


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Teach the client short names, and switch telemetry off where nobody chose otherwise."""
    from prefect.client import orchestration

    logger = ctx.logger_factory("prefect.faceshards")
    if not teach_short_names(getattr(orchestration, "PrefectClient", None)):
        logger.warning(
            "deployment names: got a client of Prefect %s, expected one like that of Prefect 3.8; "
            "write <flow>/<deployment>, the short form is off",
            ctx.prefect_version,
        )
    missing = {name: value for name, value in TELEMETRY_OFF.items() if name not in os.environ}
    return SetupResult(env=missing, note="telemetry off") if missing else None


def teach_short_names(client_class: Any) -> bool:
    """Replace the one method on `client_class`; return False, with nothing changed, when the class looks different."""
    original: ReadByName | None = getattr(client_class, PATCHED_METHOD, None)
    if original is None or not _is_as_expected(client_class):
        return False
    if getattr(original, "takes_short_names", False):
        return True

    @functools.wraps(original)
    async def read_deployment_by_name(self: Any, name: str) -> DeploymentResponse:
        full_name = name if "/" in name else await _full_name(self, name)
        return await original(self, full_name)

    read_deployment_by_name.takes_short_names = True  # type: ignore[attr-defined]
    setattr(client_class, PATCHED_METHOD, read_deployment_by_name)
    return True


def _is_as_expected(client_class: Any) -> bool:
    """Return whether both methods that the shim touches are coroutines with the parameters it passes."""
    replaced = getattr(client_class, PATCHED_METHOD, None)
    asked = getattr(client_class, "read_flows", None)
    return (
        inspect.iscoroutinefunction(replaced)
        and list(inspect.signature(replaced).parameters) == ["self", "name"]
        and inspect.iscoroutinefunction(asked)
        and "deployment_filter" in inspect.signature(asked).parameters
    )


async def _full_name(client: Any, name: str) -> str:
    """Return `<flow>/<name>` of the one deployment called `name`.

    Raises:
        AmbiguousDeploymentError: several flows have a deployment of that name.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    # A flow has at most one deployment of a name, so the flows found are as many as the deployments.
    deployment_filter = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    flow_names = sorted(flow.name for flow in await client.read_flows(deployment_filter=deployment_filter))
    if len(flow_names) > 1:
        full_names = ", ".join(f"{flow_name}/{name}" for flow_name in flow_names)
        raise AmbiguousDeploymentError(
            f"deployment: got {name!r}, expected one of the {len(flow_names)} that have this name: {full_names}; "
            "write the full name"
        )
    # Nothing found: a name that does not exist either makes Prefect answer with its own not-found.
    return f"{flow_names[0] if flow_names else name}/{name}"
