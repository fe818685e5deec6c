"""Painted smears: data whose truth is known."""
