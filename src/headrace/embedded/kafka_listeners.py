"""Further listeners of an embedded Apache Kafka that ask for TLS or credentials, beside the plain one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
_LOGINS: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One port, and what it asks for."""

    protocol: Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    mechanisms: Sequence[Mechanism] = ("PLAIN",)
    """For the SASL protocols. `OAUTHBEARER` takes unsigned tokens: for tests."""
    client_certificate: bool = False
    """Clients must show a certificate."""

    @property
    def name(self) -> str:
        """As Kafka's settings call it; it has no underscore there."""
        return self.protocol.replace("_", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Listeners that ask for something.

    Examples:
        >>> Security(listeners=[Listener(protocol="SASL_PLAINTEXT")], users={"alice": "secret"}).scram_users
        []
    """

    listeners: Sequence[Listener]
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name -> password."""
    certificate: Path | None = None
    """PEM file with the broker's key and certificates, for TLS."""
    authority: Path | None = None
    """PEM file with the authority of clients' certificates."""

    @property
    def scram_users(self) -> list[str]:
        """Credentials in the form that Kafka's storage tool takes, for each SCRAM mechanism that a listener has."""
        mechanisms = sorted({one for listener in self.listeners for one in listener.mechanisms if "SCRAM" in one})
        return [
            f"{mechanism}=[name={name},password={password}]"
            for mechanism in mechanisms
            for name, password in self.users.items()
        ]

    def settings(self) -> dict[str, str]:
        """Broker settings, without addresses."""
        found: dict[str, str] = {}
        for listener in self.listeners:
            prefix = f"listener.name.{listener.name.lower()}."
            if listener.protocol.endswith("SSL"):
                found |= {prefix + name: value for name, value in self._tls(listener).items()}
            if listener.protocol.startswith("SASL"):
                found |= {prefix + name: value for name, value in self._sasl(listener).items()}
        return found

    def _tls(self, listener: Listener) -> dict[str, str]:
        settings = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.certificate)}
        if listener.client_certificate:
            settings |= {"ssl.client.auth": "required", "ssl.truststore.type": "PEM"}
            settings["ssl.truststore.location"] = str(self.authority)
        return settings

    def _sasl(self, listener: Listener) -> dict[str, str]:
        settings = {"sasl.enabled.mechanisms": ",".join(listener.mechanisms)}
        for mechanism in listener.mechanisms:
            settings[f"{mechanism.lower()}.sasl.jaas.config"] = self._login(mechanism)
        return settings

    def _login(self, mechanism: Mechanism) -> str:
        if mechanism == "PLAIN":
            users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
            return f"{_LOGINS}.plain.PlainLoginModule required {users};"
        if mechanism == "OAUTHBEARER":
            return f'{_LOGINS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        return f"{_LOGINS}.scram.ScramLoginModule required;"
