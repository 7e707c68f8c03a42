"""Settings and secrets of a workflow, as its nodes read them: by name, read-only, and never in what is shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar, overload

import msgspec

from headrace.workflows.errors import HeadraceError

T = TypeVar("T")
Scalar: TypeAlias = str | int | float | bool
"""What a setting may be."""

HIDDEN: Final = "******"
_SHORTEST: Final = 4
"""Characters: a shorter secret would hide half of every text."""
_UNSET: Final[Any] = object()


class SettingMissing(HeadraceError, KeyError):
    """A node asks for a setting that nobody has given.

    Attributes:
        name: Its name.
        known: Names of those that there are.
    """

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(name)

    def __str__(self) -> str:
        there = f" There are: {', '.join(self.known)}." if self.known else ""
        return (
            f"there is no setting {self.name!r}.{there} Give it: --set {self.name}=VALUE, or under [settings] in"
            f" headrace.toml; a secret as env:NAME or file:/path. In a test: Harness(..., settings={{...}})"
        )

    def __reduce__(self) -> tuple[type[SettingMissing], tuple[str, tuple[str, ...]]]:
        return type(self), (self.name, self.known)


class SettingInvalid(HeadraceError):
    """A setting is not of the type that a node asks for; the text does not tell its value."""

    def __init__(self, name: str, wanted: str) -> None:
        self.name, self.wanted = name, wanted
        super().__init__(f"setting {name!r} is no {wanted}. Change it, or ask for another type")

    def __reduce__(self) -> tuple[type[SettingInvalid], tuple[str, str]]:
        return type(self), (self.name, self.wanted)


class Settings(Mapping[str, Scalar]):
    """A read-only mapping, `ctx.settings` and `self.settings` of a node.

    Its text form shows no secret, and what nodes raise or log is searched for them.

    Args:
        values: By name.
        secrets: Names of those that must never be shown.

    Examples:
        >>> settings = Settings({"limit": "30.5", "token": "hunter2"}, secrets={"token"})
        >>> settings.value("limit", float)
        30.5
        >>> settings.value("retries", int, default=3)
        3
        >>> settings
        Settings(limit='30.5', token='******')
        >>> settings.mask("refused: hunter2")
        'refused: ******'
    """

    __slots__ = ("_hidden", "_secrets", "_values")

    def __init__(self, values: Mapping[str, Scalar] | None = None, *, secrets: Collection[str] = ()) -> None:
        self._values = dict(values or {})
        self._secrets = frozenset(secrets) & self._values.keys()
        texts = {str(self._values[name]) for name in self._secrets}
        self._hidden = tuple(sorted((text for text in texts if len(text) >= _SHORTEST), key=len, reverse=True))

    def __getitem__(self, name: str) -> Scalar:
        try:
            return self._values[name]
        except KeyError:
            raise SettingMissing(name, self._values) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def value(self, name: str, type: type[T]) -> T: ...
    @overload
    def value(self, name: str, type: type[T], *, default: T) -> T: ...
    def value(self, name: str, type: type[T], *, default: T = _UNSET) -> T:
        """A setting as a certain type.

        Args:
            name: Its name.
            type: `str`, `int`, `float`, `bool`, an enum ... A text is converted: variables and files hold only text.
            default: Where nobody has given it.

        Raises:
            SettingMissing: It is not there, and there is no default.
            SettingInvalid: It can't be converted.
        """
        if name not in self._values and default is not _UNSET:
            return default
        value = self[name]
        try:
            return msgspec.convert(str(value) if type is str else value, type, strict=False)
        except msgspec.ValidationError:
            raise SettingInvalid(name, getattr(type, "__name__", str(type))) from None

    @property
    def hidden(self) -> tuple[str, ...]:
        """Secrets that `mask` looks for, the longest first."""
        return self._hidden

    def mask(self, text: str) -> str:
        """A text without the secrets that it holds."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return text

    def __repr__(self) -> str:
        shown = {name: HIDDEN if name in self._secrets else value for name, value in self._values.items()}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise HeadraceError("settings may hold secrets and are never pickled: read them in the process that needs them")


NO_SETTINGS: Final = Settings()
"""Of a workflow that has none."""


def give_settings(node: object, settings: Settings) -> None:
    """Put settings where a node finds them in `open`; one that has a `settings` of its own keeps it."""
    if getattr(type(node), "settings", None) is NO_SETTINGS and getattr(node, "settings", None) is NO_SETTINGS:
        object.__setattr__(node, "settings", settings)  # a frozen dataclass is a fine node, too
