"""What can go wrong with an embedded server."""

from __future__ import annotations

from headrace.workflows.errors import HeadraceError


class ServerError(HeadraceError):
    """Base of the errors of embedded servers.

    Attributes:
        server: Name of the server, such as `Valkey`.
    """

    def __init__(self, server: str, sentence: str) -> None:
        super().__init__(f"{server}: {sentence}")
        self.server = server


class ServerMissing(ServerError):
    """The server can't be had on this machine; the text says why and what to install.

    Attributes:
        reason: The same without the server's name.
    """

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.reason = reason


class ServerFailed(ServerError):
    """The server ended, or did not answer in time.

    Attributes:
        log: The last lines that the server wrote.
    """

    def __init__(self, server: str, sentence: str, log: str) -> None:
        super().__init__(server, f"{sentence}\n--- last lines of its log\n{log or '(it wrote nothing)'}")
        self.log = log
