"""Provenance: which images come from the same white cell, and what leaks between splits.

`audit` finds the source of each image; `leak_probe` is the quick look where no audit was made.
"""

from bloodcell.audit.auditing import audit
from bloodcell.audit.figures import matched_pair_figure
from bloodcell.audit.probe import LeakProbe, leak_probe
from bloodcell.audit.result import Audit

__all__ = ["Audit", "LeakProbe", "audit", "leak_probe", "matched_pair_figure"]
