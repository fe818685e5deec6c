"""Audit: which images come from the same white cell, and what leaks between splits."""
