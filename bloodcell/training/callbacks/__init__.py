"""Callbacks of a training: history, TensorBoard, early stopping, averaging, checkpoints."""
