"""The server behind the page: where it listens, how patient it is, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bloodcell.runtime.errors import BloodcellError

#: Connections at the same time; more are refused.
CONNECTIONS = 64
#: Seconds that a client may take for the head of a request, and that one which came may go on when the page is closed.
HEAD, LAST = 15.0, 3


class Patient(H11Protocol):
    """Closes a connection on which no head of a request comes to an end in `HEAD` seconds."""

    waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self.waiting = self.loop.call_later(HEAD, transport.close)

    def data_received(self, data: bytes) -> None:
        """Stop waiting where a head is complete, and begin again with the next one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self.waiting is None:
            self.waiting = self.loop.call_later(HEAD, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None


class Server(uvicorn.Server):
    """Ends in the ordinary way when it is interrupted or terminated: that is how a page is closed."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let what came be answered; interrupted again, let go of it."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        BloodcellError: The port is taken, or the host is none of this machine.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family)
    except PermissionError as error:
        raise BloodcellError(f"port={port} may not be used by this user; choose one above 1023") from error
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
            raise BloodcellError(f"host={host} is no address of this machine; use 127.0.0.1") from error
        raise BloodcellError(f"port={port} is taken on {host}; choose another, or port=0 for any free one") from error


def address_of(listening: socket.socket) -> str:
    """Return where a browser of this machine finds the page."""
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Say whether no other machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def server_of(app: Any) -> Server:
    """Return the server of an application, which speaks plain HTTP and says nothing on the terminal but faults."""
    return Server(
        uvicorn.Config(
            app,
            http=Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=LAST,
        )
    )


def run_until_stopped(app: Any, listening: socket.socket) -> None:
    """Serve until the process is interrupted or terminated."""
    server_of(app).run(sockets=[listening])
