"""Servers that come with the package, for `headrace dev`, demos and tests: no installation, no root, no containers.

Read in this order: `server` (what all of them can do), `valkey`, `tansu`, `kafka` (the three servers),
`maven` (where Apache Kafka's jars come from), `process` and `watchdog` (why no server outlives us),
`ports` and `probes` (small tools).
"""

from headrace.embedded.errors import ServerError, ServerFailed, ServerMissing
from headrace.embedded.kafka import ApacheKafka
from headrace.embedded.server import Server
from headrace.embedded.tansu import Tansu
from headrace.embedded.valkey import Valkey

__all__ = ["ApacheKafka", "Server", "ServerError", "ServerFailed", "ServerMissing", "Tansu", "Valkey"]
