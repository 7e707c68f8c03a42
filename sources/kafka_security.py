"""From options of a Kafka cluster, all of them strings, to what aiokafka's clients take: TLS contexts, credentials.

Nothing here is kept: options are resolved when a client is made, in the process that uses it, so a secret that was
changed in its file counts from the next connection on.
"""

from __future__ import annotations

import importlib
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aiokafka.abc import AbstractTokenProvider
from aiokafka.protocol.admin import SaslAuthenticateRequest

from headrace.sources.references import ReferenceUnresolved, is_reference, resolve
from headrace.workflows.errors import HeadraceError

T = TypeVar("T")

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_SECRETS: Final = ("sasl_plain_password", "ssl_password")
_TLS: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_check_hostname")
_SASL: Final = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "sasl_oauth_token_provider")
OPTIONS: Final = ("bootstrap_servers", "security_protocol", *_TLS, *_SASL, "group_id")
"""All that a cluster may be given."""
_BOOLEANS: Final = {"true": True, "false": False}


class KafkaOptionError(HeadraceError):
    """An option of a Kafka cluster can't be used.

    Attributes:
        option: Its name.
        reason: What is wrong, and what to write instead. Never has the value of a secret.
    """

    def __init__(self, option: str, reason: str) -> None:
        self.option = option
        self.reason = reason
        super().__init__(f"Kafka's option {option}: {reason}")

    def __reduce__(self) -> tuple[type[KafkaOptionError], tuple[str, str]]:
        return KafkaOptionError, (self.option, self.reason)


def check_options(options: Mapping[str, str]) -> None:
    """Find what is wrong with options without resolving a reference or opening a file.

    Raises:
        KafkaOptionError: For the first that is.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise KafkaOptionError(name, f"is not known. There are {', '.join(OPTIONS)}")
        if not isinstance(value, str):
            raise KafkaOptionError(name, f"is no text but {type(value).__name__}. Write it in quotes")
        if name in _SECRETS and not is_reference(value):
            raise KafkaOptionError(
                name, "is a secret that is written out. Write where it lies instead: env:NAME or file:/path"
            )
    protocol = _choice(options, "security_protocol", PROTOCOLS)
    _choice(options, "ssl_check_hostname", tuple(_BOOLEANS))
    for name in _TLS:
        if name in options and not protocol.endswith("SSL"):
            raise KafkaOptionError(name, "needs security_protocol SSL or SASL_SSL")
    for name in _SASL:
        if name in options and not protocol.startswith("SASL"):
            raise KafkaOptionError(name, "needs security_protocol SASL_SSL or SASL_PLAINTEXT")
    if protocol.startswith("SASL"):
        _check_sasl(options)


def _check_sasl(options: Mapping[str, str]) -> None:
    mechanism = _choice(options, "sasl_mechanism", MECHANISMS)
    needed = ["sasl_oauth_token_provider"] if mechanism == "OAUTHBEARER" else ["sasl_plain_username", _SECRETS[0]]
    for name in needed:
        if not options.get(name):
            raise KafkaOptionError(name, f"is needed for the SASL mechanism {mechanism}")


def _choice(options: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = options.get(name, choices[0])
    if value not in choices:
        raise KafkaOptionError(name, f"{value!r} is none of {', '.join(choices)}")
    return value


def client_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """What an aiokafka client is to be given besides addresses; references are resolved, files are read.

    Raises:
        KafkaOptionError: An option can't be used here: a file or variable is missing, a key does not fit.
    """
    check_options(options)
    resolved: dict[str, str] = {}
    for name, value in options.items():
        try:
            resolved[name] = resolve(value)
        except ReferenceUnresolved as error:
            raise KafkaOptionError(name, str(error)) from None
    protocol = _choice(resolved, "security_protocol", PROTOCOLS)
    arguments: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        arguments["ssl_context"] = _tls(resolved)
    if protocol.startswith("SASL"):
        _hide_credentials()
        arguments |= {name: resolved[name] for name in ("sasl_plain_username", *_SECRETS[:1]) if name in resolved}
        arguments["sasl_mechanism"] = _choice(resolved, "sasl_mechanism", MECHANISMS)
        if arguments["sasl_mechanism"] == "OAUTHBEARER":
            arguments["sasl_oauth_token_provider"] = _token_provider(resolved["sasl_oauth_token_provider"])
    return arguments


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    context = _usable("ssl_cafile", options, lambda: ssl.create_default_context(cafile=options.get("ssl_cafile")))
    context.check_hostname = _BOOLEANS[_choice(options, "ssl_check_hostname", tuple(_BOOLEANS))]
    if "ssl_certfile" in options:
        # With no password at all OpenSSL would ask for one on the terminal.
        password = options.get("ssl_password", "")
        _usable(
            "ssl_certfile", options,
            lambda: context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), password),
        )  # fmt: skip
    elif "ssl_keyfile" in options:
        raise KafkaOptionError("ssl_keyfile", "needs ssl_certfile: the certificate that belongs to the key")
    return context


def _usable(name: str, options: Mapping[str, str], make: Callable[[], T]) -> T:
    try:
        return make()
    except (OSError, ValueError) as error:  # missing or unreadable; not PEM, key of another certificate, wrong password
        files = " and ".join(options[key] for key in (name, "ssl_keyfile") if key in options and key != "ssl_cafile")
        where = options.get("ssl_cafile", "the system's") if name == "ssl_cafile" else files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise KafkaOptionError(name, f"{where} can't be used ({reason})") from None


def _token_provider(place: str) -> AbstractTokenProvider:
    """A provider, or what a function without arguments makes of it, at `module:name`."""
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise KafkaOptionError("sasl_oauth_token_provider", f"{place!r} can't be imported ({error})") from error
    provider = found if isinstance(found, AbstractTokenProvider) else found()
    if not isinstance(provider, AbstractTokenProvider):
        raise KafkaOptionError("sasl_oauth_token_provider", f"{place!r} gives no aiokafka.abc.AbstractTokenProvider")
    return provider


def _hide_credentials() -> None:
    """The client logs each request at level debug, also the one with the password."""
    logger = logging.getLogger("aiokafka.conn")
    if _has_no_credentials not in logger.filters:
        logger.addFilter(_has_no_credentials)


def _has_no_credentials(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(getattr(argument, "API_KEY", None) == SaslAuthenticateRequest.API_KEY for argument in arguments)
