"""What stands between a browser and the page: who may ask, and what a browser may do with an answer.

A page on the loopback address is open to every site that its reader visits: such a site can post to it, and by a name
of its own that points to 127.0.0.1 (DNS rebinding) read from it. So a request has to name this machine as its host, and
a post has to come from the page itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing but the page's own files; pictures may be held in addresses.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Names of this machine itself.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: For so long, and up to so many bytes, what a refused client still sends is thrown away: else it may lose the answer.
LINGER_SECONDS, LINGER_BYTES = 10, 10**9


class Refusal(JSONResponse):
    """A refusal in one line, which reaches a client that is still sending.

    Args:
        status: Of HTTP.
        reason: The line.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__({"reason": reason}, status, {"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at once, and then let the client come to an end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left, more = LINGER_BYTES, True
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = message["type"] == "http.request" and message.get("more_body", False)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


class Guard:
    """Lets requests through that name this machine and, where they change anything, come from the page.

    Args:
        app: What answers them.
        host: Where the page listens.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.names = app, LOOPBACK | {host.lower(), *_own_names(host)}
        self.open = host.lower() not in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer: ASGIApp = self.app
        if not self._is_ours(host):
            answer = Refusal(400, "no page of that host name is here; use the address that bloodcell printed")
        elif scope["method"] not in ("GET", "HEAD") and not _from_page(headers, host):
            answer = Refusal(403, "only the page itself may send images")
        await answer(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        """Say whether a Host header names this machine; an address cannot be rebound, but it could be any of ours."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or (self.open and bool(ipaddress.ip_address(name)))
        except ValueError:
            return False


def _own_names(host: str) -> set[str]:
    """Return this machine's names where the page listens on all its addresses."""
    return {socket.gethostname().lower(), socket.getfqdn().lower()} if host in ("0.0.0.0", "::") else set()


def _from_page(headers: Headers, host: str) -> bool:
    """Say whether a request comes from the page of this host, or from no browser, which would say its origin."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and origin in (None, f"http://{host}", f"https://{host}")
