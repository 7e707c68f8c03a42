"""F2, G1: a worker dies between any two steps of an epoch, at the first time and at a later one; the next goes on."""

from __future__ import annotations

import pytest

from headrace.actors.effects import CRASH_POINTS, Effect
from rig import Rig
from solo import solo
from waiting import until

OF_A_WORKER = {
    kind.value
    for kind in (
        Effect.ACQUIRE, Effect.COMMIT, Effect.TRANSACTION_INIT, Effect.TRANSACTION_BEGIN, Effect.RELAY_SEND,
        Effect.TRANSACTION_COMMIT, Effect.OUTBOX_TRIM,
    )
}  # fmt: skip
POINTS = [point for point in CRASH_POINTS if point.partition(":")[2] in OF_A_WORKER]
STEPS = ["after:pull", "after:load"]


@pytest.mark.parametrize("point", [*POINTS, *STEPS])
def test_F02_a_worker_crashes_between_any_two_steps(quiet_rig: Rig, point: str) -> None:
    for index, occurrence in enumerate((1, 4)):
        crash_at = f"{point}:{occurrence}"
        with solo(quiet_rig, index=index, placement=index + 1, crash_at=crash_at) as worker, quiet_rig.load:
            until(lambda worker=worker: worker.crashed, f"it has crashed at {crash_at}")

    with solo(quiet_rig, index=2, placement=3):
        quiet_rig.check()
