"""Parameters that several routes have, each described in one place."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path, Query

Name: TypeAlias = Annotated[str, Path(alias="workflow", description="Name of the workflow.", examples=["orders"])]
Key: TypeAlias = Annotated[
    str,
    Path(
        alias="key",
        description="Of the run. Keys with characters outside `A-Z a-z 0-9 . _ ~ -` are written as `~` and base64url.",
        examples=["4711"],
    ),
]
Limit: TypeAlias = Annotated[int, Query(description="How many at most.", ge=1, le=1000)]
Cursor: TypeAlias = Annotated[
    str, Query(description="Go on where a page has ended: its `cursor`.", max_length=200, examples=["1024.3"])
]
