"""Trained classifiers at work: loading them, probabilities of images, calibration."""
