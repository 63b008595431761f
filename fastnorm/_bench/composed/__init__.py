"""The norms that users compose out of NumPy calls or PyTorch's operators where a library has no function for them."""
