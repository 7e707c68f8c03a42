"""Which runs are meant by what was typed."""

from __future__ import annotations

import time
from datetime import timedelta

from headrace.actors.run_views import RunFilter
from headrace.cli.times import length


def filter_of(
    *, status: str | None = None, key_prefix: str = "", older_than: str | None = None, ended_within: str | None = None
) -> RunFilter:
    """A filter by the options of the command; times are counted back from now, by this host's clock.

    Raises:
        UsageError: A length of time is none.
    """
    return RunFilter(
        status=status, key_prefix=key_prefix, began_before=_before(older_than), ended_after=_before(ended_within)
    )


def _before(text: str | None) -> int | None:
    return None if text is None else int(time.time() * 1000) - length(text) // timedelta(milliseconds=1)
