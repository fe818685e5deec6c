"""What answers the page of a folder: cells and their pictures go out, decisions come in."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from bloodcell.app.review import lightbox, sheet_answer
from bloodcell.app.review.desk import Desk, Sheet
from bloodcell.app.review.learning import Learning
from bloodcell.app.security import Guard, Refusal
from bloodcell.data.confirmed_cells import is_class
from bloodcell.data.corrections import CANNOT_TELL, NO_CELL, is_utc
from bloodcell.data.image_limits import ImageError
from bloodcell.evaluation.reviews.review import next_rows
from bloodcell.inference.engine import Engine
from bloodcell.models.gradcam import NoMapError
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.html import render

#: The page's files: address -> where it is in the package, and what it is. No other file is served.
SCRIPTS = ("review", "grid", "pictures", "lightbox", "learn", "parts", "shares")
FILES = {
    "/page.css": ("runtime/templates/page.css", "text/css"),
    "/app.css": ("app/static/app.css", "text/css"),
    "/review.css": ("app/static/review.css", "text/css"),
    **{f"/{name}.js": (f"app/static/{name}.js", "text/javascript") for name in SCRIPTS},
    "/icon.svg": ("app/static/icon.svg", "image/svg+xml"),
}
#: Bytes of a request, seconds that it may take, and decisions in it.
BYTES, SECONDS, MOST = 100_000, 10.0, 2000
#: Small pictures of one answer.
VIEWS = 200
#: Labels that a classifier needs to learn from.
FEW = 10
Answer = Callable[[Request, Sheet], Awaitable[Response]]


class Review:
    """Answers the requests of the page.

    Args:
        desk: The cells and the decisions.
        learning: The adaptation.
        load: Loads the classifier of a run folder.
        blind: The page shows nothing that the classifier or other readers say.
        checkpoint: The reader that an adaptation starts from; '': there are several, or it is no run folder.
    """

    def __init__(
        self, desk: Desk, learning: Learning, load: Callable[[Path], list[Engine]], blind: bool, checkpoint: str
    ) -> None:
        self.desk, self.learning, self.load, self.blind, self.checkpoint = desk, learning, load, blind, checkpoint
        self.thread = ThreadPoolExecutor(1, "looker")  # torch takes all cores by itself

    def routes(self) -> list[Route]:
        """Return all addresses but those of the page's files."""
        seen = {"cells": self.cells, "labels": self.labels, "views": self.views}
        told = {
            "corrections.csv": self.corrections,
            "next": self.next,
            "count": self.count,
            "agreement": self.agreement,
        }
        closely = {"cell/{row:int}": self.cell, "near/{row:int}": self.near, "map/{row:int}.jpg": self.map}
        pictures = {"field/{row:int}.jpg": self.field, "part/{row:int}.jpg": self.part}
        found = [Route("/review/state", self.state)]
        found += [Route(f"/review/{name}", self._with_sheet(one)) for name, one in (seen | pictures).items()]
        told |= closely | {"example/{row:int}.jpg": self.example}
        found += [Route(f"/review/{name}", self._with_sheet(one, told=True)) for name, one in told.items()]
        found.append(Route("/review/decide", self._with_sheet(self.decide), methods=["POST"]))
        found.append(Route("/review/learn", self._with_sheet(self.learn, told=True), methods=["POST"]))
        return found

    def _with_sheet(self, answer: Answer, told: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Answer when the cells are judged, and turn a user's error into its line; `told` is not for a blind reader."""

        async def answered(request: Request) -> Response:
            sheet = self.desk.sheet
            if sheet is None:
                return Refusal(503, "the cells are being judged")
            if told and self.blind:
                return Refusal(403, "a blind reader does not see what the classifier or others say")
            row = request.path_params.get("row", 0)
            if answer != self.example and not 0 <= row < max(len(sheet.cells.ids), 1):
                return Refusal(404, "there is no such cell")
            try:
                if told or answer == self.labels:
                    await asyncio.to_thread(self.desk.refresh, sheet)
                return await answer(request, sheet)
            except (BloodcellError, ImageError) as error:
                return JSONResponse({"reason": str(error)}, 422)
            except ClientDisconnect:
                return Response(status_code=400)  # to no one

        return answered

    async def state(self, _: Request) -> Response:
        """Answer what goes on."""
        try:
            now = await asyncio.to_thread(self.desk.state)
        except BloodcellError as error:
            return JSONResponse({"reason": str(error)}, 422)
        return JSONResponse(now | {"learning": self.learning.state()})

    async def cells(self, _: Request, sheet: Sheet) -> Response:
        """Answer the columns of all cells."""
        return JSONResponse(await asyncio.to_thread(sheet_answer.columns_of, sheet, self.desk.slides, self.blind))

    async def labels(self, _: Request, sheet: Sheet) -> Response:
        """Answer the labels of all cells."""
        return JSONResponse(sheet_answer.labels_of(sheet, self.blind))

    async def corrections(self, _: Request, __: Sheet) -> Response:
        """Answer the corrections file."""
        if not self.desk.file.is_file():
            raise BloodcellError("there is no correction yet")
        return FileResponse(self.desk.file, media_type="text/csv", filename="corrections.csv")

    async def decide(self, request: Request, sheet: Sheet) -> Response:
        """Keep decisions: JSON with the digest of the cells, when, and decided, a list of row and label."""
        content = await _content(request)
        if content.get("digest") != sheet.cells.digest:
            return JSONResponse({"reason": "the cells have changed; the page loads them anew", "changed": True}, 409)
        decided = self._checked(content, sheet)

        def keep() -> dict[str, Any]:
            with self.desk.turn:
                sheet.decisions.decide(decided, content["when"])
                return sheet_answer.labels_of(sheet, self.blind) if content.get("all") else {}

        return JSONResponse(await asyncio.to_thread(keep) | {"version": sheet.decisions.version})

    def _checked(self, content: dict[str, Any], sheet: Sheet) -> list[tuple[int, str]]:
        decided, when = content.get("decided"), content.get("when")
        known = {*sheet.reader.classes, NO_CELL, CANNOT_TELL, ""}
        right = isinstance(decided, list) and 0 < len(decided) <= MOST and isinstance(when, str) and is_utc(when)
        pairs = decided if right and isinstance(decided, list) else []
        for one in pairs:
            pair = isinstance(one, list) and len(one) == 2 and type(one[0]) is int and one[1] in known
            right = right and pair and 0 <= one[0] < len(sheet.cells.ids)
        if not right:
            raise BloodcellError(f"give digest, when in UTC, and decided: 1 to {MOST:,} pairs of a row and a label")
        return [(row, label) for row, label in pairs]

    async def next(self, request: Request, sheet: Sheet) -> Response:
        """Answer the cells to label next."""
        count = min(max(int(request.query_params.get("count", "25")), 1), 1000)
        rows = await asyncio.to_thread(next_rows, sheet.cells, sheet.decisions, count)
        return JSONResponse({"rows": rows})

    async def count(self, request: Request, sheet: Sheet) -> Response:
        """Answer the differential count of a slide, or of all."""
        slide = request.query_params.get("slide", "")
        if slide and slide not in self.desk.slides.values():
            raise BloodcellError(f"there is no slide {slide}")
        return JSONResponse(await asyncio.to_thread(sheet_answer.count_of, sheet, self.desk.slides, slide))

    async def agreement(self, _: Request, sheet: Sheet) -> Response:
        """Answer how well readers agree."""
        return JSONResponse(await asyncio.to_thread(sheet_answer.agreements_of, sheet))

    async def views(self, request: Request, sheet: Sheet) -> Response:
        """Answer the small pictures of many cells, `rows`: JPEG in base64 by row."""
        if request.query_params.get("digest") != sheet.cells.digest:
            return JSONResponse({"reason": "the cells have changed"}, 409)
        words, most = request.query_params.get("rows", "").split(","), len(sheet.cells.ids)
        rows = [
            int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10 and int(word) < most
        ]
        if not 0 < len(words) == len(rows) <= VIEWS:
            raise BloodcellError(f"give rows: 1 to {VIEWS} numbers of cells, with commas")
        ids = [sheet.cells.ids[row] for row in rows]
        found = await asyncio.to_thread(sheet.reader.store.views, ids)
        pictures = {row: b64encode(found[one]).decode() for row, one in zip(rows, ids, strict=True) if one in found}
        return JSONResponse(pictures)

    async def example(self, request: Request, sheet: Sheet) -> Response:
        """Answer the small picture of a training cell."""
        found = await asyncio.to_thread(sheet.reader.store.example, request.path_params["row"])
        return Response(found, media_type="image/jpeg") if found else Refusal(404, "there is no such picture")

    async def cell(self, request: Request, sheet: Sheet) -> Response:
        """Answer what is known of a cell."""
        try:
            return JSONResponse(await asyncio.to_thread(lightbox.about_cell, sheet, request.path_params["row"]))
        except OSError as error:
            raise BloodcellError(f"its picture cannot be read any more: {error}") from error

    async def near(self, request: Request, sheet: Sheet) -> Response:
        """Answer the nearest training cells."""
        return JSONResponse(await asyncio.to_thread(lightbox.nearest, sheet, request.path_params["row"]))

    async def field(self, request: Request, sheet: Sheet) -> Response:
        """Answer the picture that a cell is in."""
        return await self._looked(lightbox.field_picture, request, sheet)

    async def part(self, request: Request, sheet: Sheet) -> Response:
        """Answer the part of it that the net sees."""
        return await self._looked(lightbox.part_picture, request, sheet)

    async def map(self, request: Request, sheet: Sheet) -> Response:
        """Answer the Grad-CAM."""
        try:
            return await self._looked(lightbox.map_picture, request, sheet)
        except NoMapError as error:
            return Refusal(404, str(error))

    async def _looked(self, look: Callable[[Sheet, int], bytes], request: Request, sheet: Sheet) -> Response:
        work = self.thread.submit(look, sheet, request.path_params["row"])
        return Response(await asyncio.wrap_future(work), media_type="image/jpeg")

    async def learn(self, request: Request, sheet: Sheet) -> Response:
        """Start, cancel, accept or discard an adaptation."""
        what = (await _content(request)).get("action")
        if what == "start":
            self._start(sheet)
        elif what in ("cancel", "discard"):
            await asyncio.to_thread(self.learning.cancel)
        elif what == "accept":
            await asyncio.to_thread(self._accept)
        else:
            raise BloodcellError("give action: start, cancel, accept or discard")
        return JSONResponse(self.learning.state())

    def _start(self, sheet: Sheet) -> None:
        if not self.checkpoint:
            raise BloodcellError("only the run folder of one classifier can learn; start the page with one")
        if (known := sum(map(is_class, sheet.decisions.labels))) < FEW:
            raise BloodcellError(f"{known} cells have a class; {FEW} are the least to learn from")
        self.learning.start(self.checkpoint, sheet.cells.of_fields)

    def _accept(self) -> None:
        if self.desk.judging:
            raise BloodcellError("the cells are still being judged; wait until they are")
        folder = self.learning.accept()
        self.desk.judge(self.desk.read(self.load(folder)))
        self.checkpoint = str(folder)


async def _content(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings."""
    content = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                if len(content) + len(chunk) > BYTES:
                    raise BloodcellError(f"larger than {BYTES:,} bytes, the limit")
                content += chunk
    except TimeoutError as error:
        raise BloodcellError(f"it did not arrive within {SECONDS:g} seconds; send it again") from error
    try:
        found = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise BloodcellError("this is no JSON") from error
    if not isinstance(found, dict):
        raise BloodcellError("this is no JSON object")
    return found


def review_application(review: Review, values: Callable[[], dict[str, Any]], host: str) -> Starlette:
    """Return the page of a folder and what answers it; `values` returns what its template says of the reader."""
    held = {
        address: (files("bloodcell").joinpath(place).read_bytes(), kind) for address, (place, kind) in FILES.items()
    }

    async def page(_: Request) -> Response:
        return Response(render("bloodcell.app", "review.html", **values()), media_type="text/html")

    async def get(request: Request) -> Response:
        content, kind = held[request.url.path]
        return Response(content, media_type=kind)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(review.desk.close)
        review.thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(review.learning.close)

    routes = [Route("/", page), *(Route(address, get) for address in held), *review.routes()]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, host=host)], lifespan=lifespan)
    app.router.redirect_slashes = False
    return app
