"""Exporting: a trained classifier as one file that runs without its training, here and anywhere else."""
