"""Where the store is: one server, one that Sentinels know, or a cluster; how to get in; and what of it may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.credentials import CredentialProvider

from headrace.sources.references import ReferenceUnresolved, is_reference, resolve
from headrace.workflows.errors import HeadraceError

Kind: TypeAlias = Literal["single", "sentinel", "cluster"]
Host: TypeAlias = tuple[str, int]

_SCHEMES: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_MALFORMED: Final = "a part of it is malformed (a password needs / ? # @ as %2F %3F %23 %40)"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_TLS_OPTIONS: Final = ("ca", "cert", "key", "check_hostname")
_OPTIONS: Final = (*_TLS_OPTIONS, "username", "password", "sentinel_username", "sentinel_password", "db")


class StoreAddressError(HeadraceError):
    """An address of a store that is none. The message shows nothing of it that may be secret.

    Attributes:
        cause: What is wrong.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"the address of the store can't be used: {self.cause}. Write redis://HOST:6379/0 (rediss:// for TLS),"
            " redis+sentinel://HOST:26379,HOST:26379/SERVICE/0, redis+cluster://HOST:6379,HOST:6379, or env:NAME or"
            " file:/path where it lies"
        )


@dataclass(frozen=True, slots=True)
class Tls:
    """How the connection is encrypted. Paths of PEM files, read by the process that connects."""

    ca: str | None = None
    """Certificates of those who may have signed the server's; None: the system's."""
    cert: str | None = None
    """Our own certificate, if the server asks for one."""
    key: str | None = None
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class Login:
    """User and password. References are followed at each connection, as secrets are renewed in place."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return "Login(...)"

    @property
    def provider(self) -> CredentialProvider | None:
        """For the client; None: none are needed."""
        return None if self.username is None and self.password is None else _Credentials(self)


class _Credentials(CredentialProvider):
    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = resolve(self._login.password or "")
        return (resolve(self._login.username), password) if self._login.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A URL of the store, taken apart."""

    kind: Kind
    hosts: tuple[Host, ...]
    """The server; or the Sentinels; or some nodes of the cluster."""
    path: str = ""
    """Of a Unix socket."""
    service: str = ""
    """What Sentinels call the server."""
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: Tls | None = None

    @classmethod
    def parse(cls, url: str) -> StoreAddress:
        """Take an address apart.

        Args:
            url: See `StoreAddressError`; `env:NAME` or `file:/path` for where it lies. As options: `ca`, `cert`, `key`,
                `check_hostname=no` for TLS; `username`, `password`, `sentinel_username`, `sentinel_password`.

        Raises:
            StoreAddressError: It is none.
            ReferenceUnresolved: It lies where this process can't find it.
        """
        if is_reference(url):
            url = resolve(url)
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise StoreAddressError(f"it begins with none of {', '.join(f'{known}://' for known in _SCHEMES)}")
        kind, encrypted = _SCHEMES[scheme]
        try:
            parts = urlsplit(url)
        except ValueError:
            raise StoreAddressError(_MALFORMED) from None
        if "@" in parts.query or parts.fragment:
            raise StoreAddressError(_MALFORMED)  # the rest of a password, which must not be shown
        options = _options(parts.query, encrypted=encrypted)
        user, _, hosts = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        is_socket = scheme == "unix"
        service, database = _path(kind, "" if is_socket else parts.path, options.get("db", "0"))
        return cls(
            kind=kind,
            hosts=() if is_socket else tuple(_host(text, kind) for text in (hosts or "localhost").split(",")),
            path=unquote(parts.path) if is_socket else "",
            service=service,
            database=database,
            login=Login(
                options.get("username", unquote(name) or None), options.get("password", unquote(password) or None)
            ),
            sentinel_login=Login(options.get("sentinel_username"), options.get("sentinel_password")),
            tls=_tls(options) if encrypted else None,
        )

    @property
    def files(self) -> list[str]:
        """Those that whoever connects has to have: certificates and keys."""
        return [path for path in (self.tls.ca, self.tls.cert, self.tls.key) if path] if self.tls else []

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        if self.path:
            return f"unix:{self.path}"
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        if self.kind == "cluster":
            return f"cluster {hosts}"
        place = f"{self.service} of Sentinels {hosts}" if self.kind == "sentinel" else hosts
        return f"{place}/{self.database}"


def address_of(url: str) -> str:
    """The part of a URL that may be shown: without user and password; of a reference, the reference."""
    try:
        return StoreAddress.parse(url).shown
    except ReferenceUnresolved:
        return url
    except StoreAddressError:
        return "an address that can't be used"


def _options(query: str, *, encrypted: bool) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise StoreAddressError(f"it has an option {name!r}; there are {', '.join(_OPTIONS)}")
        if name in _TLS_OPTIONS and not encrypted:
            raise StoreAddressError(f"the option {name!r} is for encrypted connections (rediss://)")
    return options


def _tls(options: dict[str, str]) -> Tls:
    check = options.get("check_hostname", "yes")
    if check not in ("yes", "no"):
        raise StoreAddressError(f"check_hostname is yes or no, not {check!r}")
    if ("cert" in options) != ("key" in options):
        raise StoreAddressError("cert and key go together")
    return Tls(options.get("ca"), options.get("cert"), options.get("key"), check == "yes")


def _host(text: str, kind: Kind) -> Host:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_SENTINEL_PORT if kind == "sentinel" else _PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise StoreAddressError("a host is not written as HOST:PORT")
    return host, int(port)


def _path(kind: Kind, path: str, database: str) -> tuple[str, int]:
    """Name of the service, and number of the database."""
    names = [unquote(name) for name in path.split("/") if name]
    service = ""
    if kind == "sentinel":
        if not names:
            raise StoreAddressError("it does not say which service the Sentinels are to be asked for")
        service = names.pop(0)
    if kind == "cluster" and names:
        raise StoreAddressError("a cluster has no databases")
    if len(names) > 1:
        raise StoreAddressError("its path has too many parts")
    number = names[0] if names else database
    if not number.isdecimal():
        raise StoreAddressError("its database is no number")
    return service, int(number)
