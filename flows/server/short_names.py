"""A plugin of Prefect by which `prefect deployment run preprocess-ffpp` works without `<flow>/` before the name.

Prefect expects `<flow>/<deployment>` and answers anything else with `Invalid deployment name format`. The entry
point `prefect.plugins` in pyproject.toml names this module, so Prefect imports it as the last step of `import prefect`,
in the checkout (`[tool.prefect.plugins] enabled = true`) or wherever PREFECT_PLUGINS_ENABLED=true.

It replaces one method, `PrefectClient.read_deployment_by_name`, as it is in Prefect 3.8:

    name with a slash             passed to Prefect unchanged
    name of one deployment        read as `<its flow>/<name>`
    name of several deployments   an error of one line that lists the full names
    unknown name                  Prefect's own not-found error

If the client of another Prefect version differs, nothing is replaced, a warning is logged, and full names still work.
Every `prefect` command imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from prefect.plugins import HookContext, SetupResult, register_hook

from manifests.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

ReadByName: TypeAlias = "Callable[[PrefectClient, str], Awaitable[DeploymentResponse]]"

PREFECT_PLUGIN_API_REQUIRES: Final = ">=0.1,<1"
PATCHED_METHOD: Final = "read_deployment_by_name"

# The client obeys the first, the server the second.
TELEMETRY_OFF: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


class AmbiguousDeploymentError(SystemExit, ConfigError):
    """An error: several deployments have the short name.

    A ConfigError for Python callers. Also a SystemExit, because the `prefect` command line prints any other exception
    as a traceback of forty lines.
    """


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Let the client accept short names, and turn telemetry off where no variable is set."""
    from prefect.client import orchestration

    logger = ctx.logger_factory("prefect.faceshards")
    client_class: type[PrefectClient] | None = getattr(orchestration, "PrefectClient", None)
    if not teach_short_names(client_class):
        logger.warning(
            "deployment names: got a client of Prefect %s, expected one like that of Prefect 3.8; "
            "write <flow>/<deployment>, the short form is off",
            ctx.prefect_version,
        )
    missing = {name: value for name, value in TELEMETRY_OFF.items() if name not in os.environ}
    return SetupResult(env=missing, note="telemetry off") if missing else None


def teach_short_names(client_class: type[object] | None) -> bool:
    """Replace the method of a client class; return False, with nothing changed, where the class looks different."""
    original: ReadByName | None = getattr(client_class, PATCHED_METHOD, None)
    if original is None or not _is_as_expected(client_class):
        return False
    if getattr(original, "takes_short_names", False):
        return True

    @functools.wraps(original)
    async def read_deployment_by_name(self: PrefectClient, name: str) -> DeploymentResponse:
        full_name = name if "/" in name else await _full_name(self, name)
        return await original(self, full_name)

    read_deployment_by_name.takes_short_names = True  # type: ignore[attr-defined]  # a mark: replaced once only
    setattr(client_class, PATCHED_METHOD, read_deployment_by_name)
    return True


def _is_as_expected(client_class: type[object] | None) -> bool:
    """Return whether the replaced method and `read_flows` are coroutines with the parameters that are passed here."""
    replaced = getattr(client_class, PATCHED_METHOD, None)
    asked = getattr(client_class, "read_flows", None)
    return (
        inspect.iscoroutinefunction(replaced)
        and list(inspect.signature(replaced).parameters) == ["self", "name"]
        and inspect.iscoroutinefunction(asked)
        and "deployment_filter" in inspect.signature(asked).parameters
    )


async def _full_name(client: PrefectClient, name: str) -> str:
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
    # Where nothing is found, this name does not exist either, and Prefect raises its own not-found error.
    return f"{flow_names[0] if flow_names else name}/{name}"
