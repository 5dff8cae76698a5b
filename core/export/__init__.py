"""Writing a compressed model in forms that load without this project: ONNX, and a PyTorch folder."""
