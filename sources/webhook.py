"""A signed call to somebody's URL as a sink: what users write."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, Generic
from urllib.parse import urlsplit

from typing_extensions import TypeVar

from headrace.sources.custom_sink import CustomSink, Writer
from headrace.workflows.returns import Fault

D = TypeVar("D")

SECRET: Final = "HEADRACE_WEBHOOK_SECRET"
"""Variable of the environment that has the secrets, unless the sink names another one."""
_OURS: Final = frozenset(
    {"content-type", "content-length", "host", "webhook-id", "webhook-timestamp", "webhook-signature"}
)


class WebhookSink(CustomSink[D], Generic[D]):
    """Each message is a POST to a URL, by the rules of Standard Webhooks: at least once, with an id, signed.

    The body is `{"type": ..., "timestamp": ..., "key": ..., "data": ...}`, JSON; its type is the sink's name. The
    messages of a key come one after the other, those of different keys side by side. An answer of 2xx: it is there.
    400, 405, 410, 413, 415, 422: it will never be taken, and is a dead letter. Anything else, and no answer: not now;
    it is tried again until it works, and status names it.

    Args:
        type: What it takes.
        url: `https://...`, or `http://...` within a network of your own. Redirects are not followed.
        name: Unique within the workflow; what waits in the outbox names it, so keep it.
        headers: More headers of each call. For what is secret use `secret_variable`: code is stored with deployments.
        secret_variable: Variable of the workers' environment with the secrets, `whsec_...`: several, a blank between
            them, while one is changed. None: calls are not signed.
        concurrency: Calls at a time, of different keys.
        call_timeout: How long one call may take.
        attempts: After so many answers that mean "not now" a message is a dead letter. None: it is tried for ever.

    Examples:
        >>> WebhookSink(dict, url="https://shop.example/hooks").name
        'webhook'
    """

    batch = 100
    timeout = timedelta(minutes=10)

    def __init__(
        self,
        type: builtins.type[D],
        *,
        url: str,
        name: str = "webhook",
        headers: Mapping[str, str] | None = None,
        secret_variable: str | None = SECRET,
        concurrency: int = 8,
        call_timeout: timedelta = timedelta(seconds=10),
        attempts: int | None = None,
    ) -> None:
        super().__init__(type, name=name)
        self.url = url
        self.headers = dict(headers or {})
        self.secret_variable = secret_variable
        self.concurrency = concurrency
        self.call_timeout = call_timeout
        self.attempts = attempts
        self.known = Known()

    def open(self) -> Writer[D]:
        """See `CustomSink`.

        Raises:
            ValueError: The secrets are missing, or are none.
        """
        from headrace.sources.webhook_writer import WebhookWriter  # noqa: PLC0415  needs what only workers need

        return WebhookWriter(self)

    def check(self) -> Iterable[Fault]:
        """See `Sink.check`."""
        yield from _address_faults(self.url)
        for word, count in (("concurrency", self.concurrency), ("attempts", self.attempts)):
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
                cure = f"Write {word}=8, or leave it out"
                yield Fault("webhook", f"{word}={count!r} is no number of 1 or more", cure)
        if not isinstance(self.call_timeout, timedelta) or not timedelta() < self.call_timeout < self.timeout:
            message = f"call_timeout={self.call_timeout!r} is no timedelta between 0 and {self.timeout}"
            yield Fault("webhook", message, "Write call_timeout=timedelta(seconds=10)")
        for name, value in self.headers.items():
            if name.lower() in _OURS:
                yield Fault("webhook", f"the header {name} is set by each call", f"Take {name} out of headers=")
            elif not _fits_in_a_header(name, value):
                yield Fault("webhook", f"{name!r}: {value!r} is no header", "Write visible ASCII characters only")


class Known:
    """What a process remembers of messages of a batch that has failed, beyond the writer that sent it."""

    def __init__(self) -> None:
        self.delivered: set[str] = set()
        """Ids of those that are there."""
        self.refused: dict[str, str] = {}
        """Ids of those that will never be taken, and why."""
        self.answers: dict[str, int] = {}
        """How often each of the others was answered."""

    def forget(self) -> None:
        """The batch is done."""
        self.delivered.clear()
        self.refused.clear()
        self.answers.clear()


def _address_faults(url: object) -> Iterable[Fault]:
    cure = "Write url='https://shop.example/hooks'"
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        port = None if parts is None else parts.port
    except ValueError as error:
        yield Fault("webhook", f"url={url!r} is no address ({error})", cure)
        return
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        yield Fault("webhook", f"url={url!r} is no address of a web server", cure)
    elif parts.username is not None or parts.password is not None:
        cure = "Take it out: code is stored with deployments. The signature says who calls"
        yield Fault("webhook", "url= has a user or a password in it", cure)


def _fits_in_a_header(name: object, value: object) -> bool:
    return all(
        isinstance(text, str) and text != "" and text.isascii() and text.isprintable() for text in (name, value)
    ) and not set(str(name)) & set(' :()<>@,;\\"/[]?={}')
