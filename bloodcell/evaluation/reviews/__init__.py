"""The review of a folder: all its cells as they were judged, which to label next, and what readers say of them."""
