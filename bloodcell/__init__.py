"""White-blood-cell classification that can be trusted."""

__version__ = "0.1.0"
