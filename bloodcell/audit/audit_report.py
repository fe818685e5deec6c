"""The audit's page: verdict, counts, and pairs of images with their matched points, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bloodcell.audit.audit_figures import matched_pair_figure
from bloodcell.audit.result import Audit
from bloodcell.data.samples import SPLITS
from bloodcell.runtime.html import write_page

#: Pairs that are drawn of each kind: enough to believe, few enough to look at.
PAIRS = 6


def write_report(audit: Audit, root: Path, file: Path) -> None:
    """Write the page; it asks for nothing from elsewhere.

    Args:
        audit: The outcome.
        root: The data root.
        file: Where to.
    """
    write_page(
        file,
        "bloodcell.audit",
        "report.html",
        verdict=audit.verdict().splitlines(),
        root=str(root),
        counts=_counts(audit),
        leaks=_pairs(audit.leaks, root),
        leak_total=len(audit.leaks),
        conflicts=_pairs(audit.conflicts, root),
        conflict_total=len(audit.conflicts),
        strengths=audit.sources["strength"].value_counts().to_dict(),
    )


def _counts(audit: Audit) -> list[dict[str, Any]]:
    """Return images and sources of each split and class."""
    table = audit.samples.assign(source=audit.sources["source"]).sort_values("label", kind="stable")
    table["split"] = pd.Categorical(table["split"], [s for s in ("", *SPLITS) if s in set(table["split"])])
    groups = table.groupby(["split", "label"], sort=True, observed=True)
    return [
        {"split": split or "all", "label": label, "images": len(rows), "sources": rows["source"].nunique()}
        for (split, label), rows in groups
    ]


def _pairs(table: pd.DataFrame, root: Path) -> list[dict[str, Any]]:
    """Draw the example pairs of some rows, spread over the table."""
    chosen = table.iloc[:: max(1, len(table) // PAIRS)].head(PAIRS)
    drawn = []
    for row in chosen.to_dict("records"):
        picture, points = matched_pair_figure(root / row["path_a"], root / row["path_b"])
        drawn.append({**row, "picture": picture, "points": points, "sides": _sides(row)})
    return drawn


def _sides(row: dict[Any, Any]) -> tuple[str, str]:
    """Name what the two images of a pair differ in: their splits, or their labels."""
    kind = "split" if "split_a" in row else "label"
    return str(row[f"{kind}_a"]), str(row[f"{kind}_b"])
