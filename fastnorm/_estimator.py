"""What scikit-learn asks of an estimator, by duck typing: its pipelines and searches take ours, which do not import it."""

from __future__ import annotations

import inspect
import sys
import warnings
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
_Self = TypeVar("_Self", bound="Transformer")


class Transformer:
    """An estimator that learns from features, X of shape (n_samples, n_features), and transforms them.

    Its parameters are the arguments of its `__init__`, under their names, and checked when it is fitted.
    """

    n_features_in_: int
    feature_names_in_: Array  # of a DataFrame that it was fitted to

    def fit(self: _Self, X: ArrayLike, y: Any = None) -> _Self:
        raise NotImplementedError

    def transform(self, X: ArrayLike) -> Array:
        raise NotImplementedError

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Array:
        """Fit to X and return it transformed."""
        return self.fit(X).transform(X)

    # Parameters --------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, by their names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self: _Self, **params: Any) -> _Self:
        """Set parameters by their names, and return the estimator."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}, expected one of {sorted(known)}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({values})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
        )

    # Features ----------------------------------------------------------------------------------------------

    def _features(self, X: Any, count: int | None = None) -> Array:
        """X as (n_samples, n_features) of float32 or float64, with a number of features if it is known."""
        if hasattr(X, "toarray"):
            raise TypeError("X is sparse, expected a dense array: X.toarray()")
        x = np.asarray(X)
        if x.dtype.kind == "c":
            raise ValueError(f"X has dtype {x.dtype}. Complex data not supported: X.real")
        if x.dtype != np.float32:
            x = x.astype(np.float64, copy=False)
        if x.ndim != 2:
            raise ValueError(
                f"X has shape {x.shape}. Expected 2D array, (n_samples, n_features). Reshape your data: "
                f"X.reshape(-1, 1) where it is one feature, X.reshape(1, -1) where it is one sample"
            )
        for length, what in zip(x.shape, ("sample", "feature"), strict=True):
            if length == 0:
                raise ValueError(f"X has 0 {what}(s) (shape={x.shape}) while a minimum of 1 is required.")
        if count is not None and x.shape[1] != count:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {count} features as input"
            )
        with np.errstate(all="ignore"):
            finite = np.isfinite(x.sum()) or np.isfinite(x).all()  # the sum is sooner there
        if not finite:
            raise ValueError("X has NaN or inf in it, expected finite numbers: X[np.isfinite(X).all(1)]")
        return x

    def _fitted_features(self, X: Any) -> Array:
        """X as the features that the estimator was fitted to."""
        self._check_fitted()
        self._check_names(X)
        return self._features(X, self.n_features_in_)

    def _name_features(self: _Self, names: Array | None) -> _Self:
        """Take up the names of the features that it was fitted to, or forget those of others."""
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def _check_names(self, X: Any) -> None:
        """Hold the columns of a DataFrame to those of the one it was fitted to."""
        given, known, own = names_of(X), getattr(self, "feature_names_in_", None), type(self).__name__
        if given is not None and known is None:
            _warn(f"X has feature names, but {own} was fitted without feature names")
        elif given is None and known is not None:
            _warn(f"X does not have valid feature names, but {own} was fitted with feature names")
        elif given is not None and known is not None and not np.array_equal(given, known):
            unseen, missing = sorted(set(given) - set(known)), sorted(set(known) - set(given))
            lines = ["The feature names should match those that were passed during fit."]
            if unseen:
                lines += ["Feature names unseen at fit time:", *_listed(unseen)]
            if missing:
                lines += ["Feature names seen at fit time, yet now missing:", *_listed(missing)]
            if not unseen and not missing:
                lines.append("Feature names must be in the same order as they were in fit.")
            raise ValueError("\n".join([*lines, ""]))

    def _names_in(self, input_features: Any) -> Array:
        """The names of the features that it was fitted to, x0 and so on without any; held to those that are given."""
        self._check_fitted()
        known = getattr(self, "feature_names_in_", None)
        if input_features is None:
            own = known if known is not None else [f"x{i}" for i in range(self.n_features_in_)]
            return np.asarray(own, object)
        given = np.asarray(input_features, object)
        if known is not None and not np.array_equal(given, known):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(given) != self.n_features_in_:
            raise ValueError(
                f"input_features should have length equal to number of features ({self.n_features_in_}), got {len(given)}"
            )
        return given

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_features_in_"):
            # scikit-learn's own, a ValueError as well, for those who may catch it.
            exceptions = sys.modules.get("sklearn.exceptions")
            error = ValueError if exceptions is None else exceptions.NotFittedError
            raise error(f"{type(self).__name__} is not fitted yet: call fit(X) first")


def names_of(X: Any) -> Array | None:
    """The names of the columns of a DataFrame, where they are strings."""
    names = np.asarray(getattr(X, "columns", ()), object)
    kinds = sorted({type(name).__name__ for name in names})
    if "str" in kinds and len(kinds) > 1:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{kinds} as feature name / column name types: X.columns = X.columns.astype(str)"
        )
    return names if kinds == ["str"] else None


_MOST_LISTED = 5


def _listed(names: list[str]) -> list[str]:
    lines = [f"- {name}" for name in names[:_MOST_LISTED]]
    return [*lines, "- ..."] if len(names) > _MOST_LISTED else lines


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=5)  # where transform or partial_fit is called
