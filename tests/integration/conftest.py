"""One Ray cluster for all tests of the session: starting one takes seconds."""

from collections.abc import Iterator

import pytest

from headrace.actors.local_ray import LocalRay


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[LocalRay]:
    """A Ray of the session's own on loopback, to which this process is connected."""
    with LocalRay(cpus=4) as cluster:
        yield cluster
