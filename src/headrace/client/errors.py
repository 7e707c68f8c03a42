"""What can go wrong between a client and a gateway: a problem document for each error, as a class where it pays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.workflows.errors import HeadraceError


class ClientError(HeadraceError):
    """Base of what a client raises."""


class GatewayUnreachable(ClientError):
    """No answer came, however often it was tried; what was sent may have arrived.

    Attributes:
        address: What was asked.
        reason: How the last attempt failed.
    """

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(f"no answer from {address}: {reason}")

    def __reduce__(self) -> tuple[type[GatewayUnreachable], tuple[str, str]]:
        return GatewayUnreachable, (self.address, self.reason)


class GatewayProblem(ClientError):
    """The gateway has answered with a problem document, or with an error that is none.

    Attributes:
        status: Of HTTP.
        document: All of the problem document.
        problem: Its stable `code`, to decide by: `invalid_data`, `inbox_full`; "" where there was none.
        detail: Its sentence about this occurrence.
        errors: For each field that is wrong a path and a message.
        run: Address of the run that it is about, if it is about one.
    """

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status, self.document = status, dict(document)
        self.problem = str(document.get("code", ""))
        self.detail = str(document.get("detail") or document.get("title") or "")
        self.errors: list[dict[str, Any]] = list(document.get("errors") or [])
        self.run: str | None = document.get("run")
        super().__init__(f"{self.problem or status}: {self.detail}" if self.detail else f"{self.problem or status}")

    def __reduce__(self) -> tuple[type[GatewayProblem], tuple[int, dict[str, Any]]]:
        return type(self), (self.status, self.document)


class UnknownRun(GatewayProblem):
    """There is no such run: it never began, or is forgotten already."""


class RunExists(GatewayProblem):
    """A run with this key is running."""


class RunEnded(GatewayProblem):
    """The run has ended, and takes no more."""


class RunNotCompleted(GatewayProblem):
    """The run has ended without a result.

    Attributes:
        run_status: How it ended: `terminated`, `timed out`, `source closed`, `deleted`.
        reason: What was given as the reason.
    """

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(status, document)
        self.run_status = str(document.get("run_status", ""))
        self.reason: Any = document.get("reason")


class RunNotEnded(ClientError):
    """What was waited for has not come in time; the run goes on.

    Attributes:
        address: Of the run.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"{address} has not ended in time; ask again, or wait longer")

    def __reduce__(self) -> tuple[type[RunNotEnded], tuple[str]]:
        return RunNotEnded, (self.address,)


class NotAnswered(ClientError):
    """What a node makes of it is not known in time; it goes on.

    Attributes:
        address: Of the node.
        idempotency_key: By which it was sent; sent again with it, it is answered by the same.
    """

    def __init__(self, address: str, idempotency_key: str) -> None:
        self.address, self.idempotency_key = address, idempotency_key
        super().__init__(f"{address} has not answered in time; ask again with idempotency_key={idempotency_key!r}")

    def __reduce__(self) -> tuple[type[NotAnswered], tuple[str, str]]:
        return NotAnswered, (self.address, self.idempotency_key)


_CLASSES: dict[str, type[GatewayProblem]] = {
    "unknown_run": UnknownRun,
    "run_exists": RunExists,
    "run_ended": RunEnded,
    "run_not_completed": RunNotCompleted,
}


def problem_of(status: int, document: Mapping[str, Any]) -> GatewayProblem:
    """The error that a problem document is.

    Examples:
        >>> error = problem_of(404, {"code": "unknown_run", "detail": "there is no run '7'"})
        >>> type(error).__name__, str(error)
        ('UnknownRun', "unknown_run: there is no run '7'")
    """
    return _CLASSES.get(str(document.get("code")), GatewayProblem)(status, document)
