"""A worker's clock follows the store's, by looks that each have an error, and never goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.actors.clock import DRIFT, FAR_MS, StoreClock
from headrace.workflows.store import StoreUnavailable


class Host:
    """A host whose clocks a test turns; the store's is `ahead` milliseconds ahead of it."""

    def __init__(self, ahead: float = 0) -> None:
        self.passed = 100.0
        self.started = 1_700_000_000.0
        self.ahead = ahead

    def monotonic(self) -> float:
        return self.passed

    def host(self) -> float:
        return self.started + self.passed

    def store_ms(self) -> int:
        return int(self.host() * 1000 + self.ahead)

    def clock(self) -> StoreClock:
        return StoreClock(self.monotonic, self.host)

    def look(self, clock: StoreClock, *, there: float, back: float) -> None:
        """One look, in seconds there and back."""
        asked = self.passed
        self.passed += there
        told = self.store_ms()
        self.passed += back
        clock.learn(asked, self.passed, told)

    def off(self, clock: StoreClock) -> float:
        """How far the clock is from the store's."""
        return abs(clock.now_ms() - self.store_ms())


def test_before_the_first_look_it_is_the_hosts_clock() -> None:
    host = Host(ahead=5_000)

    assert host.clock().now_ms() == int(host.host() * 1000)


@given(
    ahead=st.floats(0, 1e7),
    looks=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 60)), min_size=1, max_size=8),
)
def test_it_is_never_further_off_than_its_best_look(ahead: float, looks: list[tuple[float, float, float]]) -> None:
    host = Host(ahead)
    clock = host.clock()
    error = float("inf")
    for there, back, pause in looks:
        before = clock.now_ms()
        host.look(clock, there=there, back=back)
        error = min(error, (there + back) * 500 + 2)
        now = clock.now_ms()
        assert now >= before
        assert now == before or abs(now - host.store_ms()) <= error + 1
        host.passed += pause
        error += pause * 1000 * DRIFT


def test_the_stores_clock_may_be_set_and_time_does_not_go_back() -> None:
    host = Host(ahead=60_000)
    clock = host.clock()
    host.look(clock, there=0.001, back=0.001)
    before = clock.now_ms()

    host.ahead = 0
    host.look(clock, there=0.001, back=0.001)

    assert clock.now_ms() == before, "it waits until the store's clock is there"
    host.passed += 120
    assert host.off(clock) <= 3


def test_a_slow_look_does_not_spoil_a_good_one() -> None:
    host = Host(ahead=500)
    clock = host.clock()
    host.look(clock, there=0.0005, back=0.0005)

    host.look(clock, there=1.5, back=0)

    assert host.off(clock) <= 3


async def test_while_the_store_is_away_it_goes_on() -> None:
    host = Host(ahead=500)
    clock = host.clock()

    async def away() -> int:
        raise StoreUnavailable("store:6379", "refused")

    await clock.look(away)
    host.passed += 1

    assert clock.now_ms() == int(host.host() * 1000)


def test_it_knows_how_far_the_host_is_ahead() -> None:
    host = Host(ahead=-2 * FAR_MS)
    clock = host.clock()

    host.look(clock, there=0.001, back=0.001)

    assert abs(clock.host_ahead_ms - 2 * FAR_MS) <= 3
