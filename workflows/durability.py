"""When a write counts: as soon as the store has answered, on its disk, or at its replicas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from .errors import HeadraceError

Level: TypeAlias = Literal["fast", "fsync", "replicas"]

_TEXT: Final = re.compile(r"(fast|fsync|replicas)(?::([1-9]))?")


class UnknownDurability(HeadraceError):
    """A text that names no level.

    Attributes:
        text: What was written.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return (
            f"durability {self.text!r} is not known. Write one of {', '.join(get_args(Level))}; with more than one"
            " replica their number, as in replicas:2"
        )


class DurabilityUnchosen(HeadraceError):
    """Nobody has said which level is to hold, and the store can't do the one that loses nothing.

    Attributes:
        address: Host and port of the store.
        cause: Why it can't do `fsync`.
        cure: How it could.
    """

    def __init__(self, address: str, cause: str, cure: str) -> None:
        super().__init__(address, cause, cure)
        self.address = address
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return (
            f"say how durable it is to be (--durability): the store at {self.address} can't do fsync, as it is set up"
            f" now: {self.cause}. {self.cure} With --durability fast {Durability('fast').sentence}; with"
            f" --durability replicas {Durability('replicas').sentence}"
        )


@dataclass(frozen=True, slots=True)
class Durability:
    """What must have happened to a write before anything that follows from it may leave.

    State is exactly-once at every level. The level decides about what *leaves*: outputs, replies, and the
    `2xx` of the gateway.
    """

    level: Level = "fast"
    """`fast`: the store has applied it. `fsync`: it is on the store's disk. `replicas`: replicas have it."""
    replicas: int = 1
    """At level `replicas`: how many have acknowledged it. All that may be promoted, or a fail-over may lose it."""

    @classmethod
    def parse(cls, text: str) -> Durability:
        """A level as people write it: `fast`, `fsync`, `replicas`, `replicas:2`.

        Raises:
            UnknownDurability: It is none of them.

        Examples:
            >>> Durability.parse("replicas:2")
            Durability(level='replicas', replicas=2)
            >>> str(Durability.parse("fsync"))
            'fsync'
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None or (found[2] and found[1] != "replicas"):
            raise UnknownDurability(text)
        level: Level = found[1]  # type: ignore[assignment]  # the pattern names the levels
        return cls(level, int(found[2] or "1"))

    def __str__(self) -> str:
        return f"{self.level}:{self.replicas}" if self.level == "replicas" and self.replicas > 1 else self.level

    @property
    def waits(self) -> bool:
        """Whether a write has to be waited for once the store has answered."""
        return self.level != "fast"

    @property
    def sentence(self) -> str:
        """What holds, for people."""
        if self.level == "fast":
            return "outputs and answers leave at once; if the store loses its tail, those of its last second may differ"
        if self.level == "fsync":
            return "outputs and answers leave once they are on the store's disk"
        count = "a replica has them" if self.replicas == 1 else f"{self.replicas} replicas have them"
        return f"outputs and answers leave once {count}"


FAST: Final = Durability()
