"""Connects this process to a Ray cluster that exists; what is in the way is told within seconds, with a cure.

By itself Ray tries for 20 seconds with a wrong token, and for ever at an address where nobody listens.
So address, token, versions and whether this machine belongs to the cluster are looked at before.
"""

from __future__ import annotations

import importlib
import os
import platform
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import ray
import structlog
from ray.exceptions import AuthenticationError, RayError

from headrace.actors.spec import NAMESPACE
from headrace.workflows.errors import HeadraceError, ServerUnreachable

log = structlog.get_logger(__name__)

REACH_WITHIN: Final = 3.0
"""Seconds for a connection to the address."""
ANSWER_WITHIN: Final = 8.0
"""Seconds for the first answer."""
CLIENT: Final = "ray://"
_CLIENT_PORT: Final = 10001
_HEAD_PORT: Final = 6379
_TRIES: Final = {"client": 2, "head": 1}
_REASON: Final = 500
"""Characters of what Ray says."""
_TOKENS: Final = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_TOKEN_CURE: Final = (
    "Put the cluster's token into RAY_AUTH_TOKEN, its file's name into RAY_AUTH_TOKEN_PATH, or the token into"
    " ~/.ray/auth_token (on the head node: ray get-auth-token)."
)


class RayAddressInvalid(HeadraceError):
    """The text is no address of a Ray cluster."""

    def __init__(self, address: str) -> None:
        self.address = address
        cure = f"ray://HOST:{_CLIENT_PORT} (from anywhere), or HOST:{_HEAD_PORT} on a machine of the cluster"
        super().__init__(f"{address!r} is no address of a Ray cluster. Type {cure}")


class RayUnreachable(ServerUnreachable):
    """No Ray cluster can be used at an address.

    Attributes:
        address: As it was given.
        cause: What is in the way.
        cure: What to do.
    """

    def __init__(self, address: str, cause: str, cure: str) -> None:
        self.address, self.cause, self.cure = address, cause, cure
        super().__init__(f"The Ray cluster at {address} can't be used: {cause}. {cure}")

    def __reduce__(self) -> tuple[type[RayUnreachable], tuple[str, str, str]]:
        return type(self), (self.address, self.cause, self.cure)


class RayTokenRefused(RayUnreachable):
    """The cluster asks for a token, and has not taken ours (or there is none)."""


@dataclass(frozen=True, slots=True)
class RayAddress:
    """Where a Ray cluster is reached."""

    text: str
    host: str
    port: int
    kind: Literal["client", "head"]
    """By Ray's client (`ray://`), from anywhere; or by its head, from a machine of the cluster."""

    @classmethod
    def parse(cls, text: str) -> RayAddress:
        """`ray://host:10001` or `host:6379`.

        Raises:
            RayAddressInvalid: It is neither.
        """
        host, colon, port = text.removeprefix(CLIENT).rpartition(":")
        if not colon or not host or "/" in host or not port.isdecimal():
            raise RayAddressInvalid(text)
        return cls(text, host.strip("[]"), int(port), "client" if text.startswith(CLIENT) else "head")


@contextmanager
def connected(text: str) -> Iterator[None]:
    """This process as a driver of the cluster, while it is entered.

    Args:
        text: `ray://host:10001`, or `host:6379` on a machine of the cluster.

    Raises:
        RayAddressInvalid: It is no address.
        RayTokenRefused: The token is missing or wrong.
        RayUnreachable: Nobody answers, versions differ, or this machine is none of the cluster's.
    """
    address = RayAddress.parse(text)
    use_token_if_there_is_one()
    preflight(address)
    _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: RayAddress) -> None:
    """Connect. Now and then the client's server fails to start a process for us, after 30 seconds: then again."""
    for left in range(_TRIES[address.kind] - 1, -1, -1):
        try:
            ray.init(address=address.text, namespace=NAMESPACE, configure_logging=False, log_to_driver=False)
        except (OSError, RuntimeError, ValueError, RayError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if not left:
                raise RayUnreachable(address.text, reason[:_REASON], "See the logs of its head node.") from error
            log.warning("ray_not_connected", address=address.text, reason=reason[:_REASON])
        else:
            return


def use_token_if_there_is_one(environment: Mapping[str, str] = os.environ) -> None:
    """Send the token that this user has: Ray does so by itself only for clusters that it starts."""
    loader: Any = importlib.import_module("ray._raylet").AuthenticationTokenLoader.instance()
    if "RAY_AUTH_MODE" in environment or not loader.has_token(ignore_auth_mode=True):
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    config: Any = importlib.import_module("ray._raylet").Config
    config.initialize("")  # it was read when Ray was imported
    loader.reset_cache()


def preflight(address: RayAddress) -> None:
    """Look at what may be in the way of a connection; nothing is started.

    Raises:
        RayTokenRefused: The token is missing or wrong.
        RayUnreachable: See `connected`.
    """
    try:
        socket.create_connection((address.host, address.port), timeout=REACH_WITHIN).close()
    except OSError as error:
        cure = "Check the address, that the cluster runs, and that no firewall is between."
        raise RayUnreachable(address.text, f"nobody answers ({error})", cure) from error
    (_ask_client_server if address.kind == "client" else _ask_head)(address)


def _ask_head(address: RayAddress) -> None:
    answers: list[tuple[dict[str, str], bytes | None]] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            raylet: Any = importlib.import_module("ray._raylet")
            client = raylet.GcsClient(address=f"{address.host}:{address.port}")
            nodes = client.get_all_node_info(timeout=ANSWER_WITHIN).values()
            alive = {node.node_id.hex(): str(node.node_manager_address) for node in nodes if node.state == 0}
            answers.append((alive, client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster")))
        except (RayError, RuntimeError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=ask, name="headrace-preflight", daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN)
    if errors and isinstance(errors[0], AuthenticationError):
        raise RayTokenRefused(address.text, _refused(), _TOKEN_CURE) from errors[0]
    if not answers:
        cause = _first_line(errors[0]) if errors else f"no answer within {ANSWER_WITHIN:g} s"
        cure = (
            f"Is it the port of the head's GCS ({_HEAD_PORT})? The Ray client's is typed as ray://HOST:{_CLIENT_PORT}."
        )
        raise RayUnreachable(address.text, cause, cure)
    machines, metadata = answers[0]
    _refuse_other_versions(address, metadata)
    services: Any = importlib.import_module("ray._private.services")
    if not machines.keys() & set(services.find_node_ids()):  # as Ray itself looks for the one to join
        names = ", ".join(sorted(machines.values())[:5])
        cause = f"this machine is none of its {len(machines)} ({names})"
        cure = f"Type ray://{address.host}:{_CLIENT_PORT}, or run this on one of them."
        raise RayUnreachable(address.text, cause, cure)


def _refuse_other_versions(address: RayAddress, metadata: bytes | None) -> None:
    if metadata is None:
        return
    told = msgspec.json.decode(metadata)
    theirs = (told.get("ray_version", ""), told.get("python_version", "").rpartition(".")[0])
    ours = (ray.__version__, platform.python_version().rpartition(".")[0])
    if theirs != ours:
        cause = f"it has Ray {theirs[0]} on Python {theirs[1]}, this process Ray {ours[0]} on Python {ours[1]}"
        raise RayUnreachable(address.text, cause, "Use the same versions, best the cluster's own image.")


def _ask_client_server(address: RayAddress) -> None:
    try:
        grpc: Any = importlib.import_module("grpc")
    except ImportError:
        cure = 'Type: pip install "headrace[client]"'
        raise RayUnreachable(address.text, "Ray's client is not installed here", cure) from None
    loader: Any = importlib.import_module("ray._raylet").AuthenticationTokenLoader.instance()
    headers = tuple(loader.get_token_for_http_header().items()) if loader.has_token() else ()
    with grpc.insecure_channel(f"{address.host}:{address.port}") as channel:
        ask = channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")
        try:
            ask(b"", timeout=ANSWER_WITHIN, metadata=headers)
        except grpc.RpcError as error:
            code = error.code().name
            if code == "UNAUTHENTICATED":
                raise RayTokenRefused(address.text, _refused(), _TOKEN_CURE) from error
            if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"):
                cure = f"Is it the port of the Ray client ({_CLIENT_PORT})? The head's is typed as HOST:{_HEAD_PORT}."
                raise RayUnreachable(address.text, f"no Ray client answers ({code})", cure) from error


def _refused() -> str:
    has_one = any(os.environ.get(name) for name in _TOKENS) or os.environ.get("RAY_AUTH_MODE") == "token"
    return "it asks for a token, and refuses this one" if has_one else "it asks for a token, and there is none here"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
