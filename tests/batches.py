"""The arrays of the tests of batch renormalization, ghost and frozen batch norm."""

from .norms import widen

C = 6
LENGTHS = {"N": 8, "C": C, "D": 2, "H": 5, "W": 3, "L": 11}
LAYOUTS = ["NC", "NCL", "NLC", "NCHW", "NHWC", "HWNC", "CHWN", "WCNH", "LNC", "NCDHW", "NDHWC"]


def normals(layout, rng, dtype, count=1):
    return (1 + rng.standard_normal((count, *(LENGTHS[letter] for letter in layout)))).astype(dtype)


def parameters(rng, dtype):
    """Weight, bias, running mean and running deviation or variance."""
    return [
        low + (high - low) * rng.random(C).astype(dtype)
        for low, high in ((0.5, 2), (-1, 1), (0.5, 1.5), (0.7, 1.5))
    ]


def wide(*arrays):
    return [widen(a) for a in arrays]
