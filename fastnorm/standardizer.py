"""Standardization of features behind scikit-learn's interface: the one module that needs scikit-learn."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import FLOAT_DTYPES, assert_all_finite, check_is_fitted, validate_data

from .functional._flow import grid as _grid
from .moments import Moments

Array = NDArray[Any]
_Self = TypeVar("_Self", bound="Standardizer")


class Standardizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc] # both are untyped
    """Subtract the mean of every feature and divide by its standard deviation, as scikit-learn's `StandardScaler` does.

    Data larger than memory come in parts, by `partial_fit`; what several workers have seen is `a.moments_ + b.moments_`.
    NaN is a missing value: left out of the statistics, and kept in the result. Infinities and sparse matrices are refused.
    There are no sample weights.

    Parameters
    ----------
    copy : bool
        Whether `transform` and `inverse_transform` return a new array, or write to the one they are given, where that is an
        array of floats.
    with_mean : bool
        Whether to subtract the mean.
    with_std : bool
        Whether to divide by the standard deviation.

    Attributes
    ----------
    moments_ : Moments
        All that was learned.
    mean_ : float64 array (n_features,)
        None where neither `with_mean` nor `with_std` asks for it.
    var_ : float64 array (n_features,)
        The biased variance; None without `with_std`.
    scale_ : float64 array (n_features,)
        Its root, and 1 for a constant feature; None without `with_std`.
    n_samples_seen_ : int or int64 array (n_features,)
        An array where, for missing values, features differ in it.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X had such names.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.standardizer import Standardizer
    >>> X = np.array([[1, 10], [3, 10], [np.nan, 10]])
    >>> scaler = Standardizer()
    >>> scaler.fit_transform(X)
    array([[-1.,  0.],
           [ 1.,  0.],
           [nan,  0.]])
    >>> scaler.scale_, scaler.n_samples_seen_
    (array([1., 1.]), array([2, 3]))
    """

    moments_: Moments

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self: _Self, X: ArrayLike, y: Any = None) -> _Self:
        """Learn mean and standard deviation of every feature, and nothing else: what was learned before is forgotten.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Of float64, float32 or float16, or converted to float64.
        y : None
            Ignored.

        Returns
        -------
        Standardizer
            The object itself.
        """
        return self._learn(X, afresh=True)

    def partial_fit(self: _Self, X: ArrayLike, y: Any = None) -> _Self:
        """Learn from more samples.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        Standardizer
            The object itself.
        """
        return self._learn(X, afresh=not hasattr(self, "moments_"))

    def _learn(self: _Self, X: Any, afresh: bool) -> _Self:
        X = validate_data(self, X, dtype=FLOAT_DTYPES, ensure_all_finite=False, reset=afresh)
        found = Moments().update(X)
        # They tell of themselves whether X has to be looked through.
        if not np.isfinite(found.mean).all():
            assert_all_finite(X, allow_nan=True, input_name="X")
            found = Moments().update(X, mask=~np.isnan(X))
        self.moments_ = found if afresh else self.moments_ + found
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Standardize X.

        Parameters
        ----------
        X : array-like (n_samples, n_features)

        Returns
        -------
        array of X's shape, and of its dtype where that is floating
        """
        X = self._checked(X)
        found, none = self.moments_._statistics(), np.zeros(X.shape[1])
        mean, tail = (found.mean, found.tail) if self.with_mean else (none, none)
        variance = np.where(found.variance == 0, 1, found.variance) if self.with_std else none + 1
        return self._applied(X, _grid.Moments(mean, tail, variance))

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like (n_samples, n_features)

        Returns
        -------
        array of X's shape, and of its dtype where that is floating
        """
        X = self._checked(X)
        none = np.zeros(X.shape[1])
        mean = self.moments_.mean if self.with_mean else None
        return self._applied(X, _grid.Moments(none, none, none + 1), self.scale_, mean)

    def _checked(self, X: Any) -> Array:
        check_is_fitted(self)
        options = {"dtype": FLOAT_DTYPES, "ensure_all_finite": "allow-nan", "force_writeable": not self.copy}
        checked: Array = validate_data(self, X, reset=False, **options)
        return checked

    def _applied(
        self, X: Array, statistics: _grid.Moments, weight: Array | None = None, bias: Array | None = None
    ) -> Array:
        out = None if self.copy else X
        return _grid.apply(_grid.PER_CHANNEL, "NC", X, statistics, weight, bias, out=out)

    # What was learned --------------------------------------------------------------------------------------

    @property
    def mean_(self) -> Array | None:
        """The mean of every feature."""
        return self.moments_.mean if self.with_mean or self.with_std else None

    @property
    def var_(self) -> Array | None:
        """The biased variance of every feature."""
        return self.moments_.var() if self.with_std else None

    @property
    def scale_(self) -> Array | None:
        """By what every feature is divided."""
        std = self.moments_.std() if self.with_std else None
        return None if std is None else np.where(std == 0, 1, std)

    @property
    def n_samples_seen_(self) -> int | Array:
        """From how many samples the statistics are."""
        return self.moments_.count

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "float16"]
        return tags
