"""Settings of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require, require_choice
from bloodcell.runtime.schema.publication import Publication, read_publication, require_authors_and_license
from bloodcell.runtime.schema.verbs.common import CommonConfig


@dataclass(frozen=True, kw_only=True)
class ExportConfig(CommonConfig):
    """The configuration of `export`."""

    checkpoint: Any
    format: str
    precision: str
    output: str | None
    overwrite: bool
    title: str | None
    authors: Any
    license: str | None
    cite: Any
    laboratories: str | None

    def __post_init__(self) -> None:
        require_choice("format", self.format, "onnx", "torch", "huggingface", "bioimageio", "reader")
        wanted = "only the card of format=reader has the figures of laboratories; leave it out"
        require(self.laboratories is None or self.format == "reader", "laboratories", self.laboratories, wanted)
        require_choice("precision", self.precision, "float32", "int8")
        if self.precision == "int8" and self.format != "onnx":
            raise BloodcellError(f"precision=int8 is for format=onnx, not for format={self.format}")
        publication = self.publication
        if self.format == "bioimageio":
            require_authors_and_license(publication)

    @property
    def publication(self) -> Publication:
        """What only people know of the exported classifier."""
        return read_publication(self.title, self.authors, self.license, self.cite)
