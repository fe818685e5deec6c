"""Exported ONNX files, checked and opened."""
