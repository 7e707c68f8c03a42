"""What came of a node that a test has had executed out of line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.testing.problems import HarnessError
from headrace.workflows.envelope import RequestAnswer


@dataclass(frozen=True, slots=True)
class Executed:
    """What a node made of data that it was given out of line, as a caller of the gateway is told."""

    node: str
    """Its name."""
    returned: str
    """`nothing`, `data`, `action`, `complete`, `terminate`, or `list`, whose parts are told in the same way."""
    action: str
    """Name of the member."""
    data: Any
    """As JSON has it: what was returned, or the result or reason of an end."""
    reply: Any
    """What it has replied first; None: nothing."""
    committed: bool
    """States and effects are kept."""


class ExecutionFailed(HarnessError):
    """A node that was executed out of line has failed, or its run has ended.

    Attributes:
        node: Its name; "": it was none.
        reason: A stable word, as a dead letter has it.
    """

    def __init__(self, node: str, reason: str, error: str) -> None:
        super().__init__(f"{node or 'the run'}: {error}")
        self.node, self.reason, self.error = node, reason, error

    def __reduce__(self) -> tuple[type[ExecutionFailed], tuple[str, str, str]]:
        return ExecutionFailed, (self.node, self.reason, self.error)


def executed(answer: RequestAnswer | None) -> Executed:
    """From the answer to the request.

    Raises:
        ExecutionFailed: See there.
    """
    if answer is None:
        raise HarnessError("there is no answer: what is executed is answered with its commit")
    if answer.kind != "executed":
        raise ExecutionFailed(answer.node, answer.reason or answer.outcome, answer.error)
    said = answer.data
    return Executed(
        said["node"], said["returned"], said.get("action", ""), said.get("data"), said.get("reply"),
        said.get("committed", False),
    )  # fmt: skip
