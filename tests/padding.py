"""Padded samples for the tests of masks and lengths."""

import numpy as np

LENGTHS = np.array([3, 11, 1, 7, 11, 0, 5])
NCL, NLC = (7, 6, 11), (7, 11, 6)
# name -> what it takes after x
OF_SAMPLES = {"instance_norm": (), "group_norm": (3,)}


def padded(layout, dtype, rng):
    """x and dy whose padding is NaN, a weight and a bias."""
    x, dy = (1 + rng.standard_normal((2, *(NCL if layout == "NCL" else NLC)))).astype(dtype)
    for array in (x, dy):
        for sample, length in enumerate(LENGTHS):
            positions(array, layout, sample)[length:] = np.nan
    return x, dy, *rng.uniform(0.5, 2, (2, 6)).astype(dtype)


def positions(array, layout, sample):
    """The positions of one sample first."""
    return array[sample] if layout == "NLC" else array[sample].T


def alone(array, layout, sample):
    """One sample without its padding, as an array of its own."""
    length = LENGTHS[sample]
    return (
        array[sample : sample + 1, :length] if layout == "NLC" else array[sample : sample + 1, :, :length]
    ).copy()


def as_mask(kind, layout):
    valid = np.arange(11) < LENGTHS[:, np.newaxis]
    return {"mask": valid} if kind == "mask" else {"lengths": LENGTHS}
