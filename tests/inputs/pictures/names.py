"""Names that are odd, and what is called a file and is none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from PIL import Image

from tests.inputs.pictures.making import PIXELS, SCENE, Expected, kind, scene

NAMES = {
    "spaces": " two  spaces .png",
    "a line break": "line\nbreak.png",
    "a carriage return": "carriage\rreturn.png",
    "a tabulator": "tab\tulator.png",
    "umlauts": "Zelle-ä-ö.png",
    "composed letters": "a\u0308.png",
    "other scripts": "細胞-клетка.png",
    "an emoji": "🔬.png",
    "letters from right to left": "\u202egnp.png",
    "255 bytes": "n" * 251 + ".png",
    "a dash in front": "-rf.png",
    "two dashes in front": "--help.png",
    "an equals sign in front": "=1+1.png",
    "an at sign in front": "@SUM(A1).png",
    "a tilde in front": "~nobody-of-this-name.png",
    "quotes": "q\"uo'te.png",
    "commas and semicolons": "a,b;c.png",
    "percent signs": "100%25%s.png",
    "brackets": "[a]{b}(c).png",
    "a pattern": "a*b?.png",
    "a backslash": "back\\slash.png",
    "a dollar sign": "${oc.env:HOME}$(id)`id`.png",
    "a colon and a pipe": "c:|&.png",
    "markup": "<script>alert(1)<br>.png",
    "brackets of a terminal's markup": "[red]a[bold].png",
    "escape sequences of a terminal": "\x1b[31mred\x07.png",
    "an ending in capitals": "CAPITALS.PNG",
    "two endings": "a.tar.png",
    "the name of a device": "CON.png",
    "a reserved word": "null.png",
    "a number": "007.png",
    "bytes that are no UTF-8": os.fsdecode(b"latin-\xe9.png"),
}


def _named() -> None:
    for number, (name, file) in enumerate(NAMES.items()):

        def write(path: Path, seed: int = number) -> Expected:
            pixels = scene(seed=seed)
            Image.fromarray(pixels).save(path, "PNG")
            return pixels

        kind(f"a name with {name}", "/" + file)(write)


_named()


@kind("a pipe")
def _(file):
    os.mkfifo(file)
    return "^not a regular file$"


@kind("a socket")
def _(file):
    here = Path.cwd()
    os.chdir(file.parent)  # the address of a socket may have a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(file.name)
    finally:
        os.chdir(here)
    return "^not a regular file$"


@kind("a link to a device without end")
def _(file):
    file.symlink_to("/dev/zero")
    return "^not a regular file$"


@kind("a link to nothing")
def _(file):
    file.symlink_to(file.parent / "nowhere")
    return "^no such file$"


@kind("a link to itself")
def _(file):
    file.symlink_to(file)
    return "^cannot be read: Too many "


@kind("a link to an image elsewhere")
def _(file):
    elsewhere = file.parent.parent / "elsewhere.png"
    SCENE.save(elsewhere)
    file.symlink_to(elsewhere)
    return PIXELS
