"""The maps of elementwise norms: what each does to a vector of elements, given a vector of each coefficient."""

from .._jit import step
from .maps import Map
from .vecmath import tanh, tanh_and_slope
from .vectors import fma, if_less, number_like

# -- Dynamic tanh ----------------------------------------------------------------------------------------------------


@step
def _dynamic_tanh(x, alpha, weight, bias):
    return (fma(tanh(alpha * x), weight, bias),)


@step
def _dynamic_tanh_backward(dy, x, alpha, weight):
    y, slope = tanh_and_slope(alpha * x)
    dz = dy * weight * slope
    return dz * alpha, dz * x, dy * y, dy


DYNAMIC_TANH = Map(_dynamic_tanh, inputs=1, outputs=1)
DYNAMIC_TANH_BACKWARD = Map(_dynamic_tanh_backward, inputs=2, outputs=1, sums=3)


# -- Filter response norm, with its thresholded linear unit ------------------------------------------------------------


@step
def _response(x, rstd, weight, bias):
    """x_hat, and what the threshold is put to."""
    x_hat = x * rstd
    return x_hat, fma(x_hat, weight, bias)


@step
def _passed(dy, z, tau):
    """The gradient, where the threshold lets it pass."""
    return if_less(tau, z, dy, number_like(dy, 0))


@step
def _filter_response(x, rstd, weight, bias, tau):
    _, z = _response(x, rstd, weight, bias)
    return (if_less(z, tau, tau, z),)


@step
def _filter_response_sums(dy, x, rstd, weight, bias, tau):
    x_hat, z = _response(x, rstd, weight, bias)
    g = _passed(dy, z, tau)
    return g * x_hat, g, dy - g


@step
def _filter_response_gradient(dy, x, rstd, weight, bias, tau, mean):
    x_hat, z = _response(x, rstd, weight, bias)
    return ((_passed(dy, z, tau) * weight - x_hat * mean) * rstd,)


FILTER_RESPONSE = Map(_filter_response, inputs=1, outputs=1)
FILTER_RESPONSE_SUMS = Map(_filter_response_sums, inputs=2, outputs=0, sums=3)
FILTER_RESPONSE_GRADIENT = Map(_filter_response_gradient, inputs=2, outputs=1)
