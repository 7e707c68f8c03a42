# What functions may return, and where it may go: None, lists and ends don't keep data from its place.
from temperature import Alert, Heat, Reading, alert, alerts, workflow

from headrace import Complete, Context, Event, KafkaSink, Terminate


def maybe(event: Event[Reading], ctx: Context) -> Alert | None:
    return None


def many(event: Event[Reading], ctx: Context) -> list[Alert]:
    return []


async def many_or_none(event: Event[Reading], ctx: Context) -> list[Alert] | None:
    return None


async def stop(event: Event[Reading], ctx: Context) -> Alert | Complete | Terminate:
    return Terminate("enough")


def mixed(event: Event[Reading], ctx: Context) -> Heat | Alert | None:
    return Heat.HIGH


async def nothing(event: Event[Reading], ctx: Context) -> None: ...


copies = workflow.sink(KafkaSink("copies", Reading))
for_maybe, for_many, later = workflow.node(maybe), workflow.node(many, replicas=2), workflow.node(many_or_none)
stopping, mixing, ended = workflow.node(stop), workflow.node(mixed), workflow.node(nothing)
for_maybe.to(alerts)
for_many.to(alerts)
later.to(alerts)
stopping.to(alerts)
mixing.on(Heat.HIGH).to(alert, copies)
mixing.on(Heat.NORMAL, Heat.CRITICAL).to(None)
mixing.on(Alert).to(alerts)
