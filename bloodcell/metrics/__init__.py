"""Figures of predictions tables, with their intervals: numbers alone."""
