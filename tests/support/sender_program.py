"""A process that sends to a channel: reads a pickled handle and a list of data, tells what became of them."""

import asyncio
import json
import pickle
import sys

from headrace import SourceClosed


async def main() -> None:
    """Send one after the other, until all are in or the channel is closed."""
    sender, batch = pickle.load(sys.stdin.buffer)
    sent, error = 0, None
    try:
        for data in batch:
            await sender.send(data)
            sent += 1
    except SourceClosed as closed:
        error = type(closed).__name__
    await sender.disconnect()
    print(json.dumps({"sent": sent, "error": error}))


asyncio.run(main())
