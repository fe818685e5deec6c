"""Exported ONNX files, checked and loaded."""
