"""Whatever is measured, drawn or written from a predictions table."""
