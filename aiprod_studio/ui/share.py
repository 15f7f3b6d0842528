"""Sharing: where visitors find the studio, the password, and how both are told."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from urllib.parse import quote, urlsplit

import segno

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.ui.guard import OWN_HOSTS, Hosts, is_address
from aiprod_studio.ui.porch import HOST, PORTS_TRIED
from aiprod_studio.ui.texts import Texts

log = logging.getLogger(__name__)

SHARED_TABS = frozenset({"create", "library"})
"""The tabs that visitors see; what shows or changes the machine is not among them."""

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, GROUP_LETTERS = 3, 5


@dataclass(frozen=True)
class Secret:
    """A password as a person types it; `user` is empty for one that the studio made up."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Sharing:
    """How the studio is shared: on the address `host`, or by a tunnel where that is None.

    `auth` is "user:password"; without it a password is made up. Raises `BadRequest` when it is
    something else.
    """

    host: str | None = None
    auth: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no name and password."""
        if self.auth is not None and not all(self.auth.partition(":")):
            raise BadRequest("--auth takes a name and a password: --auth anna:secret.")

    @property
    def bound(self) -> str:
        """The address to bind, IPv6 in brackets; what a tunnel brings comes from this machine."""
        host = (self.host or HOST).strip("[]")
        return f"[{host}]" if ":" in host else host

    @property
    def everywhere(self) -> bool:
        """Whether all addresses of this machine are bound."""
        host = self.bound.strip("[]")
        return is_address(host) and ipaddress.ip_address(host).is_unspecified

    def secret(self) -> Secret:
        """Return the name and the password."""
        if self.auth is not None:
            user, _, password = self.auth.partition(":")
            return Secret(user, password)
        letters = [secrets.choice(LETTERS) for _ in range(GROUPS * GROUP_LETTERS)]
        groups = ("".join(letters[n::GROUPS]) for n in range(GROUPS))
        return Secret("", "-".join(groups))

    def hosts(self) -> Hosts:
        """Return the names under which the visitors' page may be asked."""
        name = self.bound.strip("[]").lower()
        if not self.everywhere:
            return Hosts({name, *OWN_HOSTS} if name in OWN_HOSTS else {name})
        own = socket.gethostname().lower()
        return Hosts({*OWN_HOSTS, own, f"{own}.local"}, addresses=True)

    def free_port(self, first: int) -> int:
        """Return the first free port from `first` on; raises `StudioError`."""
        host, last = self.bound.strip("[]"), "no port is free"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for port in range(first, min(first + PORTS_TRIED, 2**16)):
            with socket.socket(family) as trial:
                try:
                    trial.bind((host, port))
                except OSError as error:
                    last = error.strerror or str(error)
                else:
                    return port
        raise StudioError(
            f"The studio cannot be shared on {host} ({last}). Give an address of this machine, or "
            "--host 0.0.0.0 for all of them."
        )

    def address(self, port: int, hosts: Hosts) -> str:
        """Return the address of the visitors' page, which is served on `port`.

        A tunnel is opened here, and its name added to `hosts`; raises `StudioError` when it cannot
        be had.
        """
        if self.host is None:
            return _open_tunnel(port, hosts)
        name = _own_address() if self.everywhere else self.bound
        return f"http://{name}:{port}/"


def _open_tunnel(port: int, hosts: Hosts) -> str:
    # Whether the command line is right is known before Gradio is there.
    from gradio.networking import setup_tunnel

    try:
        address: str = setup_tunnel(HOST, port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # it fails in many ways, and none of them is ours
        log.warning("no shared link", exc_info=error)
        raise StudioError(
            "There is no shared link to be had: the tunnel needs the internet, and a small program "
            "that Gradio downloads for it. Check the connection, or share on your own network with "
            "--host 0.0.0.0."
        ) from error
    hosts.names.add(urlsplit(address).hostname or "")
    return address.rstrip("/") + "/"


def _own_address() -> str:
    """Return the address by which the local network knows this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            # Nothing is sent: connecting a datagram socket only chooses the way out. The address
            # is one that is kept for documentation.
            trial.connect(("192.0.2.1", 9))
            return str(trial.getsockname()[0])
        except OSError:
            return socket.gethostname()


def announce(address: str, secret: Secret, say: Texts) -> Iterator[str]:
    """Yield the lines that tell the owner what to pass on; a password of theirs is not repeated."""
    yield say("share.open", address=address)
    link = address
    if not secret.user:
        yield say("share.password", password=secret.password)
        link = f"{address}#{quote(secret.password)}"
    yield say("share.scan")
    drawn = StringIO()
    segno.make(link, micro=False).terminal(drawn, border=2, compact=True)
    yield drawn.getvalue()
