"""What only people know of an exported classifier: its title, authors and licence, and what to cite."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require


@dataclass(frozen=True)
class Author:
    """An author of a classifier."""

    name: str
    affiliation: str | None = None
    email: str | None = None
    github_user: str | None = None
    orcid: str | None = None


@dataclass(frozen=True)
class Citation:
    """A publication to cite; it has a DOI or an address."""

    text: str
    doi: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.doi or self.url), "cite", self.text, "give its doi or url too: {text: ..., doi: ...}")


@dataclass(frozen=True)
class Publication:
    """How a classifier is published.

    Attributes:
        title: None: it has none.
        authors: In their order.
        license: SPDX identifier; None: it is not chosen.
        cite: What whoever uses it should cite.
    """

    title: str | None = None
    authors: tuple[Author, ...] = ()
    license: str | None = None
    cite: tuple[Citation, ...] = ()


def default_title(model: str) -> str:
    """Return a title for a classifier with a backbone, of the letters that the BioImage Model Zoo allows."""
    return re.sub(r"[^A-Za-z0-9_+() -]", "-", f"Blood cells by {model}")[:64]


Entry = TypeVar("Entry", Author, Citation)


def read_publication(title: str | None, authors: Any, license_id: str | None, cite: Any) -> Publication:
    """Return the publication that the keys title, authors, license and cite of a configuration describe.

    Raises:
        BloodcellError: A value makes no sense.
    """
    named = title is None or (title == title.strip() != "" and title.isprintable() and len(title) <= 128)
    require(named, "title", title, "give 1 to 128 letters in one line")
    known = license_id is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", license_id) is not None
    require(known, "license", license_id, "give an SPDX identifier: MIT, CC-BY-4.0, ...")
    people, works = _entries("authors", authors, Author, "name"), _entries("cite", cite, Citation, "text")
    return Publication(title, people, license_id, works)


def _entries(key: str, given: Any, kind: type[Entry], first: str) -> tuple[Entry, ...]:
    """Return a list of texts, or of dicts whose values are texts, as dataclasses."""
    rows = [] if given is None else given if isinstance(given, list | tuple) else [given]
    return tuple(_entry(key, {first: row} if isinstance(row, str) else row, kind, first) for row in rows)


def _entry(key: str, row: Any, kind: type[Entry], first: str) -> Entry:
    known = [field.name for field in fields(kind)]
    wanted = f"give {{{first}: ...}}, and of {', '.join(known[1:])} what there is"
    right = isinstance(row, dict) and first in row and set(row) <= set(known)
    require(right and all(_is_text(value) for value in row.values()), key, row, wanted)
    return kind(**{name: str(value) for name, value in row.items() if value is not None})


def _is_text(value: Any) -> bool:
    """Return whether a value is text of one line, or a number that stands for some."""
    if isinstance(value, str):
        return value.strip() != "" and value.isprintable()
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def require_authors_and_license(publication: Publication) -> None:
    """Refuse a publication that names neither authors nor a licence, or only one of them."""
    if not publication.authors or publication.license is None:
        raise BloodcellError(
            "format=bioimageio needs authors and a licence: authors=[NAME,...] license=CC-BY-4.0 or another SPDX "
            "identifier, within the terms of the training images and of the weights that the training started from"
        )
