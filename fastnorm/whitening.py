"""PCA and ZCA whitening of features, fitted all at once or batch by batch."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._estimator import Transformer, names_of
from .functional._flow.results import new
from .functional._whitening.affine import Affine
from .functional._whitening.blocks import crew, cut
from .functional._whitening.scatter import Scatter, loader, scatter

Array = NDArray[Any]
_Self = TypeVar("_Self", bound="_Whitening")


class _Whitening(Transformer):
    """Features without correlation and of variance 1, and the state that this takes."""

    _turned_back: ClassVar[bool]  # from the principal axes to those of the features

    eps: float
    n_components: int | None = None
    mean_: Array
    components_: Array
    explained_variance_: Array
    whitening_: Array
    n_samples_seen_: int
    _coloring: Array
    _scatter: Scatter

    def fit(self: _Self, X: ArrayLike, y: Any = None) -> _Self:
        """Learn mean and covariance of X, and forget what was learnt before.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Taken as float64, unless it is float32.
        y : ignored

        Returns
        -------
        the estimator
        """
        names = names_of(X)
        return self._learn(self._features(X), None)._name_features(names)

    def partial_fit(self: _Self, X: ArrayLike, y: Any = None) -> _Self:
        """Learn from X as well: after all batches, what `fit` learns of them as one, but for roundings.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        the estimator
        """
        if not hasattr(self, "_scatter"):
            return self.fit(X)
        return self._learn(self._fitted_features(X), self._scatter)

    def transform(self, X: ArrayLike) -> Array:
        """Whiten X: (X - mean_) @ whitening_.T.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_components), of float64, or of float32 where X is
        """
        x = self._fitted_features(X)
        return _mapped(x, self.mean_, self.whitening_, np.zeros(len(self.whitening_)))

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Undo `transform`, as far as components were kept.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_components)

        Returns
        -------
        array of shape (n_samples, n_features), of float64, or of float32 where X is
        """
        self._check_fitted()
        x = self._features(X, len(self.whitening_))
        return _mapped(x, np.zeros(len(self.whitening_)), self._coloring, self.mean_)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of what `transform` makes: the features' own, or of principal axes "pcawhitening0" and so on.

        Parameters
        ----------
        input_features : array_like of str, optional
            The features' names, where X had none; else they must be those that it had.

        Returns
        -------
        array of str
        """
        names = self._names_in(input_features)
        if self._turned_back:
            return names
        prefix = type(self).__name__.lower()
        return np.asarray([f"{prefix}{i}" for i in range(len(self.whitening_))], object)

    def _learn(self: _Self, x: Array, before: Scatter | None) -> _Self:
        """Take up x, and set every attribute anew."""
        size = x.shape[1]
        eps, kept = _checks.eps(self.eps), _kept(self.n_components, size)
        blocks = cut(x, 1, 1)
        with crew(blocks, size, size) as workers:
            total = scatter(workers, x.dtype, loader(blocks.view(x)))
        total = total if before is None else before.merged(total)
        values, components = _principal(total.matrix[0] / max(total.positions - 1, 1), kept)
        variance = values + eps
        # Where there is none but what rounding makes of 0, whitening gives 0, and its inverse the mean.
        real = variance > size * np.finfo(np.float64).eps * variance.max()
        spread = np.sqrt(np.where(real, variance, np.inf))[:, np.newaxis]
        back = components.T if self._turned_back else np.eye(kept)
        self.n_features_in_, self.n_samples_seen_, self._scatter = size, total.positions, total
        self.mean_, self.components_, self.explained_variance_ = total.mean[0], components, values
        self.whitening_ = back @ (components / spread)
        self._coloring = (components * np.where(real[:, np.newaxis], spread, 0)).T @ back.T
        return self


class PCAWhitening(_Whitening):
    r"""PCA whitening: features turned to their principal axes, each to variance 1.

    .. math:: y = \mathrm{diag}(\lambda + \mathrm{eps})^{-1/2}\, U^\top (x - \mathrm{mean}), \quad
              \Sigma = U \mathrm{diag}(\lambda)\, U^\top

    with the (unbiased) covariance :math:`\Sigma` of the features, its largest eigenvalues first. The interface is
    scikit-learn's, which need not be installed.

    Parameters
    ----------
    n_components : int or None
        How many axes are kept; None means all.
    eps : float
        Added to the eigenvalues: directions of less variance are not made as large as others.

    Attributes
    ----------
    mean_ : (n_features,) float64
    components_ : (n_components, n_features) float64
        The principal axes, in each the largest element above 0.
    explained_variance_ : (n_components,) float64
        The eigenvalues.
    whitening_ : (n_components, n_features) float64
        What `transform` multiplies by.
    n_samples_seen_, n_features_in_ : int
    feature_names_in_ : array of str
        Where X had such names.

    References
    ----------
    Kessy, Lewin, Strimmer, "Optimal Whitening and Decorrelation", 2018, https://arxiv.org/abs/1512.00809

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.whitening import PCAWhitening
    >>> x = np.array([[3.0, 3], [1, 3], [-1, -3], [-3, -3]])
    >>> whitening = PCAWhitening(n_components=1, eps=0).fit(x)
    >>> whitening.transform(x).round(3)
    array([[ 0.994],
           [ 0.716],
           [-0.716],
           [-0.994]])
    >>> whitening.inverse_transform(whitening.transform(x)).round(1)
    array([[ 2.4,  3.4],
           [ 1.8,  2.4],
           [-1.8, -2.4],
           [-2.4, -3.4]])
    """

    _turned_back = False

    def __init__(self, n_components: int | None = None, *, eps: float = 1e-5) -> None:
        self.n_components = n_components
        self.eps = eps


class ZCAWhitening(_Whitening):
    r"""ZCA whitening: of all whitened features those that are nearest to the features as they were.

    .. math:: y = (\Sigma + \mathrm{eps} \cdot I)^{-1/2} (x - \mathrm{mean})

    with the (unbiased) covariance :math:`\Sigma` of the features, and the symmetric root. The interface is
    scikit-learn's, which need not be installed.

    Parameters
    ----------
    eps : float
        Added to the eigenvalues: directions of less variance are not made as large as others.

    Attributes
    ----------
    mean_ : (n_features,) float64
    components_ : (n_features, n_features) float64
        The principal axes, in each the largest element above 0.
    explained_variance_ : (n_features,) float64
        The eigenvalues.
    whitening_ : (n_features, n_features) float64
        What `transform` multiplies by; symmetric.
    n_samples_seen_, n_features_in_ : int
    feature_names_in_ : array of str
        Where X had such names.

    References
    ----------
    Bell, Sejnowski, "The 'Independent Components' of Natural Scenes are Edge Filters", 1997; Kessy, Lewin, Strimmer,
    "Optimal Whitening and Decorrelation", 2018, https://arxiv.org/abs/1512.00809

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.whitening import ZCAWhitening
    >>> x = np.array([[3.0, 3], [1, 3], [-1, -3], [-3, -3]])
    >>> ZCAWhitening(eps=0).fit_transform(x).round(3)
    array([[ 1.162,  0.387],
           [-0.387,  1.162],
           [ 0.387, -1.162],
           [-1.162, -0.387]])
    """

    _turned_back = True

    def __init__(self, *, eps: float = 1e-5) -> None:
        self.eps = eps


def _kept(n_components: Any, size: int) -> int:
    """How many of `size` components to keep."""
    if n_components is None:
        return size
    if isinstance(n_components, bool) or not isinstance(n_components, int | np.integer):
        raise TypeError(f"n_components is {_checks.shown(n_components)}, expected an integer or None")
    if not 1 <= n_components <= size:
        raise ValueError(f"n_components is {n_components}, expected from 1 to {size}: X has {size} features")
    return int(n_components)


def _principal(covariance: Array, kept: int) -> tuple[Array, Array]:
    """The largest eigenvalues, in falling order, and in rows their eigenvectors, the largest element of each above 0."""
    values, vectors = np.linalg.eigh(covariance)
    rows = vectors.T[::-1][:kept]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, np.newaxis], 1)
    return np.maximum(values[::-1][:kept], 0), rows * np.copysign(1, largest)


def _mapped(x: Array, mean: Array, matrix: Array, shift: Array) -> Array:
    """(x - mean) @ matrix.T + shift."""
    blocks = cut(x, 1, 1)
    result = new(np.empty((len(x), len(matrix)), x.dtype))
    with crew(blocks, *matrix.shape) as workers:
        line = Affine(
            blocks, x.dtype, [blocks.view(x)], mean[np.newaxis], matrix[np.newaxis], shift[np.newaxis]
        )
        line.write(workers, blocks.view(result))
    return result
