"""Looks at the address that a workflow has for callbacks before it is deployed: it may be one that is never called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from headrace.gateway.callback_targets import Resolver, TargetRefused, TargetRules, networks_of, resolve
from headrace.gateway.settings import gateway_settings
from headrace.settings import Scalar
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan


class CallbackRefused(HeadraceError):
    """Gateways would not call the address that a workflow has for callbacks.

    Attributes:
        workflow: Its name.
        reason: Why.
    """

    def __init__(self, workflow: str, reason: str) -> None:
        self.workflow, self.reason = workflow, reason
        super().__init__(
            f"callback= of {workflow}: {reason}. Give an https address that everybody reaches; or allow this one to the"
            " gateways, and here, by callback_networks and callback_plain in [gateway]."
        )

    def __reduce__(self) -> tuple[type[CallbackRefused], tuple[str, str]]:
        return type(self), (self.workflow, self.reason)


def check_callback(plan: Plan, gateway: Mapping[str, Scalar], resolver: Resolver = resolve) -> None:
    """Make sure that the gateways may call what the workflow has as its `callback=`.

    Args:
        plan: Of the workflow.
        gateway: The table `[gateway]` of the settings.
        resolver: Finds the addresses of names.

    Raises:
        CallbackRefused: They may not.
        GatewayOptionError: An option can't be used.
    """
    if not plan.callback:
        return
    settings = gateway_settings(gateway)
    networks = networks_of(settings.callback_networks)
    rules = TargetRules(networks, plain=settings.callback_plain, resolver=resolver)
    try:
        asyncio.run(rules.check(plan.callback))
    except TargetRefused as error:
        raise CallbackRefused(plan.name, error.reason) from None
