"""Configuration, run folders, terminal, processes and hardware."""
