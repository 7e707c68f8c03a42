"""What nodes have asked for by their contexts, as their epoch notes it: it takes effect with the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .transfers import Message

if TYPE_CHECKING:
    from .calls import CallResult, Effect
    from .dispatch import Dispatch
    from .epoch import Epoch


def note_effects(dispatch: Dispatch, result: CallResult) -> None:
    """Note all that a call brought.

    Args:
        dispatch: The call.
        result: What came of it.
    """
    epoch = dispatch.epoch
    epoch.pending.void += result.void
    for effect in result.effects:
        _note(epoch, dispatch.slots[effect.index], effect)


def _note(epoch: Epoch, slot: int, effect: Effect) -> None:
    root, run, pending = epoch.roots[slot], epoch.runs[slot], epoch.pending
    assert run is not None
    if effect.kind == "send":
        message = Message(effect.id, effect.name, effect.to, epoch.times[root], effect.body.encode())
        pending.messages.append((root, message))
    elif effect.kind == "value":
        pending.values.append((root, effect.path, run, effect.name, effect.body))
    elif effect.place is not None:
        pending.written.append((root, effect.place))
    elif root in epoch.replies:
        pending.replies.append((root, effect.path, effect.body))
