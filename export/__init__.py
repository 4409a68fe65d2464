"""Export of models to ONNX, with parity checks."""
