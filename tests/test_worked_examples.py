"""The worked examples, with every value written out: what a reader checks with pencil and paper."""

import numpy as np
import pytest

import fastnorm

TABLE = np.array([[4, 3, 2], [3, 3, 2], [2, 2, 2]])
IMAGES = np.array([[[1, 4, 7], [0, 2, 4]], [[1, 3, 6], [2, 3, 1]]])  # two images of 2 x 3 pixels
EPS = 1e-30  # too small to show, large enough for a constant to give 0

a, b, c = np.sqrt(3 / 2), np.sqrt(1 / 2), np.sqrt(2)


@pytest.fixture(params=[np.float32, np.float64])
def dtype(request):
    return request.param


def _assert_equal(y, expected):
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(y.dtype).eps, atol=4 * np.finfo(y.dtype).eps)


def test_batch_norm_of_a_table(dtype):
    """Column means 3, 8/3, 2 and variances 2/3, 2/9, 0."""
    y, mean, rstd = fastnorm.batch_norm(TABLE.astype(dtype), training=True, eps=EPS, return_stats=True)
    _assert_equal(y, [[a, b, 0], [0, b, 0], [-a, -c, 0]])
    np.testing.assert_allclose(mean, [3, 8 / 3, 2], rtol=1e-7)
    np.testing.assert_allclose(rstd[:2], [np.sqrt(3 / 2), np.sqrt(9 / 2)], rtol=1e-7)


def test_layer_norm_of_a_table(dtype):
    """Row means 3, 8/3, 2 and variances 2/3, 2/9, 0."""
    y, mean, rstd = fastnorm.layer_norm(TABLE.astype(dtype), eps=EPS, return_stats=True)
    _assert_equal(y, [[a, 0, -a], [b, b, -c], [0, 0, 0]])
    np.testing.assert_allclose(mean, [3, 8 / 3, 2], rtol=1e-7)
    np.testing.assert_allclose(rstd[:2], [np.sqrt(3 / 2), np.sqrt(9 / 2)], rtol=1e-7)


def test_layer_norm_of_two_images(dtype):
    """Means 3 and 8/3; variances 16/3 and 26/9."""
    y, mean, rstd = fastnorm.layer_norm(IMAGES.astype(dtype), axis=(1, 2), eps=EPS, return_stats=True)
    first = np.array([[-2, 1, 4], [-3, -1, 1]]) * np.sqrt(3 / 16)
    second = np.array([[-5, 1, 10], [-2, 1, -5]]) / np.sqrt(26)
    _assert_equal(y, [first, second])
    np.testing.assert_allclose(mean, [3, 8 / 3], rtol=1e-7)
    np.testing.assert_allclose(rstd, [np.sqrt(3 / 16), np.sqrt(9 / 26)], rtol=1e-6)


def test_batch_norm_of_two_images_of_one_channel(dtype):
    """All twelve pixels share mean 17/6 and variance 146/12 - (17/6)² = 149/36."""
    y, mean, rstd = fastnorm.batch_norm(
        IMAGES[:, None].astype(dtype), training=True, eps=EPS, return_stats=True
    )
    sixths = np.array([[[-11, 7, 25], [-17, -5, 7]], [[-11, 1, 19], [-5, 1, -11]]])
    _assert_equal(y[:, 0], sixths / np.sqrt(149))
    np.testing.assert_allclose(mean, [17 / 6], rtol=1e-7)
    np.testing.assert_allclose(rstd, [6 / np.sqrt(149)], rtol=1e-6)


def test_batch_norm_of_two_images_of_two_channels(dtype):
    """Each row of an image is a channel: means 11/3 and 2; variances 47/9 and 5/3."""
    y, mean, _ = fastnorm.batch_norm(IMAGES.astype(dtype), training=True, eps=EPS, return_stats=True)
    upper = np.array([[-8, 1, 10], [-8, -2, 7]]) / np.sqrt(47)
    lower = np.array([[-2, 0, 2], [0, 1, -1]]) * np.sqrt(3 / 5)
    _assert_equal(y, np.stack([upper, lower], 1))
    np.testing.assert_allclose(mean, [11 / 3, 2], rtol=1e-7)


def test_instance_norm_of_two_images(dtype):
    """Each row of each image on its own: (1, 4, 7) and (0, 2, 4) are one pattern at two scales."""
    y = fastnorm.instance_norm(IMAGES.astype(dtype), eps=EPS)
    _assert_equal(y, [[[-a, 0, a], [-a, 0, a]], [np.array([-7, -1, 8]) / np.sqrt(38), [0, a, -a]]])


def test_group_norm_of_two_images_is_layer_norm_for_one_group(dtype):
    x = IMAGES.astype(dtype)
    _assert_equal(fastnorm.group_norm(x, 1, eps=EPS), fastnorm.layer_norm(x, axis=(1, 2), eps=EPS))
    _assert_equal(fastnorm.group_norm(x, 2, eps=EPS), fastnorm.instance_norm(x, eps=EPS))


def test_rms_norm_of_a_triangle(dtype):
    """The root mean square of (3, 4) is sqrt(25/2)."""
    _assert_equal(fastnorm.rms_norm(np.array([3, 4], dtype), eps=0), [0.6 * c, 0.8 * c])
