"""Fixtures every test may ask for: seeded randomness."""

import zlib

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: the data do not depend on which other tests run."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
