"""Everything with parameters: torch for training, ONNX Runtime for use."""
