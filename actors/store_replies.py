"""Answers to requests as a commit writes them: told of at once, or only once they are durable."""

from __future__ import annotations

import msgspec

from headrace.workflows.commit import Commit, Reply

Farewell = tuple[str, str, int] | tuple[()]
"""Channel or "", body, milliseconds to keep it; empty: there is none."""


def as_written(commit: Commit, *, silent: bool) -> tuple[list[Reply], Farewell]:
    """What the script of a commit gets.

    Args:
        commit: The commit.
        silent: Nobody is to be told by it, as the answers may not leave yet.
    """
    replies, farewell = commit.replies, commit.farewell
    if silent:
        replies = [Reply(reply.request, "", reply.body, reply.keep) for reply in replies]
    if farewell is None:
        return replies, ()
    return replies, ("" if silent else farewell.channel, farewell.body, farewell.keep)


def changed_of(commit: Commit) -> str:
    """What readers are told: JSON list of the keys of runs; "": nothing."""
    return msgspec.json.encode(commit.changed).decode() if commit.changed else ""
