"""Questions that only a server that is really up answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from concurrent.futures import ThreadPoolExecutor

import redis
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace.embedded.ports import LOOPBACK

_PATIENCE = 2.0


def valkey_answers(port: int) -> bool:
    """Whether the server answers `PING`; false also while it still loads its data."""
    client = redis.Redis(
        host=LOOPBACK,
        port=port,
        socket_timeout=_PATIENCE,
        socket_connect_timeout=_PATIENCE,
        retry=Retry(NoBackoff(), 0),  # by default it tries ten times more
    )
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # a server that loads its data is a ConnectionError, too
        return False
    finally:
        client.close()


def kafka_answers(port: int) -> bool:
    """Whether the broker answers a metadata request and names at least one broker.

    Works inside a running event loop: the request is made on a loop of its own, in a thread.
    """
    if not _listens(port):
        return False  # and aiokafka needn't log an error about it
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, _brokers_known(f"{LOOPBACK}:{port}")).result()


async def _brokers_known(bootstrap: str) -> bool:
    logger = logging.getLogger("aiokafka")
    disabled, logger.disabled = logger.disabled, True
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_PATIENCE * 1000))
    try:
        await client.bootstrap()
        metadata = await client.fetch_all_metadata()
        return bool(metadata.brokers())
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
        logger.disabled = disabled


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_PATIENCE):
            return True
    except OSError:
        return False
