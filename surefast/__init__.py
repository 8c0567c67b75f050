"""Deep learning on PyTorch that can be explained, repeated and handed over."""
