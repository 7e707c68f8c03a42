"""What a deployment would change: compared with the one in the store. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from headrace.actors.spec import Deployment, UnitSpec
from headrace.workflows.errors import HeadraceError


class PartitionsFixed(HeadraceError):
    """A workflow has another number of partitions since its first start.

    Attributes:
        workflow: Its name.
        stored: What it has.
        asked: What was asked for.
    """

    def __init__(self, workflow: str, stored: int, asked: int) -> None:
        self.workflow, self.stored, self.asked = workflow, stored, asked
        super().__init__(
            f"{workflow} has {stored} partitions in this store since its first start, not {asked}. This can not be"
            f" changed: keys would be looked for elsewhere. Say {stored}, or take another name or store."
        )


class Change(msgspec.Struct, frozen=True):
    """One difference."""

    what: str
    """`code`, `workers`, `node classify` ..."""
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.what}: {self.after}" if self.after else f"{self.what}: new"
        return f"{self.what}: {self.before} -> {self.after or 'gone'}"


def changes_between(before: Deployment | None, after: Deployment) -> list[Change]:
    """What is different; [] if `after` runs exactly as `before` does. Values of settings are never told.

    Raises:
        PartitionsFixed: The number of partitions differs.
    """
    if before is None:
        return [Change("code", "", after.code.version)]
    if before.partitions != after.partitions:
        raise PartitionsFixed(after.workflow, before.partitions, after.partitions)
    return [change for change in _changes(before, after) if change.before != change.after]


def _changes(before: Deployment, after: Deployment) -> Iterator[Change]:
    yield Change("code", before.code.version, after.code.version)
    yield Change("imported as", _module(before), _module(after))
    if after.start_over and not before.start_over:
        yield Change("start over", "", "yes")
    yield Change("cluster", before.cluster or "(run)", after.cluster or "(run)")
    yield Change("workers", str(before.workers), str(after.workers))
    yield Change("nodes in the workers", _yes(before.fuse), _yes(after.fuse))
    yield Change("durability", before.durability, after.durability)
    yield Change("traces", _traces(before), _traces(after))
    yield Change("spares", str(before.spares), str(after.spares))
    yield from _named("node", _units(before.units), _units(after.units))
    yield from _named("setting", _shown(before.settings), _shown(after.settings), hidden=True)
    yield from _named("kafka", before.kafka, after.kafka, hidden=True)
    yield from _named("kafka cluster", _shown_all(before.clusters), _shown_all(after.clusters), hidden=True)


def _module(deployment: Deployment) -> str:
    code = deployment.code
    return f"{code.module}:{code.attr}" + (f" in {code.folder}" if code.folder and code.bundle else "")


def _yes(value: bool) -> str:
    return "all" if value else "none"


def _traces(deployment: Deployment) -> str:
    traces = deployment.traces
    if traces is None:
        return "none"
    others = msgspec.to_builtins(msgspec.structs.replace(traces, endpoint=""))
    return f"{traces.endpoint} ({', '.join(f'{name}={value}' for name, value in others.items() if value)})"


def _units(units: tuple[UnitSpec, ...]) -> dict[str, str]:
    return {
        unit.name: f"x{unit.replicas}"
        + "".join(f" {name.removeprefix('num_')}={amount:g}" for name, amount in sorted(unit.resources.items()))
        for unit in units
    }


def _shown(values: Mapping[str, str | int | float | bool]) -> dict[str, str]:
    return {name: repr(value) for name, value in values.items()}


def _shown_all(clusters: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: repr(sorted(options.items())) for name, options in clusters.items()}


def _named(what: str, before: Mapping[str, str], after: Mapping[str, str], *, hidden: bool = False) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new and hidden:
            old, new = "set" if old else "", ("set anew" if old else "set") if new else ""
        yield Change(f"{what} {name}", old, new)
