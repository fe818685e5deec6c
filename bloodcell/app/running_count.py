"""The differential count of all fields on a page: numbers of cells come in, shares and sentences go out.

The page sums up the answers to its fields and sends the sums: the server keeps nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from bloodcell.app.security import Refusal
from bloodcell.evaluation.differentials.count import confusion_of
from bloodcell.evaluation.differentials.count_notes import notes_of
from bloodcell.evaluation.differentials.count_text import left_out_text, needed_text, others_text
from bloodcell.evaluation.differentials.slide_counts import REASONS, SlideCount, with_shares
from bloodcell.inference.ensemble import Ensemble
from bloodcell.metrics.confusion_rates import Confusion
from bloodcell.metrics.confusions import MOST as MANY
from bloodcell.metrics.differential import Cells
from bloodcell.runtime.errors import BloodcellError

#: Bytes of a request beside those of the names of its classes, and seconds that it may take.
BYTES, SECONDS = 4096, 10.0
#: Largest number of cells of a class, and of fields.
MOST = 10**7
#: What is sent besides the cells of each class and of each reason why a cell does not count.
NUMBERS = ("fields", "empty", "unlike")
#: What the notes call all fields on the page.
NAME = "these fields"


class RunningCount:
    """Answers with the differential count of some numbers of cells.

    Args:
        ensemble: What has predicted the cells.
        threshold: Cells of lower confidence are left to a human.
    """

    def __init__(self, ensemble: Ensemble, threshold: float) -> None:
        self.classes, self.threshold = tuple(ensemble.classes), threshold
        self.confusion, self.unknown = shown_confusion(ensemble)
        self.most = BYTES + sum(6 * len(name) + 16 for name in self.classes)  # a letter is \u1234 at most
        self.turn = asyncio.Lock()

    async def post(self, request: Request) -> Response:
        """Answer POST /differential, whose body is the JSON that `count` takes."""
        content = bytearray()
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    if len(content) + len(chunk) > self.most:
                        return Refusal(413, f"larger than {self.most:,} bytes, the limit")
                    content += chunk
        except TimeoutError:
            return Refusal(408, f"the numbers did not arrive within {SECONDS:g} seconds; send them again")
        except ClientDisconnect:
            return Response(status_code=400)  # to no one
        try:
            counts = self.checked(bytes(content))
        except BloodcellError as error:
            return JSONResponse({"reason": str(error)}, 422)
        async with self.turn:  # it takes seconds if there are many classes
            return JSONResponse(await asyncio.to_thread(self.count, counts))

    def checked(self, content: bytes) -> dict[str, Any]:
        """Return the numbers of a request: `counts` by class, `left_out` by reason, `fields`, `empty` and `unlike`.

        Raises:
            BloodcellError: They are not these numbers, or do not fit together.
        """
        try:
            plain = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BloodcellError("this is no JSON") from error
        if not isinstance(plain, dict) or set(plain) != {"counts", "left_out", *NUMBERS}:
            raise BloodcellError(f"give counts, left_out, {', '.join(NUMBERS)}, and nothing else")
        numbers = [plain[name] for name in NUMBERS]
        for name, known in (("counts", self.classes), ("left_out", tuple(REASONS))):
            if not isinstance(plain[name], dict) or not set(plain[name]) <= set(known):
                raise BloodcellError(f"{name} has a number for each of {', '.join(known)}, and for nothing else")
            numbers += plain[name].values()
        if not all(type(one) is int and 0 <= one <= MOST for one in numbers):
            raise BloodcellError(f"give whole numbers from 0 to {MOST:,}")
        found = sum(plain["counts"].values()) + sum(plain["left_out"].values())
        if plain["empty"] > plain["fields"] or plain["unlike"] > found:
            raise BloodcellError("more empty fields than fields, or more cells unlike the training data than cells")
        return plain

    def count(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """Return the differential count of numbers that are checked.

        Returns:
            `cells`, white ones that count, whether the shares are `corrected`, `shares` (name, count, share, low and
            high), and sentences: `left_out`, `others`, `needed`, '' if there is nothing to say, and `notes`.
        """
        counts = tuple(numbers["counts"].get(name, 0) for name in self.classes)
        left_out = {name: numbers["left_out"].get(name, 0) for name in REASONS}
        found = sum(counts) + sum(left_out.values())
        unlike = numbers["unlike"] / max(found, 1)
        slide = SlideCount(NAME, numbers["fields"], numbers["empty"], found, left_out, {}, unlike, None)
        if slide.counted:
            slide = with_shares(slide, Cells(self.classes, counts, (0,) * len(counts)), self.confusion)
        notes = notes_of([slide], self.confusion, self.unknown, self.threshold)
        return count_answer(slide, notes)


def count_answer(slide: SlideCount, notes: list[str]) -> dict[str, Any]:
    """Return what a page shows of a count: `cells`, `corrected`, `shares`, `left_out`, `others`, `needed`, `notes`."""
    return {
        "cells": slide.counted,
        "corrected": slide.result is not None and slide.result.corrected,
        "shares": [asdict(one) for one in slide.result.shares] if slide.result else [],
        "left_out": left_out_text(slide),
        "others": others_text(slide),
        "needed": needed_text(slide).replace("+-", "±"),
        "notes": [note.replace(" %", "\N{NO-BREAK SPACE}%") for note in notes],
    }


def shown_confusion(ensemble: Ensemble) -> tuple[Confusion | None, str]:
    """Return the confusions of an ensemble; if they are unknown, or there are too many for a page, why."""
    confusion, unknown = confusion_of(ensemble.engines, ensemble.tta)
    if confusion is not None and len(confusion.classes) > MANY:
        minutes = f"for more than {MANY} classes they take minutes, and are left out here"
        return None, f"{minutes}; `bloodcell differential` uses them"
    return confusion, unknown
