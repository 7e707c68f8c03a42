"""Exit codes of the command, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from headrace.settings import SettingsError
from headrace.workflows.errors import HeadraceError, ServerUnreachable
from headrace.workflows.store import StoreUnavailable, StoreUnsuitable


class ExitCode(IntEnum):
    """What the command ends with."""

    OK = 0
    """Done; or stopped in order, by Ctrl-C, SIGTERM or `headrace stop`."""
    PROBLEMS = 1
    """The workflow has problems, or something failed."""
    USAGE = 2
    """The command was not understood, or lacks an option; the text says what to type."""
    UNREACHABLE = 3
    """A server can't be reached or used, or no such workflow is running."""
    INTERRUPTED = 130
    """Ctrl-C before the workflow was up, or a second Ctrl-C."""


class UsageError(HeadraceError):
    """The command lacks something; the sentence says what to type."""


class NothingRuns(HeadraceError):
    """No such workflow is running."""


class Interrupted(HeadraceError):
    """Ctrl-C before the workflow was up."""

    def __init__(self) -> None:
        super().__init__("Interrupted before the workflow was up.")


def exit_code_of(error: HeadraceError) -> ExitCode:
    """The exit code for an error that ended a verb."""
    from headrace.embedded.errors import ServerError  # noqa: PLC0415  its package loads clients of servers

    match error:
        case UsageError() | SettingsError():
            return ExitCode.USAGE
        case Interrupted():
            return ExitCode.INTERRUPTED
        case StoreUnavailable() | StoreUnsuitable() | ServerError() | ServerUnreachable() | NothingRuns():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.PROBLEMS
