"""Which worker owns which partition: balanced, with as few moves as balance allows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def place(partitions: int, workers: Sequence[str], current: Mapping[int, str]) -> dict[int, str]:
    """Give every partition to a worker; worker loads differ by at most one.

    Args:
        partitions: How many there are; they are numbered from 0.
        workers: Names of the workers that live. Their order decides nothing but ties.
        current: Partition -> worker as it is now; may name workers that are gone.

    Returns:
        Partition -> worker, for all of them; {} when there is no worker. A partition moves only if its
        worker is gone or has more than its share, and no placement with equal balance moves fewer.
    """
    if not workers:
        return {}
    held: dict[str, list[int]] = {worker: [] for worker in workers}
    homeless: list[int] = []
    for partition in range(partitions):
        owner = current.get(partition)
        if owner in held:
            held[owner].append(partition)
        else:
            homeless.append(partition)
    share, larger = divmod(partitions, len(held))
    # The larger shares go to those who hold most now: that is what keeps the moves few.
    order = sorted(held, key=lambda worker: -len(held[worker]))
    room = {worker: share + (rank < larger) for rank, worker in enumerate(order)}
    for worker in order:
        homeless.extend(held[worker][room[worker] :])
        del held[worker][room[worker] :]
    for worker in order:
        missing = room[worker] - len(held[worker])
        held[worker].extend(homeless[:missing])
        del homeless[:missing]
    return {partition: worker for worker, own in held.items() for partition in own}
