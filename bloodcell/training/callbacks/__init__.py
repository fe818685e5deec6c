"""What accompanies training: history, TensorBoard, whole checkpoints."""
