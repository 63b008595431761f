"""Whitening norms: covariances of groups of channels, their inverse roots, and products through NumPy's BLAS."""
