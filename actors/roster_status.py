"""The supervisor's status document, made from the roster."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from headrace.actors.changing import problems_of, sentence_of
from headrace.actors.processes import Process, Slot
from headrace.actors.roster import Roster
from headrace.actors.spec import ClusterStatus, Problem, RoleStatus, WorkerRole

SLOW_START: Final = 15.0
"""Seconds after which a process that has not come up is named as a problem."""


def status_of(roster: Roster, now: float, time: float) -> ClusterStatus:
    """How the workflow does.

    Args:
        roster: What the supervisor knows.
        now: The clock that the roster was told.
        time: Seconds since 1970 UTC.
    """
    unplaced = tuple(number for number, partition in enumerate(roster.partitions) if partition.owner is None)
    problems = _problems(roster, now)
    serving = all(slot.serving is not None for slot in roster.slots.values())
    ready = serving and not unplaced
    everything = any(not pause.name for pause in roster.pauses)
    if roster.stopping:
        state = "stopping"
    elif ready:
        state = "degraded" if problems else "paused" if everything else "running"
    else:
        state = "degraded" if problems and roster.settled else "starting"
    return ClusterStatus(
        workflow=roster.deployment.workflow,
        version=roster.deployment.code.version,
        state=state,
        ready=ready,
        term=roster.term,
        placement=roster.placement,
        partitions=len(roster.partitions),
        roles=(*_roles(roster, now), *_spares(roster)),
        unplaced=unplaced,
        problems=problems,
        time=time,
        durability=roster.deployment.durability,
        paused=roster.pauses,
        revision=roster.deployment.revision,
        coming=sentence_of(roster),
        at_rest=all(_rests(slot.serving, roster.paused, everything=everything) for slot in _workers(roster)),
    )


def _workers(roster: Roster) -> list[Slot]:
    return [slot for slot in roster.slots.values() if isinstance(slot.role, WorkerRole)]


def _rests(worker: Process | None, paused: tuple[str, ...], *, everything: bool) -> bool:
    """As far as the worker has told: it does what was asked for."""
    if worker is None or worker.engine is None or worker.engine.paused != paused:
        return False
    return not (everything and worker.engine.in_flight)


def _roles(roster: Roster, now: float) -> list[RoleStatus]:
    owned: dict[str, list[int]] = defaultdict(list)
    for number, partition in enumerate(roster.partitions):
        if partition.owner is not None:
            owned[partition.owner].append(number)
    rows = []
    for slot in roster.slots.values():
        process = slot.process
        engine = process.engine if process is not None else None
        rows.append(
            RoleStatus(
                name=slot.label,
                role=slot.role.name,
                actor=process.actor if process else None,
                pid=process.pid if process else None,
                state=_state(slot, now),
                incarnation=process.incarnation if process else None,
                restarts=max(0, slot.started - 1),
                partitions=tuple(owned[process.actor]) if process else (),
                counters=engine.counters if engine else {},
            )
        )
    return rows


def _state(slot: Slot, now: float) -> str:
    if slot.process is not None:
        return slot.process.state
    return "backing-off" if now < slot.retry_at else "waiting"


def _spares(roster: Roster) -> list[RoleStatus]:
    return [
        RoleStatus(
            name="spare", actor=process.actor, pid=process.pid, state=process.state, incarnation=process.incarnation
        )
        for process in roster.processes.values()
        if process.role is None and process.state in ("starting", "spare")
    ]


def _problems(roster: Roster, now: float) -> tuple[Problem, ...]:
    problems = [problem for problem in (roster.store_problem, roster.start_problem) if problem is not None]
    for slot in roster.slots.values():
        if slot.problem is not None:
            named = slot.problem
            problems.append(
                Problem(where=slot.label, word=named.word, sentence=named.sentence, traceback=named.traceback)
            )
        if slot.serving is not None and slot.serving.engine is not None:
            problems.extend(slot.serving.engine.problems)
    problems.extend(problems_of(roster))
    problems.extend(partition.problem for partition in roster.partitions if partition.problem is not None)
    problems.extend(_slow(process, now) for process in roster.processes.values() if _is_slow(process, now))
    return tuple(problems)


def _is_slow(process: Process, now: float) -> bool:
    return process.state in ("starting", "becoming") and now - process.since > SLOW_START


def _slow(process: Process, now: float) -> Problem:
    seconds = round(now - process.since)
    if process.state == "becoming" and process.role is not None:
        sentence = f"It has been opening for {seconds} s."
        return Problem(where=process.role.name, word="opening", sentence=sentence)
    sentence = f"A process has not come up for {seconds} s: it imports slowly, or Ray has no resources for it"
    wanted = ", ".join(f"{name}={amount}" for name, amount in process.resources.items())
    return Problem(where=process.actor, word="starting", sentence=f"{sentence} ({wanted or 'none asked for'}).")
