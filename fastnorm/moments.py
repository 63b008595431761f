"""Statistics that merge: count, mean and M2 of every channel, of data that come in parts or are larger than memory."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .functional._flow.grid import Moments as Statistics
from .functional._states import State, merged, nothing, states
from .layers.base import count as checked_count

Array = NDArray[Any]
_Self = TypeVar("_Self", bound="Moments")

# What serialized moments begin with: these four bytes, the version of the format, the number of channels.
_HEADER = struct.Struct("<4sIQ")
_MAGIC, _VERSION = b"FNMM", 1


# A channel as it is serialized.
_CHANNEL = np.dtype([(name, "<i8" if name == "counts" else "<f8") for name in State._fields])


class Moments:
    r"""Count, mean and M2, the sum of squared distances from the mean, of every channel of data that come in parts.

    Parts may be taken one after another by one object, or by many, in other processes or on other machines, and merged:
    the statistics are those of one pass over all of the data. Nothing is kept of the data themselves.

    .. math:: \delta = \mathrm{mean}_b - \mathrm{mean}_a, \quad
              \mathrm{mean} = \mathrm{mean}_a + \delta \frac{n_b}{n_a + n_b}, \quad
              M_2 = M_{2,a} + M_{2,b} + \delta^2 \frac{n_a n_b}{n_a + n_b}

    Parameters
    ----------
    num_channels : int or None
        None leaves it to the first data.

    References
    ----------
    Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979,
    http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.moments import Moments
    >>> x = np.array([[1, 10], [2, 20], [3, 60]], np.float32)
    >>> seen = Moments().update(x[:2]) + Moments().update(x[2:])
    >>> seen
    Moments(num_channels=2, count=3)
    >>> seen.mean, seen.var(ddof=1)
    (array([ 2., 30.]), array([  1., 700.]))
    >>> Moments.from_bytes(seen.to_bytes()) == seen
    True
    """

    def __init__(self, num_channels: int | None = None) -> None:
        self._state = nothing(0 if num_channels is None else checked_count("num_channels", num_channels))

    @classmethod
    def of(cls: type[_Self], parts: Array | Iterable[Array], layout: str | None = None) -> _Self:
        """Return the moments of an array, or of all arrays that an iterable gives.

        Parameters
        ----------
        parts : floating array, or iterable of such
            As `update` takes them; an `np.memmap` is read as the statistics are taken.
        layout : str, optional
            The axes of each, as in `update`.

        Returns
        -------
        Moments
        """
        result = cls()
        for part in [parts] if isinstance(parts, np.ndarray) else parts:
            result.update(part, layout)
        return result

    # Taking in ---------------------------------------------------------------------------------------------

    def update(self: _Self, x: Array, layout: str | None = None, mask: Array | None = None) -> _Self:
        """Take in more data.

        Parameters
        ----------
        x : floating array with an axis of samples and one of C channels, of any strides
        layout : str, optional
            The axes, a capital letter each, with one N and one C, such as "NHWC"; None means channels at axis 1.
        mask : boolean array, optional
            Which values count, over the axes of x without that of the channels, in their order; or over all of them, where
            that differs from channel to channel. Broadcast to x. What it leaves out, NaN among it, changes nothing.

        Returns
        -------
        Moments
            The object itself.

        Raises
        ------
        TypeError, ValueError
            An argument has the wrong type, dtype or shape, or x other channels than what was taken in before; nothing has
            been changed.
        """
        state = self._state
        for found in states(x, layout, mask, self.num_channels):
            state = merged(state, found)
        self._state = state
        return self

    def merge(self: _Self, other: Moments) -> _Self:
        """Take in what another object has taken in.

        Parameters
        ----------
        other : Moments
            It stays as it is. One that has taken in nothing changes nothing.

        Returns
        -------
        Moments
            The object itself.

        Raises
        ------
        TypeError, ValueError
            `other` is no Moments, or has another number of channels.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other is a {type(other).__name__}, expected a Moments")
        if None not in (self.num_channels, other.num_channels) and self.num_channels != other.num_channels:
            raise ValueError(
                f"other has {other.num_channels} channels, expected {self.num_channels}, as many as {self!r} has"
            )
        self._state = merged(self._state, other._state)
        return self

    def __add__(self: _Self, other: Moments) -> _Self:
        if not isinstance(other, Moments):
            return NotImplemented
        return self._copy().merge(other)

    def __radd__(self: _Self, start: int) -> _Self:
        # What `sum` begins with.
        return self._copy() if start.__class__ is int and start == 0 else NotImplemented

    # What it says ------------------------------------------------------------------------------------------

    @property
    def num_channels(self) -> int | None:
        """The number of channels; None where it is not known yet."""
        return self._state.counts.size or None

    @property
    def count(self) -> int | Array:
        """The number of values in every channel, or an int64 array (C,) where the channels differ in that."""
        counts = self._state.counts
        if np.all(counts == counts[:1]):
            return int(counts[0]) if counts.size else 0
        return counts.copy()

    @property
    def mean(self) -> Array:
        """The mean of every channel: float64, (C,), NaN where there is no value."""
        state = self._state
        return np.where(state.counts > 0, state.mean + state.mean_rest, np.nan)

    def var(self, ddof: float = 0) -> Array:
        """Return the variance of every channel, M2 / (count - ddof).

        Parameters
        ----------
        ddof : number
            0 for the biased variance, as the norms take it; 1 for the unbiased one.

        Returns
        -------
        float64 array (C,)
            NaN where there are no more than `ddof` values.
        """
        state = self._state
        free = state.counts - ddof
        with np.errstate(all="ignore"):
            return np.where(free > 0, (state.m2 + state.m2_rest) / free, np.nan)

    def std(self, ddof: float = 0) -> Array:
        """Return the standard deviation of every channel, the root of `var(ddof)`."""
        return np.sqrt(self.var(ddof))

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same numbers; the same data, in other parts, may have rounded otherwise."""
        if not isinstance(other, Moments):
            return NotImplemented
        pairs = zip(self._state, other._state, strict=True)
        return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)

    def __repr__(self) -> str:
        count = self.count
        shown = count if isinstance(count, int) else f"{count.min()} to {count.max()}"
        return f"{type(self).__name__}(num_channels={self.num_channels}, count={shown})"

    # Serialized --------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """The length of `to_bytes()`: 16, and 40 for each channel."""
        return _HEADER.size + self._state.counts.size * _CHANNEL.itemsize

    def to_bytes(self) -> bytes:
        """Return everything it holds, exactly, in a form that is the same on every machine."""
        channels = np.empty(self._state.counts.size, _CHANNEL)
        for name, values in self._state._asdict().items():
            channels[name] = values
        return _HEADER.pack(_MAGIC, _VERSION, channels.size) + channels.tobytes()

    @classmethod
    def from_bytes(cls: type[_Self], data: bytes | bytearray | memoryview) -> _Self:
        """Return what `to_bytes` was called on.

        Parameters
        ----------
        data : bytes-like

        Returns
        -------
        Moments

        Raises
        ------
        TypeError, ValueError
            `data` is not bytes-like, or not what `to_bytes` gives: in its first bytes, its version, or its length.
        """
        try:
            data = bytes(memoryview(data))
        except TypeError:
            raise TypeError(
                f"data is a {type(data).__name__}, expected bytes, as to_bytes returns them"
            ) from None
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise ValueError(
                f"data begins with {data[:4]!r} ({len(data)} bytes), expected {_MAGIC!r} and a header"
            )
        _, version, channels = _HEADER.unpack_from(data)
        _check_version("data", version)
        length = _HEADER.size + channels * _CHANNEL.itemsize
        if len(data) != length:
            raise ValueError(f"data has {len(data)} bytes, expected {length} for {channels} channels")
        found = np.frombuffer(data, _CHANNEL, offset=_HEADER.size)
        return cls._from_arrays("data", {name: found[name] for name in State._fields})

    def save(self, file: str | PathLike[str] | IO[bytes]) -> None:
        """Write everything it holds, exactly, to an npz file: an array (C,) for each of counts, mean, … and the version.

        Parameters
        ----------
        file : path or binary file
            As `numpy.savez` takes it: a path without the suffix .npz gets it.
        """
        np.savez(file, version=np.int64(_VERSION), **self._state._asdict())

    @classmethod
    def load(cls: type[_Self], file: str | PathLike[str] | IO[bytes]) -> _Self:
        """Return what `save` was called on.

        Parameters
        ----------
        file : path or binary file

        Returns
        -------
        Moments

        Raises
        ------
        ValueError
            The file is not what `save` writes.
        """
        loaded = np.load(file, allow_pickle=False)
        expected = ["version", *State._fields]
        names = getattr(loaded, "files", None)
        if names is None or sorted(names) != sorted(expected):
            raise ValueError(f"file has the arrays {names}, expected {expected}, as save writes them")
        with loaded:
            arrays = {name: loaded[name] for name in expected}
        _check_version("file", arrays.pop("version"))
        return cls._from_arrays("file", arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    @classmethod
    def _from_arrays(cls: type[_Self], source: str, arrays: Mapping[str, Array]) -> _Self:
        shapes = {values.shape for values in arrays.values()}
        if len(shapes) > 1 or len(shapes.pop()) != 1:
            raise ValueError(f"{source} has arrays that are not all of one shape (C,)")
        for name, values in arrays.items():
            if values.dtype.newbyteorder("<") != _CHANNEL[name]:
                raise ValueError(f"{source} has {name} as {values.dtype}, expected {_CHANNEL[name].name}")
        if np.any(arrays["counts"] < 0):
            raise ValueError(f"{source} has a count of {arrays['counts'].min()}, expected at least 0")
        result = cls()
        native = {name: values.astype(values.dtype.newbyteorder("=")) for name, values in arrays.items()}
        result._state = State(**native)
        return result

    def _statistics(self) -> Statistics:
        """As the norms take them, the tail of the mean included."""
        return Statistics(self._state.mean, self._state.mean_rest, self.var())

    def _copy(self: _Self) -> _Self:
        result = type(self)()
        result._state = self._state
        return result


def _check_version(source: str, version: Any) -> None:
    if version != _VERSION:
        raise ValueError(f"{source} is of version {version}, expected {_VERSION}: a newer fastnorm wrote it")
