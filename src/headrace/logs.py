"""Where log lines go and what they look like: for people on a terminal, else one JSON object a line.

Each line has the fixed keys `time`, `level`, `event`, `logger`, then whatever belongs to the event. What
libraries write by Python's own `logging` arrives as the event `library`, with its words under `text`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, MutableMapping
from typing import Any, Final, cast, get_args

import msgspec
import structlog

from headrace.settings.model import Format, Level

LEVEL: Final = "HEADRACE_LOG_LEVEL"
FORMAT: Final = "HEADRACE_LOG_FORMAT"
FIXED_KEYS: Final = ("time", "level", "event", "logger")
_QUIET_LIBRARIES: Final = ("aiokafka", "kafka")
"""They log an error with each attempt to connect; Headrace names the problem once, and when it is over."""


class _Lines:
    """Writes finished lines to standard error, as it is at that moment: a live display redirects it."""

    def __init__(self, *names: str) -> None:
        self.name = names[0] if names else ""

    def msg(self, line: str) -> None:
        """Write one line."""
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = warn = error = critical = exception = fatal = msg


class _ToStructlog(logging.Handler):
    """Brings what libraries log into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:  # a library's mistake in its own log call
            text = f"{record.msg} ({error})"
        log = structlog.get_logger(record.name)
        log.log(min(record.levelno, logging.CRITICAL), "library", text=text, exc_info=record.exc_info or None)


def configure_logs(level: Level = "info", form: Format = "auto") -> None:
    """Set up the logs of this process.

    Args:
        level: Events below it are left out.
        form: `auto`: for people where standard error is a terminal, else JSON.
    """
    threshold = getattr(logging, level.upper())
    for_people = form == "console" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_logger,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            *(_people() if for_people else _machines()),
            _without_secrets,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ToStructlog)]:
        root.removeHandler(handler)
    root.addHandler(_ToStructlog())
    root.setLevel(max(threshold, logging.WARNING))
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)


def configure_logs_by_environment() -> None:
    """As `configure_logs`, for processes that nobody types options for: `HEADRACE_LOG_LEVEL`, `HEADRACE_LOG_FORMAT`."""
    level, form = os.environ.get(LEVEL, "info"), os.environ.get(FORMAT, "auto")
    configure_logs(
        cast("Level", level) if level in get_args(Level) else "info",
        cast("Format", form) if form in get_args(Format) else "auto",
    )


class _Secrets:
    """What must not appear in the lines of this process."""

    def __init__(self) -> None:
        self.texts: tuple[str, ...] = ()


_secrets: Final = _Secrets()


def hide_in_logs(secrets: Collection[str]) -> None:
    """Have these texts replaced in every line from now on: in exceptions, of libraries, by `ctx.log`."""
    written = {text for secret in secrets for text in (secret, msgspec.json.encode(secret).decode()[1:-1])}
    _secrets.texts = tuple(sorted(written, key=len, reverse=True))


def _without_secrets(_: Any, __: str, line: Any) -> Any:
    for secret in _secrets.texts:
        line = line.replace(secret, "******")
    return line


def _people() -> list[Any]:
    # Without local variables, which structlog shows by itself: they may be anybody's keys, tokens and data.
    colours = sys.stderr.isatty()
    tracebacks: structlog.types.ExceptionRenderer = structlog.dev.plain_traceback
    if colours:
        tracebacks = structlog.dev.RichTracebackFormatter(show_locals=False)
    return [structlog.dev.ConsoleRenderer(timestamp_key="time", colors=colours, exception_formatter=tracebacks)]


def _machines() -> list[Any]:
    return [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(serializer=_json)]


def _add_logger(logger: Any, _: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line["logger"] = getattr(logger, "name", "")
    return line


def _in_order(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: line.pop(key, "") for key in FIXED_KEYS} | dict(line)


def _json(line: Any, **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()
