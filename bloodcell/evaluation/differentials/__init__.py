"""Differential counts of slides: from pictures to shares with intervals, tables and a page."""
