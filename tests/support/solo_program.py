"""A worker's engine in a process of its own, without Ray: owns what it is told to own on the command line.

Prints `owned` once it has acquired the partitions, then each report, as JSON lines. Ends when its input closes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final

import msgspec

from headrace.actors import backlog
from headrace.actors.loading import import_workflow
from headrace.actors.spec import Assign, Deployment, GetStatus, Report, RoleSpec, WorkerRole
from headrace.actors.worker import Worker
from headrace.workflows.ports import BEGINNING

_TELLING: Final = os.fdopen(os.dup(1), "w")
"""What the test reads. The log goes to stderr with all else that is printed: its lines would mingle with these."""
os.dup2(2, 1)


def _tell(**what: object) -> None:
    print(json.dumps(what), file=_TELLING, flush=True)


def _report(report: Report) -> None:
    _tell(report=type(report).__name__, **msgspec.structs.asdict(report))


def main(settings: str) -> None:
    """Run until the input ends; a line `status` is answered with the engine's."""
    given = json.loads(settings)
    deployment = msgspec.convert(given["deployment"], Deployment)
    if given["backlog"] is not None:
        backlog.BACKLOG = given["backlog"]  # type: ignore[misc]
    plan = import_workflow(deployment.code).compile(fuse="all", now=BEGINNING)
    spec = RoleSpec(
        role=WorkerRole(given["index"]), actor=f"solo/{given['index']}", incarnation=given["placement"],
        term=1, deployment=deployment,
    )  # fmt: skip
    worker = Worker(spec, plan, _report)
    worker.start()
    worker.control(Assign(partitions=tuple(given["partitions"]), term=1, placement=given["placement"]))
    _tell(owned=given["partitions"])
    for line in sys.stdin:
        if line.strip() == "status":
            reply = worker.control(GetStatus())
            _tell(status=msgspec.to_builtins(reply))
    worker.stop()


if __name__ == "__main__":
    main(sys.argv[1])
