"""Frozen batch norm as a layer: what a trained batch norm has learned, and nothing that is still to be learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _checks
from ..functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from .base import Array, ChannelLayer, IncompatibleKeys, Needs, count


class FrozenBatchNorm(ChannelLayer):
    """Batch normalization by fixed statistics, weight and bias, in training as in evaluation::

        y = (x - running_mean) / sqrt(running_var + eps) * weight + bias

    It takes the state dict of a `BatchNorm`, of PyTorch's, or of torchvision's `FrozenBatchNorm2d`. It has no parameters:
    `backward` returns dx alone.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    layout : str or None
        The axes of x by letter, such as "NHWC"; None means channels at axis 1.
    dtype : dtype
        Of all that it has.

    Attributes
    ----------
    weight, bias, running_mean, running_var : arrays of shape (C,)
        At first ones, zeros, zeros and ones.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm import BatchNorm
    >>> from fastnorm.layers.frozen import FrozenBatchNorm
    >>> trained, x = BatchNorm(2), np.array([[1, 2], [3, 6]], np.float32)
    >>> trained(x)
    array([[-0.999995  , -0.99999875],
           [ 0.999995  ,  0.99999875]], dtype=float32)
    >>> frozen = FrozenBatchNorm(2)
    >>> frozen.load_state_dict(trained.state_dict())
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    >>> np.array_equal(frozen(x), trained.eval()(x))
    True
    """

    _parameters = ()
    _buffers = ("weight", "bias", "running_mean", "running_var")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = count("num_features", num_features)
        super().__init__(self.num_features, True, True, layout, dtype)
        self.eps = _checks.eps(eps)
        self.running_mean = np.zeros_like(self.bias)
        self.running_var = np.ones_like(self.weight)

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Copy a state dict into the layer's own arrays; a `num_batches_tracked` in it is passed over.

        Parameters
        ----------
        state : mapping of str to array_like
            The values may be anything `np.asarray` takes, PyTorch's tensors on the CPU among them.
        strict : bool
            Whether missing and unexpected keys are errors.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected keys.

        Raises
        ------
        ValueError
            If keys (with `strict`), shapes or dtypes do not fit; nothing has been written then.
        """
        kept = {key: value for key, value in state.items() if key != "num_batches_tracked"}
        return super().load_state_dict(kept, strict)

    def _forward(self, x: Array) -> Any:
        y = frozen_batch_norm(x, *self._constants(), eps=self.eps, layout=self.layout)
        return (y,) if self.training else y

    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        (x,) = saved
        return (frozen_batch_norm_backward(dy, x, *self._constants(), eps=self.eps, layout=self.layout),)

    def _constants(self) -> tuple[Any, ...]:
        return self.running_mean, self.running_var, self.weight, self.bias

    def _extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"
