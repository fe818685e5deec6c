"""Which requests the page answers, and what a browser may do with its answers.

A page on the loopback address is open to every website that its reader visits: such a site can post to it, and read
from it under a name of its own that points to 127.0.0.1 (DNS rebinding). So a request has to name this machine as its
host, and a post has to come from the page itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

#: Of every answer. The page may load nothing but its own files; pictures may be inside addresses.
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
#: How long the server still reads, and drops, what a refused client sends.
LINGER_SECONDS = 10


class Refusal(JSONResponse):
    """A refusal in one line, which reaches a client that is still sending.

    uvicorn closes the connection right after an answer; with unread bytes in it, the client may lose the answer.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__({"reason": reason}, status, {"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then read the rest of the request before the answer ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER_SECONDS):
                async for _ in Request(scope, receive).stream():
                    pass
        await send({"type": "http.response.body", "body": b""})


class Guard:
    """Refuses requests that do not name this machine, and posts that do not come from the page.

    starlette's TrustedHostMiddleware cannot allow all addresses but no foreign name, which a page for other machines
    needs, and it does not look at where a post comes from.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.names = app, LOOPBACK | {host.lower()}
        if host in ("0.0.0.0", "::"):
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self.open = host.lower() not in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request or refuse it."""
        if scope["type"] != "http":  # the page begins or ends
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        host, answer = headers.get("host", ""), self.app
        if not self._is_own(host):
            answer = Refusal(400, "no page of that host name is here; use the address that bloodcell printed")
        elif scope["method"] not in ("GET", "HEAD") and not _from_page(headers, host):
            answer = Refusal(403, "only the page itself may send images")
        return await answer(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        """Return whether a Host header names this machine; any address may, for an address cannot be rebound."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or (self.open and bool(ipaddress.ip_address(name)))
        except ValueError:
            return False


def _from_page(headers: Headers, host: str) -> bool:
    """Return whether a request comes from this page, or from a program that is no browser and sends no origin."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and origin in (None, f"http://{host}", f"https://{host}")
