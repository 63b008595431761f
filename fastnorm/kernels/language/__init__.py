"""What kernels are written in: pointers, vectors of 128 bytes, from memory and to it, their sums, elementary functions."""
