"""PCA and ZCA whitening: against the definition, batch by batch, back again, and as scikit-learn's estimators."""

import pickle
import sys
import warnings

import numpy as np
import pytest

from fastnorm.reference.whitening import whitening_of_features
from fastnorm.whitening import PCAWhitening, ZCAWhitening

from .checks import DTYPES
from .oracle import ZOO

BOTH = [PCAWhitening, ZCAWhitening]


@pytest.fixture
def x(rng):
    """Features that are mixed of some whose variances differ by a factor of 4 each, far from 0."""
    mix = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    return 1000 + rng.standard_normal((500, 6)) @ np.diag([32, 16, 8, 4, 2, 1]) @ mix


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BOTH)
def test_definition(kind, dtype, x):
    x = x.astype(dtype)
    found = kind(eps=0.5).fit(x)
    mean, matrix, variance = whitening_of_features(x, zca=kind is ZCAWhitening, eps=0.5)
    y = found.transform(x)
    # The variances are up to 1000 times the smallest and 1.3 times their gaps: to as many roundings.
    rtol = 16 * 1000 * np.finfo(dtype).eps
    assert np.allclose(found.mean_, mean, rtol=1e-8) and np.allclose(
        found.explained_variance_, variance, rtol=rtol
    )
    assert np.allclose(found.whitening_, matrix, rtol=rtol, atol=rtol)
    assert np.allclose(y, (x.astype(np.float64) - mean) @ matrix.T, rtol=rtol, atol=4 * rtol)
    assert y.dtype == dtype and found.mean_.dtype == found.whitening_.dtype == np.float64
    assert found.n_samples_seen_ == 500 and found.n_features_in_ == 6


@pytest.mark.parametrize("kind", BOTH)
def test_whitened_features_are_white(kind, x):
    y = kind(eps=0).fit_transform(x)
    assert np.allclose(y.mean(0), 0, atol=1e-10)
    assert np.allclose(np.cov(y.T), np.eye(6), atol=1e-10)


@pytest.mark.parametrize("kind", BOTH)
def test_batches_are_as_one(kind, x):
    whole, parts = kind().fit(x), kind()
    for batch in np.split(x, [1, 3, 200, 201, 450]):
        parts.partial_fit(batch)
    assert parts.n_samples_seen_ == 500
    for name in ("mean_", "explained_variance_", "components_", "whitening_"):
        assert np.allclose(getattr(parts, name), getattr(whole, name), rtol=1e-11, atol=1e-11), name
    assert np.array_equal(parts.fit(x).whitening_, whole.whitening_), "fit forgets"


@pytest.mark.parametrize("kind", BOTH)
def test_back_again(kind, x):
    whitening = kind().fit(x)
    assert np.allclose(whitening.inverse_transform(whitening.transform(x)), x, rtol=1e-12)


def test_components(x):
    """Those kept are the first of all, and lose what the others had."""
    every, some = PCAWhitening(eps=0).fit(x), PCAWhitening(2, eps=0).fit(x)
    assert np.array_equal(some.components_, every.components_[:2])
    y = some.transform(x)
    assert y.shape == (500, 2) and np.allclose(y, every.transform(x)[:, :2])
    lost = np.sum((some.inverse_transform(y) - x) ** 2) / 499
    assert np.isclose(lost, every.explained_variance_[2:].sum())


@pytest.mark.parametrize("kind", BOTH)
def test_directions_without_variance(kind, x, rng):
    """A feature is constant, and others are sums: what rounding leaves of their variance is whitened to nothing."""
    x = np.hstack([x, x @ rng.standard_normal((6, 6)), np.full((500, 1), 7.0)])
    whitening = kind(eps=0).fit(x)
    y = whitening.transform(x)
    assert np.isclose(np.trace(np.cov(y.T)), 6)
    assert np.allclose(whitening.inverse_transform(y), x, rtol=1e-9)


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("kind", BOTH)
def test_any_memory(kind, memory, x):
    kept, wanted = x.copy(), kind().fit(x)
    assert np.allclose(kind().fit(ZOO[memory](x)).whitening_, wanted.whitening_, rtol=1e-10, atol=1e-13)
    assert np.allclose(wanted.transform(ZOO[memory](x)), wanted.transform(x), rtol=1e-10, atol=1e-12)
    assert np.array_equal(x, kept)


@pytest.mark.parametrize("kind", BOTH)
def test_many_features(kind, rng):
    """More than are cut into pieces, in several blocks; integers are taken as float64."""
    x = rng.integers(-100, 100, (2500, 150))
    y = kind(eps=0).fit_transform(x)
    assert np.allclose(np.cov(y.T), np.eye(150), atol=1e-10)


@pytest.mark.parametrize("kind", BOTH)
def test_a_failed_fit_learns_nothing(kind, x):
    whitening = kind().fit(x)
    before = whitening.whitening_
    for wrong, message in (
        (x[:, :3], "X has 3 features, but .* is expecting 6 features"),
        (np.where(x == x.max(), np.nan, x), "X has NaN or inf"),
    ):
        with pytest.raises(ValueError, match=message):
            whitening.partial_fit(wrong)
    assert whitening.n_samples_seen_ == 500 and whitening.whitening_ is before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 7}, "n_components is 7, expected from 1 to 6: X has 6 features"),
        ({"n_components": 0}, "n_components is 0, expected from 1 to 6"),
        ({"n_components": 0.9}, "n_components is 0.9, expected an integer or None"),
        ({"eps": "small"}, "eps is 'small', expected a number"),
    ],
)
def test_wrong_parameters_name_themselves(options, message, x):
    with pytest.raises((TypeError, ValueError), match=message):
        PCAWhitening(**options).fit(x)


@pytest.mark.parametrize("kind", BOTH)
def test_pickled(kind, x):
    whitening = pickle.loads(pickle.dumps(kind().partial_fit(x[:100])))
    assert np.array_equal(
        whitening.partial_fit(x[100:]).mean_, kind().partial_fit(x[:100]).partial_fit(x[100:]).mean_
    )


def test_parameters(x):
    whitening = PCAWhitening(2, eps=0.25)
    assert repr(whitening) == "PCAWhitening(n_components=2, eps=0.25)"
    assert PCAWhitening(**whitening.get_params()).get_params() == {"n_components": 2, "eps": 0.25}
    assert whitening.set_params(n_components=3).fit_transform(x).shape == (500, 3)
    with pytest.raises(
        ValueError, match=r"ZCAWhitening has no parameter 'n_components', expected one of \['eps'\]"
    ):
        ZCAWhitening().set_params(n_components=2)


def test_not_fitted_without_scikit_learn(monkeypatch, x):
    monkeypatch.delitem(sys.modules, "sklearn.exceptions", raising=False)
    for call in (ZCAWhitening().transform, ZCAWhitening().inverse_transform):
        with pytest.raises(ValueError, match="ZCAWhitening is not fitted yet: call fit"):
            call(x)


@pytest.mark.parametrize("whitening", [PCAWhitening(), PCAWhitening(1), ZCAWhitening()], ids=repr)
def test_scikit_learn_takes_them(whitening):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no BaseEstimator, and which checks are skipped
        checks.check_estimator(whitening)


# -- Names of features ---------------------------------------------------------------------------------------


class Frame:
    """As much of a DataFrame as estimators look at."""

    def __init__(self, x, columns):
        self._x, self.columns = x, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._x, dtype)


NAMES = np.array(["a", "b", "c", "d", "e", "f"], object)


def test_names_are_learnt_and_held_to(x):
    """In scikit-learn's words, which its `check_estimator` looks for where pandas is installed."""
    names = list(NAMES)
    for estimator in (PCAWhitening(2), ZCAWhitening()):
        for fit in (estimator.fit, estimator.partial_fit):
            fit(Frame(x, names))
            assert estimator.feature_names_in_.dtype == object and list(estimator.feature_names_in_) == names
            assert np.array_equal(estimator.transform(Frame(x, names)), estimator.transform(Frame(x, names)))
            message = "The feature names should match those that were passed during fit.\n"
            for wrong, text in (
                (names[::-1], "Feature names must be in the same order as they were in fit."),
                ([*names[:4], "y", "z"], "Feature names unseen at fit time:\n- y\n- z\n"),
                (["e", *names[1:]], "Feature names seen at fit time, yet now missing:\n- a\n"),
            ):
                for call in (estimator.transform, estimator.partial_fit):
                    with pytest.raises(ValueError, match=message) as caught:
                        call(Frame(x, wrong))
                    assert text in str(caught.value)
            for call in (estimator.transform, estimator.partial_fit):
                with pytest.warns(UserWarning, match="X does not have valid feature names, but") as caught:
                    call(x)
                assert type(estimator).__name__ in str(caught[0].message)
        estimator.fit(x)
        assert not hasattr(estimator, "feature_names_in_")
        with pytest.warns(UserWarning, match="X has feature names, but .* was fitted without feature names"):
            estimator.transform(Frame(x, names))
        estimator.fit(Frame(x, range(6)))  # no names
        assert not hasattr(estimator, "feature_names_in_")
        with pytest.raises(TypeError, match="Feature names are only supported if all input features"):
            estimator.fit(Frame(x, [*names[:5], 6]))


def test_names_of_results(x):
    zca, pca = ZCAWhitening(), PCAWhitening(2)
    with pytest.raises(ValueError, match="fitted"):
        zca.get_feature_names_out()
    assert list(zca.fit(x).get_feature_names_out()) == ["x0", "x1", "x2", "x3", "x4", "x5"]
    assert np.array_equal(zca.get_feature_names_out(NAMES), NAMES)
    with pytest.raises(ValueError, match="input_features should have length equal to number of features"):
        zca.get_feature_names_out(NAMES[:5])
    assert np.array_equal(zca.fit(Frame(x, NAMES)).get_feature_names_out(), NAMES)
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        zca.get_feature_names_out(NAMES[::-1])
    assert list(pca.fit(Frame(x, NAMES)).get_feature_names_out()) == ["pcawhitening0", "pcawhitening1"]
