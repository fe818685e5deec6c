"""What answers the page: its own files, a verdict on each image that it sends, and the count of all its fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bloodcell.app.classifier_summary import short
from bloodcell.app.examiner import Examiner
from bloodcell.app.running_count import RunningCount
from bloodcell.app.security import Guard, Refusal
from bloodcell.data.image_limits import ImageError
from bloodcell.data.time_limit import SECONDS, too_slow
from bloodcell.evaluation.differentials.slide_counts import REASONS
from bloodcell.metrics.confusions import MOST
from bloodcell.runtime.colours import COLOURS, letters_on
from bloodcell.runtime.html import render

#: The page's files: address -> where it is in the package, and what it is. No other file is served.
FILES = {
    "/page.css": ("runtime/templates/page.css", "text/css"),
    "/app.css": ("app/static/app.css", "text/css"),
    **{
        f"/{name}.js": (f"app/static/{name}.js", "text/javascript")
        for name in ("app", "count", "field", "parts", "shares")
    },
    "/icon.svg": ("app/static/icon.svg", "image/svg+xml"),
}
#: Files of the largest size that uploads may hold in memory together; a slow one holds only what has arrived.
AT_ONCE = 4
#: Seconds that a client may pause within a file, and that a file may take.
SILENCE, WHOLE = 10.0, 30.0


class Uploads:
    """Takes images one by one and answers each with its prediction; nothing is stored.

    Args:
        examiner: What predicts.
        most: Largest size of a file, bytes.
    """

    def __init__(self, examiner: Examiner, most: int) -> None:
        self.examiner, self.most = examiner, most
        self.held = 0  # bytes
        # one thread: torch takes all cores by itself, and so no more than one decoded picture is in memory
        self.thread, self.turn = ThreadPoolExecutor(1, "examiner"), asyncio.Lock()

    async def post(self, request: Request) -> Response:
        """Answer POST /examine?name=NAME, whose body is the file."""
        if int(request.headers.get("content-length", 0)) > self.most:
            return self._too_large()
        name, content = request.query_params.get("name", "image"), bytearray()
        try:
            async with asyncio.timeout(WHOLE):
                refused = await self._receive(request, content)
            return refused or await self._examined(name, bytes(content))
        except TimeoutError:
            return Refusal(408, f"the file did not arrive within {WHOLE:g} seconds, or stopped; send it again")
        except ClientDisconnect:
            return Response(status_code=400)  # to no one
        finally:
            self.held -= len(content)

    async def _receive(self, request: Request, content: bytearray) -> Refusal | None:
        """Add what is sent to the content; refuse it as soon as it is too large, whatever its header promised."""
        chunks = request.stream()
        while chunk := await asyncio.wait_for(anext(chunks, b""), SILENCE):
            if len(content) + len(chunk) > self.most:
                return self._too_large()
            if self.held + len(chunk) > AT_ONCE * self.most:
                return Refusal(503, "too many files are arriving at the same time; send it again")
            content += chunk
            self.held += len(chunk)
        return None

    async def _examined(self, name: str, content: bytes) -> Response:
        async with self.turn:
            work = asyncio.wrap_future(self.thread.submit(self.examiner.examine, name, content))
            while not (await asyncio.wait({work}, timeout=1))[0]:
                if slow := too_slow():
                    self.thread.shutdown(wait=False)  # it cannot be stopped, and the page goes on in another one
                    self.thread = ThreadPoolExecutor(1, "examiner")
                    what = slow.rpartition(": ")[2]
                    return JSONResponse({"reason": f"{what} takes longer than {SECONDS:g} seconds"}, 422)
        try:
            return JSONResponse(await work)
        except ImageError as error:
            return JSONResponse({"reason": str(error)}, 422)

    def _too_large(self) -> Refusal:
        return Refusal(413, f"larger than {self.most / 1e6:g} MB, the limit (max_megabytes)")


def application(examiner: Examiner, values: dict[str, Any], most: int, host: str) -> Starlette:
    """Return the page and what answers it.

    Args:
        examiner: Judges the images.
        values: What the page says of the classifier; see `bloodcell.app.classifier_summary.about`.
        most: Bytes of a file.
        host: Where it is going to listen.
    """
    limits = {"least": short(examiner.threshold), "most": most, "most_classes": MOST}
    headers = {"header": examiner.header, "cell_header": examiner.cell_header}
    values = {**headers, **limits, "colours": [[one, letters_on(one)] for one in COLOURS], "reasons": REASONS, **values}
    held = {"/": (render("bloodcell.app", "app.html", **values).encode(), "text/html")}
    for address, (place, kind) in FILES.items():
        held[address] = (files("bloodcell").joinpath(place).read_bytes(), kind)

    async def get(request: Request) -> Response:
        content, kind = held[request.url.path]
        return Response(content, media_type=kind)

    routes = [Route(address, get) for address in held]
    uploads, running = Uploads(examiner, most), RunningCount(examiner.fields, examiner.threshold)
    routes.append(Route("/examine", uploads.post, methods=["POST"]))
    routes.append(Route("/differential", running.post, methods=["POST"]))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        uploads.thread.shutdown(wait=False, cancel_futures=True)

    app = Starlette(routes=routes, middleware=[Middleware(Guard, host=host)], lifespan=lifespan)
    app.router.redirect_slashes = False
    return app
