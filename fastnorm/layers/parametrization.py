"""What layers share that make a weight out of their parameters, for any other layer to use."""

from abc import abstractmethod
from typing import Any, ClassVar

from numpy.typing import NDArray

from .. import _checks
from .base import Stateful

Array = NDArray[Any]


class Parametrization(Stateful):
    """A weight made of parameters: `w = layer()`, and after the backward of what used it, `layer.backward(dw)`.

    Parameters keep their names from PyTorch, where they are those of `module.parametrizations.weight`. They may be
    updated in place, but not between a call in training and its `backward`. A call in evaluation keeps nothing.
    """

    _weight: ClassVar[str] = "original"  # the parameter that is shaped like w

    @abstractmethod
    def _forward(self) -> tuple[Any, ...]:
        """w, and what its backward takes."""

    @abstractmethod
    def _backward(self, dw: Array, saved: tuple[Any, ...]) -> tuple[Array, ...]:
        """The gradients of the parameters, in their order."""

    def __call__(self) -> Array:
        """Return the weight, with the dtype, shape and memory order of the array that the layer was made from."""
        w, *saved = self._forward()
        self._saved = tuple(saved) if self.training else None
        return w  # type: ignore[no-any-return]

    def backward(self, dw: Array) -> Array:
        """Leave the parameters' gradients in `grads` in place of older ones, and return the one that is shaped like w.

        Parameters
        ----------
        dw : array of w's shape and dtype
            The gradient of the loss with respect to the result of the last call, which was in training.

        Returns
        -------
        array of w's shape, dtype and memory order

        Raises
        ------
        RuntimeError
            If the last call was not in training, or there was none.
        """
        saved = self._kept("w = layer()", "layer.backward(dw)")
        self.grads = dict(zip(self._parameters, self._backward(dw, saved), strict=True))
        return self.grads[self._weight]


def own(weight: Array) -> Array:
    """A copy of the array that a layer is made from."""
    return _checks.array(weight, "weight").copy(order="K")
