"""How a workflow's keys lie in the store: a number, and what is said to a Headrace that does not know it.

`hr:{workflow}:format` is a JSON object. That it is one, with the fields of `KeyFormat`, holds for all formats, so that
each Headrace can tell of any other who wrote the keys.
"""

from __future__ import annotations

from typing import Final

import msgspec

from headrace.workflows.errors import HeadraceError

KEY_FORMAT: Final = 1
"""The format that this Headrace reads and writes. Keys that were written before there was a number are of format 1."""


class KeyFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the store says of a workflow's keys."""

    format: int = 1
    headrace: str = ""
    """Version of the Headrace that wrote it."""
    restoring: str = ""
    """Who is writing a backup back: until that is done, the keys are not all there."""


class KeyFormatUnknown(HeadraceError):
    """A workflow's keys lie in the store in a way that this Headrace does not know.

    Attributes:
        workflow: Its name.
        found: Number of the format.
        writer: Version of the Headrace that wrote them; empty: not known.
    """

    def __init__(self, workflow: str, found: int, writer: str) -> None:
        self.workflow, self.found, self.writer = workflow, found, writer
        by = f" They were written by Headrace {writer}." if writer else ""
        cure = (
            f"Use Headrace {writer} or newer." if writer else "Use the Headrace that has written them, or a newer one."
        )
        if found < KEY_FORMAT:
            cure = f"Use {f'Headrace {writer}' if writer else 'the Headrace that has written them'}."
        super().__init__(
            f"The keys of {workflow} are of format {found}; this Headrace knows format {KEY_FORMAT} only.{by} {cure}"
            " Nothing was changed."
        )

    def __reduce__(self) -> tuple[type[KeyFormatUnknown], tuple[str, int, str]]:
        return type(self), (self.workflow, self.found, self.writer)


class RestoreUnfinished(HeadraceError):
    """A backup of the workflow is being written into the store, or that was broken off: not all of it is there.

    Attributes:
        workflow: Its name.
        who: Host and process of who has begun it.
    """

    def __init__(self, workflow: str, who: str) -> None:
        self.workflow, self.who = workflow, who
        super().__init__(
            f"{workflow} is being restored by {who}. If that was broken off, type the same `headrace restore` again:"
            f" it begins anew. Or take out what is there: headrace workflows remove {workflow}"
        )

    def __reduce__(self) -> tuple[type[RestoreUnfinished], tuple[str, str]]:
        return type(self), (self.workflow, self.who)


def format_of(document: bytes | None) -> KeyFormat:
    """What lies in the store, read; None, from before there was a number, is format 1."""
    return KeyFormat() if document is None else msgspec.json.decode(document, type=KeyFormat)


def check_format(workflow: str, document: bytes | None) -> None:
    """Refuse keys that are not as this Headrace would read them.

    Args:
        workflow: Whose they are.
        document: What `hr:{workflow}:format` holds.

    Raises:
        KeyFormatUnknown: They are of another format.
        RestoreUnfinished: They are not all there.
    """
    found = format_of(document)
    if found.format != KEY_FORMAT:
        raise KeyFormatUnknown(workflow, found.format, found.headrace)
    if found.restoring:
        raise RestoreUnfinished(workflow, found.restoring)
