"""The front matter of a model card for the Hugging Face Hub, as its documentation describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bloodcell.data.samples import read_samples
from bloodcell.evaluation.report import name_of
from bloodcell.metrics.summary import parts_in, read_metrics
from bloodcell.runtime import run_folder
from bloodcell.runtime.schema.publication import Publication

TAGS = ("bloodcell", "onnx", "image-classification", "microscopy", "blood-cells", "haematology")

#: Our metrics that the Hub knows under a name of its own.
METRICS = {"accuracy": "accuracy", "macro_recall_by_source": "recall", "macro_f1": "f1"}

#: The licences that the Hub knows, of those with an SPDX identifier; it writes them so.
LICENSES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "ecl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0",
    "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "ofl-1.1", "osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib",
))  # fmt: skip


def front_matter(checkpoint: Path, publication: Publication) -> str:
    """Return the header that the Hub reads, between its lines of three dashes.

    Args:
        checkpoint: The checkpoint that was exported; if it lies in a run folder, the metrics come from there.
        publication: Its title and licence count; the Hub has no fields for the rest.
    """
    header: dict[str, Any] = {
        **_license(publication.license),
        "library_name": "bloodcell",
        "pipeline_tag": "image-classification",
        "tags": list(TAGS),
    }
    run = run_folder.run_of(checkpoint)
    if run and (results := _results(run)):
        header |= {"metrics": sorted({one["type"] for result in results for one in result["metrics"]})}
        header |= {"model-index": [{"name": publication.title, "results": results}]}
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n"


def _license(chosen: str | None) -> dict[str, str]:
    """Return the Hub's fields for a licence: one that it does not know has its name in a field of its own."""
    if chosen is None:
        return {"license": "unknown"}
    plain = chosen.lower().removesuffix("-only").removesuffix("-or-later")
    return {"license": plain} if plain in LICENSES else {"license": "other", "license_name": chosen.lower()}


def _results(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of each part that a run measured, 0 to 1, with the part as the data set."""
    known = (run / "samples.csv").is_file()
    data = read_samples(run / "samples.csv").root.name if known else "unknown data"
    return [
        {
            "task": {"type": "image-classification"},
            "dataset": {
                "type": "imagefolder",
                "name": f"{data}, {name_of(part)}",
                "split": part.replace("val", "validation", 1) if part.startswith("val") else part,
            },
            "metrics": [
                {"type": kind, "name": name.replace("_", " "), "value": values[name]}
                for name, kind in METRICS.items()
                if values.get(name) is not None
            ],
        }
        for part, values in parts_in(read_metrics(run)).items()
    ]
