"""What a new version would do to states in the store: lose those of nodes that are gone, stumble over others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace.actors.spec import Deployment
from headrace.actors.state_check import Misfit, forget_fields, forget_misfits, misfits, runs_with
from headrace.actors.store_registry import Registry
from headrace.workflows.errors import HeadraceError
from headrace.workflows.plan import Plan

_SHOWN: Final = 5
_CURE: Final = (
    "Give a node that was renamed its old name (name=), or keep the old fields (with defaults for new ones). To begin"
    " anew without these states, for good: --drop-state"
)


class StatesLost(HeadraceError):
    """A new version has no place for states that the store has, or can't read them.

    Attributes:
        workflow: Its name.
        orphans: Node -> how many runs have a state of it, though the new version has no such node.
        misfits: States that the new version can't read.
    """

    def __init__(self, workflow: str, orphans: dict[str, int], misfits: Sequence[Misfit]) -> None:
        self.workflow, self.orphans, self.misfits = workflow, orphans, list(misfits)
        lines = [
            f"  {node} had states, in {count} run{'' if count == 1 else 's'}, and is gone"
            for node, count in orphans.items()
        ]
        lines += [f"  {misfit.sentence}" for misfit in misfits[:_SHOWN]]
        if len(misfits) > _SHOWN:
            lines.append(f"  and {len(misfits) - _SHOWN} more")
        super().__init__("\n".join([f"The new version of {workflow} would lose states:", *lines, _CURE]))

    def __reduce__(self) -> tuple[type[StatesLost], tuple[str, dict[str, int], list[Misfit]]]:
        return type(self), (self.workflow, self.orphans, self.misfits)


async def refuse_loss(registry: Registry, before: Deployment, after: Deployment, plan: Plan) -> None:
    """See that every state in the store has a node in the new version that can read it.

    Raises:
        StatesLost: It has not.
        StoreUnavailable: Ask again.
    """
    found = await runs_with(registry, after.workflow, _gone(before, after))
    orphans = {field.removeprefix("node:"): count for field, count in found.items()}
    wrong = await misfits(registry, plan)
    if orphans or wrong:
        raise StatesLost(after.workflow, orphans, wrong)


async def drop_lost(registry: Registry, before: Deployment, after: Deployment, plan: Plan) -> int:
    """Take out the states that `refuse_loss` names; only while the workflow does not run. Returns how many."""
    gone = await forget_fields(registry, after.workflow, _gone(before, after))
    return gone + await forget_misfits(registry, plan)


def _gone(before: Deployment, after: Deployment) -> list[str]:
    return [field for field in before.states if field not in after.states]
