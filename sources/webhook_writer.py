"""Sends the messages of a `WebhookSink`: those of a key one after the other, those of different keys side by side."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import UTC
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from headrace.sources.custom_sink import Message, Writer
from headrace.sources.standard_webhooks import FINAL, is_delivered, retry_after, secrets_of, signed_headers
from headrace.workflows.actions import Reject
from headrace.workflows.codec import encode_json

if TYPE_CHECKING:
    from headrace.sources.webhook import Known, WebhookSink

_LONGEST_WAIT: Final = 60.0
"""Seconds for which a receiver is left alone if it asks for as many or more."""
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""What an id has in a header as it is."""


class NotTakenError(Exception):
    """A receiver has not taken a message now.

    Args:
        what: For people.
        asked: Seconds for which the receiver wants to be left alone.
    """

    def __init__(self, what: str, asked: float = 0.0) -> None:
        super().__init__(what)
        self.asked = asked


class WebhookWriter(Writer[Any]):
    """Sends for one worker.

    Args:
        sink: What to send to, and how.

    Raises:
        ValueError: The secrets are missing, or are none.
    """

    def __init__(self, sink: WebhookSink[Any]) -> None:
        self._sink = sink
        self._known: Known = sink.known
        self._secrets = _secrets(sink.secret_variable)
        self._headers = {
            "user-agent": f"headrace/{version('headrace')}",
            **sink.headers,
            "content-type": "application/json",
        }
        self._http = httpx.AsyncClient(
            timeout=sink.call_timeout.total_seconds(),
            limits=httpx.Limits(max_connections=sink.concurrency, max_keepalive_connections=sink.concurrency),
        )

    async def send(self, messages: Sequence[Message[Any]]) -> list[Reject | None]:
        """See `Writer.send`.

        Raises:
            NotTakenError: Some were not taken; those that were are not sent again by this process.
        """
        queues: dict[str, list[Message[Any]]] = {}
        for message in messages:
            queues.setdefault(message.key, []).append(message)
        places = asyncio.Semaphore(self._sink.concurrency)
        failures: list[NotTakenError] = []

        async def send_all(queue: list[Message[Any]]) -> None:
            async with places:
                for message in queue:
                    try:
                        await self._send(message)
                    except NotTakenError as failure:
                        failures.append(failure)
                        return

        async with asyncio.TaskGroup() as group:
            for queue in queues.values():
                group.create_task(send_all(queue))
        if failures:
            await asyncio.sleep(min(max(failure.asked for failure in failures), _LONGEST_WAIT))
            raise failures[0]
        refused = self._known.refused
        answers = [Reject(refused[message.id]) if message.id in refused else None for message in messages]
        self._known.forget()
        return answers

    async def _send(self, message: Message[Any]) -> None:
        known = self._known
        if message.id in known.delivered or message.id in known.refused:
            return
        stamp = message.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = encode_json({"type": self._sink.name, "timestamp": stamp, "key": message.key, "data": message.data})
        headers = self._headers | signed_headers(self._secrets, quote(message.id, _VISIBLE), int(time.time()), body)
        if not self._secrets:
            del headers["webhook-signature"]
        try:
            answer = await self._http.post(self._sink.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise NotTakenError(f"{self._sink.url}: {str(error) or type(error).__name__}") from error
        if is_delivered(answer.status_code):
            known.delivered.add(message.id)
        elif answer.status_code in FINAL:
            known.refused[message.id] = f"answered {answer.status_code}"
        else:
            self._not_now(message, answer)

    def _not_now(self, message: Message[Any], answer: httpx.Response) -> None:
        """Give it up, if it was answered so often enough. An answer that asks for patience does not count."""
        known, most = self._known, self._sink.attempts
        what = f"answered {answer.status_code}"
        if "location" in answer.headers:
            what += f", to {answer.headers['location']}; redirects are not followed"
        asked = retry_after(answer.headers.get("retry-after", "").encode() or None)
        if asked is None:
            known.answers[message.id] = count = known.answers.get(message.id, 0) + 1
            if most is not None and count >= most:
                known.refused[message.id] = f"{what}, the last of {count} times"
                return
        raise NotTakenError(f"{self._sink.url} {what}", asked or 0.0)

    async def close(self) -> None:
        """See `Writer.close`."""
        await self._http.aclose()


def _secrets(variable: str | None) -> tuple[bytes, ...]:
    if variable is None:
        return ()
    text = os.environ.get(variable, "")
    if not text.strip():
        raise ValueError(
            f"no secret to sign calls with. Set {variable}=whsec_... where workers run, or write secret_variable=None"
        )
    try:
        return secrets_of(text)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None
