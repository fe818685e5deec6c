"""White-blood-cell classification that can be trusted.

`bloodcell.load(RUN).predict(images)` is the way in from Python; `bloodcell --help` the one from the command line.
"""

from __future__ import annotations

from typing import Any

from bloodcell.runtime.version import __version__

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first asked for: it needs torch, and the command line's help does not."""
    if name == "load":
        from bloodcell.inference.predictor import load

        return load
    raise AttributeError(f"module 'bloodcell' has no attribute '{name}'")
