"""Checks data by the JSON Schema that their source has published: every field that is wrong, not only the first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import jsonschema
import msgspec
from jsonschema import validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from headrace.gateway.problems import ProblemError
from headrace.gateway.quick import Look, quick_look
from headrace.workflows.store import SourceDescriptor

MOST: Final = 100
"""Errors that one answer lists."""
_LONGEST: Final = 300
"""Characters of one error."""
_LARGE: Final = 64 * 1024
"""Bytes of a body that is checked in a thread: others need not wait for it."""
_FORMATS: Final = {
    "date": date, "date-time": datetime, "decimal": Decimal, "duration": timedelta, "time": time, "uuid": UUID,
}  # fmt: skip


def _fits(data: Any, data_type: Any) -> bool:
    msgspec.convert(data, data_type)
    return True


def _formats() -> jsonschema.FormatChecker:
    """Formats as workers read them."""
    checker = jsonschema.FormatChecker(formats=())
    for name, data_type in _FORMATS.items():
        checker.checks(name, raises=msgspec.ValidationError)(
            lambda data, data_type=data_type: not isinstance(data, str) or _fits(data, data_type)
        )
    return checker


_extend: Any = validators.extend  # it has no types
_Strict: Final[Any] = _extend(
    jsonschema.Draft202012Validator,
    # JSON Schema takes 1.0 for an integer; a worker does not.
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, data: isinstance(data, int) and not isinstance(data, bool)
    ),
    format_checker=_formats(),
)


class FieldErrors:
    """Checks the data of one source; those of a source without a schema are all right.

    Args:
        source: As it is published.
    """

    def __init__(self, source: SourceDescriptor) -> None:
        self._validator: Validator | None = None
        self._look: Look | None = None
        if source.schema is not None:
            self._look = quick_look(source.schema)
            self._validator = _Strict(source.schema, format_checker=_Strict.FORMAT_CHECKER)

    def of(self, data: Any) -> list[dict[str, str]]:
        """What is wrong, each with its path (`$.order.items[2].price`); empty: nothing is.

        Raises:
            ProblemError: `too_deep`.
        """
        if self._validator is None or (self._look is not None and self._look(data)):
            return []
        found: list[dict[str, str]] = []
        try:
            for error in self._validator.iter_errors(data):
                found += [_row(each) for each in _leaves(error)]
                if len(found) >= MOST:
                    break
        except RecursionError as error:
            raise ProblemError("too_deep", "it has too many levels within each other to be checked") from error
        unique = {(row["path"], row["message"]): row for row in found}
        return sorted(unique.values(), key=lambda row: (row["path"], row["message"]))[:MOST]

    async def check(self, data: Any, size: int) -> None:
        """Make sure that data are as the source has them.

        Args:
            data: Decoded JSON.
            size: Bytes that they came in.

        Raises:
            ProblemError: `invalid_data`, with all errors; `too_deep`.
        """
        errors = self.of(data) if size < _LARGE else await asyncio.to_thread(self.of, data)
        if errors:
            raise invalid_data(errors)


def invalid_data(errors: list[dict[str, str]]) -> ProblemError:
    """The problem of data with these errors."""
    sentence = "; ".join(f"{row['path']}: {row['message']}" for row in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""  # noqa: PLR2004
    return ProblemError("invalid_data", sentence + more, extra={"errors": errors})


def _leaves(error: ValidationError) -> Iterable[ValidationError]:
    """What is wrong itself: of alternatives, in the one that comes nearest."""
    if not error.context:
        return (error,)
    branches: dict[Any, list[ValidationError]] = {}
    for each in error.context:
        branches.setdefault(each.schema_path[0], []).append(each)
    nearest = [rows for rows in branches.values() if not any(_is_another(row, error) for row in rows)]
    if len(nearest) != 1:
        return (error,)
    return [leaf for row in nearest[0] for leaf in _leaves(row)]


def _is_another(row: ValidationError, error: ValidationError) -> bool:
    """The data are not of this alternative at all: of another type, or with another one's tag."""
    depth = len(row.absolute_path) - len(error.absolute_path)
    return (depth == 0 and row.validator == "type") or (depth == 1 and row.validator in ("enum", "const"))


def _row(error: ValidationError) -> dict[str, str]:
    path = error.json_path
    if error.validator == "required" and isinstance(error.validator_value, list):
        missing = error.message.partition(" is a required property")[0].strip("'\"")
        return {"path": f"{path}.{missing}", "message": "is required", "code": "required"}
    message = error.message if len(error.message) <= _LONGEST else f"{error.message[:_LONGEST]}..."
    return {"path": path, "message": message, "code": str(error.validator)}
