"""The standardizer: scikit-learn's own checks of estimators, and values beside those of its StandardScaler."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnorm.moments import Moments
from fastnorm.standardizer import Standardizer

from .oracle import FORWARD_ROUNDINGS, ZOO, roundings

SWITCHES = [{}, {"with_mean": False}, {"with_std": False}, {"with_mean": False, "with_std": False}]
# scikit-learn's own error: its means are sums of n terms, its results two roundings.
RTOL = {np.float64: 1e-12, np.float32: 1e-5}


def features(rng, dtype=np.float64):
    return (rng.uniform(-9, 9, 5) + rng.uniform(0.1, 4, 5) * rng.standard_normal((60, 5))).astype(dtype)


@parametrize_with_checks([Standardizer(), Standardizer(with_mean=False), Standardizer(with_std=False)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_equals_standard_scaler(switches, dtype, rng):
    x = features(rng, dtype)
    x[:, 2] = 7
    theirs, ours = StandardScaler(**switches), Standardizer(**switches)
    expected, y = theirs.fit_transform(x), ours.fit_transform(x)
    assert y.dtype == expected.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=RTOL[dtype], atol=RTOL[dtype])
    np.testing.assert_allclose(ours.inverse_transform(y), x, rtol=RTOL[dtype], atol=RTOL[dtype])
    for name in ("mean_", "var_", "scale_", "n_samples_seen_", "n_features_in_"):
        wanted, found = getattr(theirs, name), getattr(ours, name)
        assert (wanted is None) == (found is None), name
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, rtol=RTOL[dtype], atol=RTOL[dtype], err_msg=name)
    assert np.array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


@pytest.mark.parametrize("dtype", RTOL)
def test_accuracy(dtype, rng):
    """To the contract's bound where a mean that is rounded to float64, or to float32, costs 1e4 roundings of the result."""
    x = (1e5 + rng.standard_normal((500, 3))).astype(dtype)
    wide = x.astype(np.longdouble) - 100000
    exact = (wide - wide.mean(0)) / wide.std(0)
    assert roundings(Standardizer().fit_transform(x), exact, dtype) <= FORWARD_ROUNDINGS


def test_in_parts_and_by_several(rng):
    x = features(rng)
    whole = Standardizer().fit(x)
    parts = Standardizer()
    for part in np.split(x, [1, 20]):
        assert parts.partial_fit(part) is parts
    several = Standardizer().fit(x[:20])
    several.moments_ += Standardizer().fit(x[20:]).moments_
    for scaler in (parts, several):
        assert scaler.n_samples_seen_ == 60
        np.testing.assert_allclose(scaler.transform(x), whole.transform(x), rtol=1e-13, atol=1e-14)
    assert parts.fit(x[:20]).n_samples_seen_ == 20


def test_missing_values_are_left_out(rng):
    x = features(rng)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 3] = features(rng)[:, 3]
    theirs, ours = StandardScaler(), Standardizer()
    for part in np.split(x, [30, 31]):
        theirs.partial_fit(part)
        ours.partial_fit(part)
    assert np.array_equal(ours.n_samples_seen_, theirs.n_samples_seen_)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(x)), x, rtol=1e-13)


def test_constants_are_exactly_0_and_what_only_looks_constant_is_not():
    """A feature of whatever size is scaled by 1 where it has no variance, and there alone."""
    x = np.array([[1e30, 0.1, 1e8], [1e30, 0.1, 1e8 + 1e-7]])
    scaler = Standardizer().fit(x)
    assert np.array_equal(scaler.scale_[:2], [1, 1])
    assert np.array_equal(scaler.transform(x)[:, :2], np.zeros((2, 2)))
    assert scaler.transform(x)[1, 2] == 1


def test_bad_input_changes_nothing(rng):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    x = features(rng)
    scaler = Standardizer().fit(x)
    before = scaler.moments_
    infinite, narrow = np.where(x == x[3, 1], np.inf, x), x[:, :4]
    for bad, error, message in (
        (infinite, ValueError, "infinity"),
        (narrow, ValueError, "X has 4 features, but Standardizer is expecting 5 features as input"),
        (scipy_sparse.csr_array(x), TypeError, "Sparse data was passed for X, but dense data is required"),
        (x[:0], ValueError, "minimum of 1 is required"),
        (x + 0j, ValueError, "Complex data not supported"),
    ):
        for method in (scaler.partial_fit, scaler.transform, scaler.inverse_transform):
            with pytest.raises(error, match=message):
                method(bad)
    assert scaler.moments_ == before
    with pytest.raises(AttributeError):
        Standardizer().mean_  # noqa: B018
    with pytest.raises(ValueError, match="not fitted"):
        Standardizer().transform(x)


def test_without_a_copy_it_writes_where_it_reads(rng):
    x = features(rng)
    expected = Standardizer().fit_transform(x)
    assert Standardizer(copy=False).fit_transform(x) is x
    assert np.array_equal(x, expected)
    integers = np.arange(10).reshape(5, 2)
    Standardizer(copy=False).fit_transform(integers)
    assert np.array_equal(integers.ravel(), np.arange(10))


@pytest.mark.parametrize("view", ZOO.values(), ids=ZOO)
def test_any_memory(view, rng):
    x = features(rng, np.float32)
    before = x.copy()
    scaler = Standardizer().fit(view(x))
    np.testing.assert_allclose(
        scaler.transform(view(x)), Standardizer().fit_transform(x), rtol=1e-5, atol=1e-6
    )
    assert np.array_equal(x, before)


def test_goes_along_with_scikit_learn(rng):
    x = features(rng)
    pipeline = make_pipeline(Standardizer(with_mean=False), StandardScaler(with_std=False))
    np.testing.assert_allclose(pipeline.fit_transform(x), StandardScaler().fit_transform(x), atol=1e-13)
    scaler = Standardizer(with_std=False).fit(x)
    assert repr(clone(scaler)) == repr(scaler) == "Standardizer(with_std=False)"
    again = pickle.loads(pickle.dumps(scaler))
    assert again.moments_ == scaler.moments_ and np.array_equal(again.transform(x), scaler.transform(x))
    assert isinstance(scaler.moments_, Moments)


def test_the_package_does_not_import_scikit_learn():
    code = "import fastnorm, fastnorm.moments, sys; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
