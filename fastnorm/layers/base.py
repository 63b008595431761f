"""What every layer shares: parameters, train and eval, what backward needs, state dicts, and the repr."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _checks
from .._floats import SUPPORTED, computed, is_supported

Array = NDArray[Any]
Needs = Any  # is the gradient wanted of x, and of each parameter: a tuple of booleans
_Self = TypeVar("_Self", bound="Stateful")

# What a call may say of padding, where the layer's function takes it.
PADDING: tuple[str, ...] = ("mask", "lengths", "keep_padding")


class IncompatibleKeys(NamedTuple):
    """The keys that `load_state_dict(state, strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Stateful(ABC):
    """Parameters and buffers by name, train and eval, and what the last call in training kept for `backward`.

    Attributes
    ----------
    training : bool
        True at first; set by `train` and `eval`.
    grads : dict of str to array
        What the last `backward` left: the gradients of the parameters, under their names. Each `backward`
        overwrites them; nothing accumulates.
    """

    _place: ClassVar[str | None] = None  # the argument that says along which axes the layer's sizes lie
    _parameters: ClassVar[tuple[str, ...]]
    _buffers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = _float_dtype(dtype)
        self.grads: dict[str, Array] = {}
        self.training = True
        self._saved: tuple[Any, ...] | None = None

    @abstractmethod
    def _extra_repr(self) -> str:
        """The arguments as PyTorch shows them."""

    def _kept(self, call: str, backward: str) -> tuple[Any, ...]:
        """What the last call left for `backward`, or an error that shows how they follow each other."""
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward has no call in training to go back through: "
                f"call layer.train() and {call} before {backward}"
            )
        return self._saved

    # Train and eval ----------------------------------------------------------------------------------------

    def train(self: _Self, mode: bool = True) -> _Self:
        """Switch to training, or with `mode=False` to evaluation, and return the layer."""
        self.training = bool(mode)
        return self

    def eval(self: _Self) -> _Self:
        """Switch to evaluation and return the layer."""
        return self.train(False)

    # State -------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Array]:
        """Return the parameters by name: the layer's own arrays, to be updated in place."""
        return self._arrays(*self._parameters)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters and running statistics, under the names PyTorch gives them."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Copy a state dict, from this package or from PyTorch's layer, into the layer's own arrays.

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
        own = self._state()
        values = {key: np.asarray(state[key]) for key in own if key in state}
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
        errors = []
        if strict and missing:
            errors.append(f"Missing key(s) in state_dict: {_quoted(missing)}.")
        if strict and unexpected:
            errors.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}.")
        errors += [error for key, value in values.items() for error in _misfits(key, value, own[key])]
        if errors:
            head = f"Error(s) in loading state_dict for {type(self).__name__}:"
            raise ValueError("\n\t".join([head, *errors]))
        for key, value in values.items():
            own[key][...] = value
        return IncompatibleKeys(missing, unexpected)

    def _state(self) -> dict[str, Array]:
        return self._arrays(*self._parameters, *self._buffers)

    def _arrays(self, *names: str) -> dict[str, Array]:
        return {name: array for name in names if (array := getattr(self, name)) is not None}

    def __getstate__(self) -> dict[str, Any]:
        # x and its statistics belong to a step of training, not to a pickle or a deep copy of the layer.
        return {**self.__dict__, "_saved": None}

    def __repr__(self) -> str:
        arguments = [self._extra_repr()]
        if self._place is not None and (place := getattr(self, self._place)) is not None:
            arguments.append(f"{self._place}={place!r}")
        if self.dtype != np.float32:
            arguments.append(f"dtype={self.dtype}")
        return f"{type(self).__name__}({', '.join(arguments)})"


class Layer(Stateful):
    """A normalization with its parameters, and in training what its backward needs.

    `y = layer(x)` normalizes. In training it also keeps a reference to x and the statistics, so that
    `dx = layer.backward(dy)` can follow; x must not change in between. A call in evaluation keeps nothing.
    Where the norm's function takes a mask or lengths, so does the call: `layer(x, lengths=lengths)`.

    Attributes
    ----------
    weight, bias : array or None
        The parameters, of the layer's dtype. They may be updated in place.
    training, grads
        As `Stateful` says.
    """

    _parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")
    _padding: ClassVar[
        tuple[str, ...]
    ] = ()  # what `_forward` takes beside x, and but for keep_padding `_backward`

    def __init__(
        self, sizes: tuple[int, ...], axes: tuple[int, ...], affine: bool, bias: bool, dtype: DTypeLike
    ) -> None:
        super().__init__(dtype)
        self.weight: Array | None = np.ones(sizes, self.dtype) if affine else None
        self.bias: Array | None = np.zeros(sizes, self.dtype) if affine and bias else None
        self._sizes, self._axes = sizes, axes

    # What a layer adds -------------------------------------------------------------------------------------

    @abstractmethod
    def _forward(self, x: Array) -> Any:
        """y, or in training y and the statistics its backward takes."""

    @abstractmethod
    def _backward(self, dy: Array, saved: tuple[Array, ...], needs: Needs) -> Any:
        """The gradients of x and of each of `_parameters`, from x and the statistics that came with its y."""

    # Forward and backward ----------------------------------------------------------------------------------

    def __call__(self, x: Array, **padding: Any) -> Array:
        """Normalize x; in training, keep what `backward` needs.

        Parameters
        ----------
        x : array of floats
            Of the sizes, along the layer's axes, that the layer was made for.
        mask, lengths, cu_seqlens : array, optional
            Which positions are valid, as the norm's function takes it, and if it does; `backward` goes by the same.
        keep_padding : bool
            Whether padding is left as x has it, likewise; otherwise it is 0.

        Returns
        -------
        array of x's shape, dtype and memory order

        Raises
        ------
        TypeError
            If the norm's function takes no such argument.
        TypeError, ValueError
            If x, or what is said of its padding, is not as the function expects it.
        """
        self._check_padding(padding)
        if self.weight is None:
            self._check_sizes(x)
        y = self._forward(x, **padding)
        self._saved = None
        if self.training:
            y, *stats = y
            padding.pop("keep_padding", None)
            self._saved = (padding, x, *stats)
        return y  # type: ignore[no-any-return]

    def backward(self, dy: Array) -> Array:
        """Return dx of the last call, and leave the parameters' gradients in `grads` in place of older ones.

        Parameters
        ----------
        dy : array of x's shape
            The gradient of the loss with respect to the result of the last call, which was in training.

        Returns
        -------
        array of x's shape, dtype and memory order
            The gradient of the loss with respect to x.

        Raises
        ------
        RuntimeError
            If the last call was not in training, or there was none.
        """
        padding, *saved = self._kept("y = layer(x)", "layer.backward(dy)")
        own = self.parameters()
        needs = (True, *(name in own for name in self._parameters))
        dx, *gradients = self._backward(dy, tuple(saved), needs, **padding)
        grads = dict(zip(self._parameters, gradients, strict=True))
        self.grads = {name: grads[name] for name in own}
        return dx  # type: ignore[no-any-return]

    def _check_padding(self, padding: Mapping[str, Any]) -> None:
        """Hold a call to the arguments that the layer's function takes."""
        for name in padding:
            if name not in self._padding:
                expected = f"x and at most {', '.join(self._padding)}" if self._padding else "x alone"
                raise TypeError(f"{type(self).__name__} takes no {name}: its call expects {expected}")

    def _check_sizes(self, x: Array) -> None:
        """Hold x to the layer's sizes where there is no weight by which the functions would do so."""
        if not isinstance(x, np.ndarray) or any(not -x.ndim <= axis < x.ndim for axis in self._axes):
            return  # the functions say what is wrong with it
        axes = sorted(axis % x.ndim for axis in self._axes)
        sizes = tuple(x.shape[axis] for axis in axes)
        if sizes != self._sizes:
            raise ValueError(
                f"x has shape {x.shape}, so {sizes} along axes {axes}, expected {self._sizes}: this is {self}"
            )


class ChannelLayer(Layer):
    """A layer with a weight and a bias per channel."""

    _place = "layout"

    def __init__(self, channels: int, affine: bool, bias: bool, layout: str | None, dtype: DTypeLike) -> None:
        self.affine = affine
        self.layout = layout
        super().__init__((channels,), (_channel_axis(layout),), affine, bias, dtype)


class TrackingLayer(ChannelLayer):
    """A channel layer that may keep running statistics."""

    _buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var", "num_batches_tracked")
    eps: float
    momentum: float | None

    def __init__(
        self,
        num_features: int,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        layout: str | None,
        dtype: DTypeLike,
    ) -> None:
        self.num_features = count("num_features", num_features)
        self.track_running_stats = track_running_stats
        super().__init__(self.num_features, affine, bias, layout, dtype)
        wide = computed(self.dtype)
        self.running_mean = np.zeros(self._sizes, wide) if track_running_stats else None
        self._track_spread(wide)
        self.num_batches_tracked = np.zeros((), np.int64) if track_running_stats else None

    def _track_spread(self, dtype: np.dtype[Any]) -> None:
        """Make the running statistic of what is about the mean."""
        self.running_var = np.ones(self._sizes, dtype) if self.track_running_stats else None

    def _momentum_now(self) -> float:
        """The share of the next batch in the running statistics."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.num_batches_tracked is None else 1 / (int(self.num_batches_tracked) + 1)

    def _count_batch(self, x: Array, mask: Any = None, lengths: Any = None) -> None:
        """Note that x has moved running statistics; an empty batch has not, so it has no share in their average either."""
        valid = lengths if mask is None else mask
        empty = x.size == 0 or (valid is not None and not np.any(valid))
        if self.training and self.num_batches_tracked is not None and not empty:
            self.num_batches_tracked += 1

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class ElementLayer(Layer):
    """A layer with a weight, and perhaps a bias, per element of the axes it normalizes."""

    _place = "axis"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        elementwise_affine: bool,
        bias: bool,
        axis: int | Sequence[int] | None,
        dtype: DTypeLike,
    ) -> None:
        sizes = _integers("normalized_shape", normalized_shape)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"normalized_shape is {normalized_shape}, expected sizes of at least 1")
        axes = tuple(range(-len(sizes), 0)) if axis is None else _integers("axis", axis)
        if len(axes) != len(sizes):
            raise ValueError(f"axis is {axis}, expected {len(sizes)} axes, one for each of {sizes}")
        self.normalized_shape = sizes
        self.elementwise_affine = elementwise_affine
        self.axis = axis
        super().__init__(sizes, axes, elementwise_affine, bias, dtype)


# Arguments -------------------------------------------------------------------------------------------------


count = _checks.count


def _float_dtype(value: DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(value)
    if not is_supported(dtype):
        raise TypeError(f"dtype is {dtype}, expected {SUPPORTED}")
    return dtype


def _channel_axis(layout: str | None) -> int:
    ndim = len(layout) if isinstance(layout, str) else 2  # that of x is not known yet
    return _checks.layout(layout, ndim)[1]


def _integers(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, value if isinstance(value, list | tuple) else (value,)))
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an int or a tuple of ints") from None


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def _misfits(key: str, value: Array, own: Array) -> list[str]:
    """What keeps the value of a state dict from being copied into the layer's own array."""
    if value.shape != own.shape:
        return [
            f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {own.shape}."
        ]
    if not np.can_cast(value.dtype, own.dtype, "same_kind"):
        return [f"dtype mismatch for {key}: {value.dtype} from checkpoint, {own.dtype} in current model."]
    return []
