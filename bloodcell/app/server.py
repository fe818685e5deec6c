"""The server of the page: where it listens, its time limits, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bloodcell.app.security import HEADERS
from bloodcell.runtime.errors import BloodcellError

#: Connections at the same time; with one more, the slowest is closed.
CONNECTIONS = 64
#: Seconds for the head of a request, and for running requests to end when the page is closed.
HEAD_SECONDS, SHUTDOWN_SECONDS = 15.0, 3


class PatientServer(H11Protocol):
    """Closes a connection on which no whole request head arrives in `HEAD_SECONDS`, and the slowest if there are many.

    uvicorn has no such limit: its keep-alive timeout begins after the first answer and ends with the first byte. If
    there are too many connections it refuses the newest; here the one that has let the page wait longest is closed.
    """

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._expect_head_after(None)
        others: set[Any] = self.connections - {self}
        slow = [one for one in others if one.waits_for_client()] if len(others) >= CONNECTIONS else []
        if slow:
            slowest = min(slow, key=lambda one: one.since)
            self.connections.discard(slowest)
            slowest.transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        answered = self.cycle
        super().on_response_complete()
        self._expect_head_after(answered)

    def waits_for_client(self) -> bool:
        """Return whether it is the client's turn: to ask, to send the rest of a file, or to read its answer."""
        if self.cycle is None or self.cycle.response_complete:
            return True
        return bool(self.cycle.more_body or self.flow.write_paused)

    def _expect_head_after(self, answered: Any) -> None:
        def close_unless_asked() -> None:
            if self.cycle is answered:
                self.transport.abort()  # `close` would wait until the client has read all

        self.since = self.loop.time()
        self.loop.call_later(HEAD_SECONDS, close_unless_asked)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        BloodcellError: The port is taken, or the host is not an address of this machine.
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
    """Return the address of the page for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def server_of(app: Any) -> uvicorn.Server:
    """Return the server of an application; it speaks plain HTTP and prints nothing but errors."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientServer,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            headers=list(HEADERS.items()),
            server_header=False,
            proxy_headers=False,
            limit_concurrency=2 * CONNECTIONS,  # of those that wait for the page, which are never closed
            timeout_keep_alive=15,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


def run_until_stopped(app: Any, listening: socket.socket) -> None:
    """Serve until the process is interrupted or terminated, which is how a page is closed."""
    server, log = server_of(app), logging.getLogger("uvicorn.error")

    def before_the_end(record: logging.LogRecord) -> bool:
        return not server.should_exit  # then it cancels what still runs and reports that as errors

    log.addFilter(before_the_end)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends in order, and then raises the signal again
        server.run(sockets=[listening])
    log.removeFilter(before_the_end)
