"""The client: programs in Python that send to workflows by the gateway, and wait for what comes of it.

Read in this order: `client` and `async_client` (the two that users have), `operations` (what they do, without a
socket), `exchange` (one call, tried again until it is answered), `streams` (following a stream through broken
connections), `sse` (how it is written), `transport` (httpx), `answers` (what comes back), `errors`.
"""

from headrace.client.answers import Answer, Executed, RunStatus
from headrace.client.async_client import AsyncClient, AsyncRun, AsyncRuns
from headrace.client.client import Client, Run, Runs
from headrace.client.errors import (
    ClientError,
    GatewayProblem,
    GatewayUnreachable,
    NotAnswered,
    RunEnded,
    RunExists,
    RunNotCompleted,
    RunNotEnded,
    UnknownRun,
)
from headrace.client.streams import StreamEvent, StreamValues

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncRun",
    "AsyncRuns",
    "Client",
    "ClientError",
    "Executed",
    "GatewayProblem",
    "GatewayUnreachable",
    "NotAnswered",
    "Run",
    "RunEnded",
    "RunExists",
    "RunNotCompleted",
    "RunNotEnded",
    "RunStatus",
    "Runs",
    "StreamEvent",
    "StreamValues",
    "UnknownRun",
]
