"""Synthetic blood smears with known sources and cell boxes."""
