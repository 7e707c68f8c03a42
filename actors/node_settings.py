"""Settings of a deployment, resolved in the process that runs the nodes: references become what they lead to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from headrace.settings.masking import sounds_secret
from headrace.sources.references import ReferenceUnresolved, is_reference, resolve
from headrace.workflows.errors import HeadraceError
from headrace.workflows.settings import NO_SETTINGS, Scalar, Settings

_CURE: Final = "It is read where the node runs: set it in the environment of the Ray cluster, or mount the file there."


class SettingUnresolved(HeadraceError):
    """A setting refers to a variable or file that this machine does not have."""

    def __init__(self, name: str, cause: str) -> None:
        self.name, self.cause = name, cause
        super().__init__(f"setting {name!r}: {cause}. {_CURE}")

    def __reduce__(self) -> tuple[type[SettingUnresolved], tuple[str, str]]:
        return type(self), (self.name, self.cause)


def settings_of(values: Mapping[str, Scalar], environment: Mapping[str, str] = os.environ) -> Settings:
    """What nodes of this process see; read once, at its start.

    Args:
        values: Of the deployment: values, and references (`env:NAME`, `file:/path`).
        environment: Where variables are looked up.

    Returns:
        The values. Secret are those that were referred to, and those whose name sounds so (`token`, `password`).

    Raises:
        SettingUnresolved: One refers to what is not there.
    """
    if not values:
        return NO_SETTINGS
    found: dict[str, Scalar] = {}
    secrets = set()
    for name, value in values.items():
        referred = isinstance(value, str) and is_reference(value)
        try:
            found[name] = resolve(str(value), environment) if referred else value
        except ReferenceUnresolved as error:
            raise SettingUnresolved(name, str(error)) from error
        if referred or sounds_secret(name):
            secrets.add(name)
    return Settings(found, secrets=secrets)
