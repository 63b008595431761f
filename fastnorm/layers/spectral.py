"""Spectral norm as a layer: it owns the singular vectors, which training improves call by call."""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .. import _checks
from .._floats import computed
from ..functional.spectral import spectral_norm, spectral_norm_backward
from .parametrization import Array, Parametrization, own

# PyTorch's number for u and v that begin as noise.
_FIRST_ITERATIONS = 15


class SpectralNorm(Parametrization):
    """A weight over its largest singular value::

        w = original / sigma, sigma = u @ matrix @ v

    where `matrix` is the parameter with a row for each index along `dim`, and u and v follow its first singular
    vectors: every call in training improves them.

    Parameters
    ----------
    weight : array of floats
        What the parameter is at first: a copy of it.
    n_power_iterations : int
        How many times a call in training improves u and v.
    eps : float
        The least length that a vector is divided by.
    dim : int
        The axis of the outputs: 0, or 1 for the weights of transposed convolutions.
    rng : numpy.random.Generator, optional
        Where u and v begin before 15 iterations.

    Attributes
    ----------
    original : array
        The parameter.
    u, v : array
        The singular vectors so far, float32 or, beside float64 weights, float64; "0._u" and "0._v" of a state dict.

    References
    ----------
    Miyato, Kataoka, Koyama and Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018,
    https://arxiv.org/abs/1802.05957

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import SpectralNorm
    >>> layer = SpectralNorm(np.array([[8, 0], [0, 1]], np.float32), rng=np.random.default_rng(0))
    >>> layer()
    array([[1.   , 0.   ],
           [0.   , 0.125]], dtype=float32)
    """

    _parameters = ("original",)

    def __init__(
        self,
        weight: Array,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        dim: int = 0,
        *,
        rng: Generator | None = None,
    ) -> None:
        self.original = own(weight)
        super().__init__(self.original.dtype)
        self.n_power_iterations = _checks.count("n_power_iterations", n_power_iterations)
        self.eps = _checks.eps(eps)
        (self.dim,) = _checks.indices(dim, "dim", self.original.shape, "weight")
        rng = np.random.default_rng() if rng is None else rng
        rows = self.original.shape[self.dim]
        self.u, self.v = (self._noise(n, rng) for n in (rows, self.original.size // max(rows, 1)))
        options: dict[str, Any] = {"dim": self.dim, "eps": self.eps, "training": True}
        spectral_norm(self.original, self.u, self.v, n_power_iterations=_FIRST_ITERATIONS, **options)

    def _noise(self, size: int, rng: Generator) -> NDArray[Any]:
        """A random direction."""
        noise = rng.standard_normal(size)
        return (noise / np.linalg.norm(noise)).astype(computed(self.dtype))

    def _forward(self) -> tuple[Any, ...]:
        w, sigma = spectral_norm(
            self.original,
            self.u,
            self.v,
            dim=self.dim,
            n_power_iterations=self.n_power_iterations,
            eps=self.eps,
            training=self.training,
            return_sigma=True,
        )
        return w, self.u.copy(), self.v.copy(), sigma

    def _backward(self, dw: Array, saved: tuple[Any, ...]) -> tuple[Array, ...]:
        return (spectral_norm_backward(dw, self.original, *saved, dim=self.dim),)

    def _state(self) -> dict[str, Array]:
        return {**self.parameters(), "0._u": self.u, "0._v": self.v}

    def _extra_repr(self) -> str:
        return (
            f"{self.original.shape}, n_power_iterations={self.n_power_iterations}, "
            f"eps={self.eps}, dim={self.dim}"
        )
