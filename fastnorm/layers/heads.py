"""QK norm as a layer."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import _checks
from ..functional.heads import qk_norm, qk_norm_backward
from .base import Array, Stateful, count


class QKNorm(Stateful):
    """Queries and keys normalized over the head dimension, the last axis of both, before attention::

        q, k = norm(q) * q_weight, norm(k) * k_weight

    where norm is RMS norm, layer norm, or the division by the length, of which the queries' is then learned.

    Parameters
    ----------
    head_dim : int
        The size of a head.
    eps : float
        Added to the mean square or the variance; for "l2" the least that a length counts for.
    elementwise_affine : bool
        Whether queries and keys have a weight each, of shape (head_dim,). Not for "l2".
    kind : {"rms", "layer", "l2"}
    scale : float or None
        The initial temperature of "l2"; None is the root of `head_dim`, which gives the logits that RMS norm has at first.
        (The paper proposes log2(L² − L), for sequences of L tokens.)
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    q_weight, k_weight : array or None
        In the state dict "q_norm.weight" and "k_norm.weight".
    scale : array of shape () or None

    References
    ----------
    Henry et al., "Query-Key Normalization for Transformers", 2020, https://arxiv.org/abs/2010.04245;
    Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", 2023, https://arxiv.org/abs/2302.05442

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.layers.heads import QKNorm
    >>> layer = QKNorm(2, eps=0)
    >>> q, k = layer(np.array([[3, 3]], np.float32), np.array([[-5, 5]], np.float32))
    >>> q, k
    (array([[1., 1.]], dtype=float32), array([[-1.,  1.]], dtype=float32))
    >>> list(layer.state_dict())
    ['q_norm.weight', 'k_norm.weight']
    """

    _place = "kind"
    _parameters = ("q_norm.weight", "k_norm.weight", "scale")

    def __init__(
        self,
        head_dim: int,
        eps: float = 1e-6,
        elementwise_affine: bool = True,
        *,
        kind: str = "rms",
        scale: float | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.head_dim = count("head_dim", head_dim)
        super().__init__(dtype)
        if kind not in ("rms", "layer", "l2"):
            raise ValueError(f"kind is {kind!r}, expected one of 'rms', 'layer', 'l2'")
        if scale is not None and kind != "l2":
            raise ValueError(
                f'scale is {scale!r}, expected None: it belongs to kind "l2", and this is "{kind}"'
            )
        self.kind, self.eps = kind, _checks.eps(eps)
        self.elementwise_affine = elementwise_affine and kind != "l2"
        self.q_weight = np.ones(self.head_dim, self.dtype) if self.elementwise_affine else None
        self.k_weight = np.ones(self.head_dim, self.dtype) if self.elementwise_affine else None
        initial = np.sqrt(self.head_dim) if scale is None else _checks.number(scale, "scale", "10")
        self.scale = np.full((), initial, self.dtype) if kind == "l2" else None

    def __call__(self, q: Array, k: Array) -> tuple[Array, Array]:
        """Normalize q and k; in training, keep what `backward` needs.

        Parameters
        ----------
        q, k : arrays of floats
            Of any shape that ends in `head_dim`.

        Returns
        -------
        two arrays with the shapes, dtype and memory orders of q and k
        """
        if isinstance(q, np.ndarray) and q.shape[-1:] != (self.head_dim,):
            raise ValueError(
                f"q has shape {q.shape}, expected a last axis of {self.head_dim}: this is {self}"
            )
        q_hat, k_hat, *stats = qk_norm(q, k, return_stats=self.training, **self._given)
        self._saved = (q, k, *stats) if self.training else None
        return q_hat, k_hat

    def backward(self, dq_hat: Array, dk_hat: Array) -> tuple[Array, Array]:
        """Return (dq, dk) of the last call, and leave the parameters' gradients in `grads` in place of older ones.

        Parameters
        ----------
        dq_hat, dk_hat : arrays of the shapes of q and k
            The gradients of the loss with respect to the results of the last call, which was in training.

        Returns
        -------
        two arrays with the shapes, dtype and memory orders of q and k

        Raises
        ------
        RuntimeError
            If the last call was not in training, or there was none.
        """
        saved = self._kept("q_hat, k_hat = layer(q, k)", "layer.backward(dq_hat, dk_hat)")
        q, k, q_stats, k_stats = saved
        found = qk_norm_backward(dq_hat, dk_hat, q, k, q_stats, k_stats, **self._given)
        dq, dk, *gradients = found
        named = zip(self._parameters, gradients, strict=True)
        self.grads = {name: gradient for name, gradient in named if gradient is not None}
        return dq, dk

    @property
    def _given(self) -> dict[str, Any]:
        """What forward and backward take alike."""
        weights = {"q_weight": self.q_weight, "k_weight": self.k_weight}
        return {**weights, "kind": self.kind, "scale": self.scale, "eps": self.eps}

    def _arrays(self, *names: str) -> dict[str, Array]:
        own = dict(zip(self._parameters, (self.q_weight, self.k_weight, self.scale), strict=True))
        return {name: array for name in names if (array := own[name]) is not None}

    def _extra_repr(self) -> str:
        return f"{self.head_dim}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
