"""What a less simple result of a node comes to: a list, an end, data of a class met the first time."""

from __future__ import annotations

from typing import Any

import msgspec

from .actions import Complete, Reject
from .outcome import Item, OutputError, emitted
from .program import ACTION_KIND, LIST_KIND, NONE_KIND, NodeProgram


def unfold(node: NodeProgram, result: Any, item: Item) -> list[Item]:
    """Where the parts of a result go, the last first.

    Args:
        node: Which node returned it.
        result: What `process` returned.
        item: The event that it had.

    Raises:
        OutputError: A part of it has no way to go.
        CodecError: JSON can't carry it.
        Reject: A part of it is one.
    """
    parts = result if node.kind_of(type(result)) == LIST_KIND else [result]
    items: list[Item] = []
    for branch, part in enumerate(parts):
        kind = node.kind_of(type(part))
        if kind == NONE_KIND:
            continue
        if kind == ACTION_KIND:
            step = node.actions.get(id(part))
            if step is None:
                raise OutputError.unrouted(node, part)
            event = emitted(item.event, item.event.data, branch) if parts is result else item.event
            items.append(Item(step, event, item.type, item.blob, item.hops))
        elif kind in node.ends:
            value = part.result if isinstance(part, Complete) else part.reason
            blob = msgspec.json.encode(value)
            items.append(Item(node.ends[kind], emitted(item.event, value, branch), item.type, blob, item.hops))
        else:
            items.append(_data(node, part, branch, item))
    items.reverse()
    return items


def _data(node: NodeProgram, data: Any, branch: int, item: Item) -> Item:
    if isinstance(data, Reject):
        raise data
    output = node.output_of(type(data))
    if output is None:
        raise OutputError.unrouted(node, data)
    return Item(output.step, emitted(item.event, data, branch), output.type, output.encode(data), item.hops)
