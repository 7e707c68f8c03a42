"""The workflow of the demo: temperatures become alerts, by thresholds that follow the season.

Every process imports this file by its name, so it loads nothing but Headrace itself. See the graph:
`headrace graph examples/temperature_workflow.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from headrace import Action, Context, Event, KafkaSink, KafkaSource, Node, Workflow

DAY = 24
"""Readings of a day: the history that is kept, and how often the season is looked at."""
SEASON_DAYS = 14
"""Days whose mean is the season."""
USUAL = 12.0
"""Degrees Celsius that thresholds are given for; they go half the way with the season."""
LOW, HIGH, CRITICAL = -6.0, 7.0, 10.0
"""Thresholds, in degrees from the middle between the usual temperature and the season's."""
SILENCE = timedelta(hours=6)
"""A sensor is not reported again for the same thing within this time."""


class Reading(msgspec.Struct, frozen=True):
    """What a sensor sends."""

    sensor: str
    time: datetime
    celsius: float


class Season(msgspec.Struct, frozen=True):
    """What is fed back: how warm it has been at this sensor lately."""

    celsius: float


class Observed(msgspec.Struct, frozen=True):
    """A reading together with what is known of its sensor."""

    sensor: str
    time: datetime
    celsius: float
    change: float
    """Degrees since the oldest reading in the history."""
    middle: float
    """Thresholds are given from here."""


class Alert(msgspec.Struct, frozen=True):
    """What people are told."""

    sensor: str
    time: datetime
    level: str
    celsius: float
    change: float


class Heat(Action):
    """What `classify` makes of a reading."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Sensor(msgspec.Struct):
    """State of `observe`, one for each sensor."""

    count: int = 0
    mean: float = 0.0
    history: list[float] = []
    """The last day, oldest first."""
    season: float = USUAL


class Days(msgspec.Struct):
    """State of `season`."""

    today: list[float] = []
    means: list[float] = []
    """Of the last days, oldest first."""


class Levels(msgspec.Struct):
    """State of `classify`: how often it returned each action."""

    low: int = 0
    normal: int = 0
    high: int = 0
    critical: int = 0


class Told(msgspec.Struct):
    """State of a handler."""

    alerts: int = 0
    last: datetime | None = None


class Observe(Node[Reading | Season, Sensor, Observed | None]):
    """Keeps the running mean, the last day and the season of each sensor."""

    def process(self, event: Event[Reading | Season], ctx: Context[Sensor]) -> Observed | None:
        """A reading goes on with what is known of its sensor; a season is only remembered."""
        data, sensor = event.data, ctx.state
        if isinstance(data, Season):
            sensor.season = data.celsius
            return None
        sensor.count += 1
        sensor.mean += (data.celsius - sensor.mean) / sensor.count
        sensor.history = [*sensor.history, data.celsius][-DAY:]
        middle = (USUAL + sensor.season) / 2
        change = round(data.celsius - sensor.history[0], 2)
        return Observed(data.sensor, data.time, data.celsius, change, middle)


def season(event: Event[Observed], ctx: Context[Days]) -> Season | None:
    """Once a day, tell `observe` how warm the last days were: the way back in the graph."""
    days = ctx.state
    days.today.append(event.data.celsius)
    if len(days.today) < DAY:
        return None
    days.means = [*days.means, sum(days.today) / DAY][-SEASON_DAYS:]
    days.today = []
    return Season(sum(days.means) / len(days.means))


def classify(event: Event[Observed], ctx: Context[Levels]) -> Heat:
    """Choose the route by how far the reading is from the middle; critical wins."""
    above = event.data.celsius - event.data.middle
    if above >= CRITICAL:
        ctx.state.critical += 1
        return Heat.CRITICAL
    if above >= HIGH:
        ctx.state.high += 1
        return Heat.HIGH
    if above <= LOW:
        ctx.state.low += 1
        return Heat.LOW
    ctx.state.normal += 1
    return Heat.NORMAL


class Tell(Node[Observed, Told, Alert | None]):
    """Makes alerts of one level, with a silence between them."""

    def __init__(self, level: Heat) -> None:
        self.level: str = level.value

    def process(self, event: Event[Observed], ctx: Context[Told]) -> Alert | None:
        """An alert, unless there was one of this sensor a short time ago."""
        data, told = event.data, ctx.state
        if told.last is not None and data.time - told.last < SILENCE:
            return None
        told.last = data.time
        told.alerts += 1
        return Alert(data.sensor, data.time, self.level, data.celsius, data.change)


workflow = Workflow("temperature", partitions=4)
readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
alerts = workflow.sink(KafkaSink("alerts", Alert))

observing = workflow.node(Observe())
seasons = workflow.node(season)
classifying = workflow.node(classify)
low = workflow.node(Tell(Heat.LOW), name="low")
high = workflow.node(Tell(Heat.HIGH), name="high")
critical = workflow.node(Tell(Heat.CRITICAL), name="critical")

readings.to(observing)
observing.to(classifying, seasons)
seasons.to(observing)
classifying.on(Heat.LOW).to(low)
classifying.on(Heat.NORMAL).to(None)
classifying.on(Heat.HIGH).to(high)
classifying.on(Heat.CRITICAL).to(critical)
low.to(alerts)
high.to(alerts)
critical.to(alerts)

# Three actors: a loop within one of them costs no message, and needs no waiting for one event at a time.
workflow.fuse(observing, seasons)
workflow.fuse(low, high, critical)
