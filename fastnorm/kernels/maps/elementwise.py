"""The maps of elementwise norms: what each does to a vector of elements, given a vector of each coefficient."""

from functools import cache

from ..._jit import step
from ..activations import FUNCTIONS, sigmoid, sigmoid_derivative, silu, silu_derivative
from ..language.vecmath import tanh, tanh_and_slope
from ..language.vectors import fma, if_less, number_like, wide
from .map import Map

# -- Dynamic tanh ----------------------------------------------------------------------------------------------------


@cache
def dynamic_tanh(activation: str | None) -> tuple[Map, Map]:
    """The maps forward and backward, with an activation of the result."""
    value, derivative = FUNCTIONS[activation]

    @step
    def _dynamic_tanh(x, alpha, weight, bias):
        return (value(fma(tanh(alpha * x), weight, bias)),)

    @step
    def _dynamic_tanh_backward(dy, x, alpha, weight, bias):
        y, slope = tanh_and_slope(alpha * x)
        g = dy * derivative(fma(y, weight, bias))
        dz = g * weight * slope
        return dz * alpha, dz * x, g * y, g

    variant = "" if activation is None else f"_{activation}"
    forward = Map(_dynamic_tanh, inputs=1, outputs=1, variant=variant)
    return forward, Map(_dynamic_tanh_backward, inputs=2, outputs=1, sums=3, variant=variant)


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


# -- EvoNorm S0: x·σ(v·x), divided by a group's standard deviation -----------------------------------------------------


@step
def _evo_s0(x, v, scale, bias):
    return (fma(x * sigmoid(v * x), scale, bias),)


@step
def _evo_s0_sums(dy, x, v):
    z = v * x
    return dy * (x * sigmoid(z)), dy, dy * x * (x * sigmoid_derivative(z))


@step
def _evo_s0_gradient(dy, x, v, scale, high, rstd, of_x, shift):
    """`scale` of what comes through the numerator; `of_x` and `shift` of what comes through the deviation."""
    x_hat = (x - high) * rstd
    return (fma(dy * scale, silu_derivative(v * x), fma(of_x, x_hat, shift)),)


EVO_S0 = Map(_evo_s0, inputs=1, outputs=1)
EVO_S0_SUMS = Map(_evo_s0_sums, inputs=2, outputs=0, sums=3)
EVO_S0_GRADIENT = Map(_evo_s0_gradient, inputs=2, outputs=1)


# -- EvoNorm B0: x over the greater of the batch's deviation and the instance's plus v·x -----------------------------------


@step
def _evo_b0_ratio(x, v, batch, instance):
    """x over its divisor, the divisor, and the instance's term in it."""
    term = fma(v, x, instance)
    divisor = if_less(batch, term, term, batch)
    return x / divisor, divisor, term


@step
def _evo_b0(x, v, batch, instance, weight, bias):
    ratio, _, _ = _evo_b0_ratio(x, v, batch, instance)
    return (fma(ratio, weight, bias),)


@step
def _evo_b0_sums(dy, x, v, batch, instance):
    ratio, divisor, term = _evo_b0_ratio(x, v, batch, instance)
    product, zero = dy * ratio, number_like(dy, 0)
    of_divisor = product / divisor
    of_instance = if_less(batch, term, of_divisor, zero)
    return product, dy, of_instance, of_divisor - of_instance, if_less(batch, term, product * ratio, zero)


@step
def _evo_b0_gradient(dy, x, v, batch, instance, weight, high, rstd, of_x, shift):
    """`of_x` and `shift` of what comes through the deviations."""
    ratio, divisor, term = _evo_b0_ratio(x, v, batch, instance)
    one = number_like(x, 1)
    direct = dy * weight / divisor * if_less(batch, term, fma(-v, ratio, one), one)
    return (direct + fma(of_x, (x - high) * rstd, shift),)


EVO_B0 = Map(_evo_b0, inputs=1, outputs=1)
EVO_B0_SUMS = Map(_evo_b0_sums, inputs=2, outputs=0, sums=5)
EVO_B0_GRADIENT = Map(_evo_b0_gradient, inputs=2, outputs=1)


# -- RMS norm of x·silu(gate), or gated by it afterwards -----------------------------------------------------------------


@step
def _gated_square(gate, x):
    gated = wide(x * silu(gate))
    return (gated * gated,)


@step
def _gated(gate, x):
    gated = x * silu(gate)
    return gated, gated * gated


@step
def _gated_rms(gate, x, rstd, weight):
    return (x * silu(gate) * rstd * weight,)


@step
def _scaled(x, rstd, weight):
    return (x * rstd * weight,)


@step
def _gated_rms_sums(dy, gate, x, weight):
    return (dy * weight * (x * silu(gate)),)


@step
def _gated_rms_gradient(dy, gate, x, rstd, weight, mean):
    opened = silu(gate)
    x_hat = x * opened * rstd
    gated = (dy * weight - x_hat * mean) * rstd
    return gated * opened, gated * x * silu_derivative(gate), dy * x_hat


@step
def _rms_gated(gate, x, rstd, weight):
    return (x * rstd * weight * silu(gate),)


@step
def _rms_gated_sums(dy, gate, x, weight):
    return (dy * silu(gate) * weight * x,)


@step
def _rms_gated_gradient(dy, gate, x, rstd, weight, mean):
    x_hat, g = x * rstd, dy * silu(gate)
    return (g * weight - x_hat * mean) * rstd, dy * weight * x_hat * silu_derivative(gate), g * x_hat


GATED_SQUARE = Map(_gated_square, inputs=2, outputs=0, sums=1, precise=True)
GATED = Map(_gated, inputs=2, outputs=1, sums=1)
SCALED = Map(_scaled, inputs=1, outputs=1)
GATED_RMS = Map(_gated_rms, inputs=2, outputs=1)
GATED_RMS_SUMS = Map(_gated_rms_sums, inputs=3, outputs=0, sums=1)
GATED_RMS_GRADIENT = Map(_gated_rms_gradient, inputs=3, outputs=2, sums=1)
RMS_GATED = Map(_rms_gated, inputs=2, outputs=1)
RMS_GATED_SUMS = Map(_rms_gated_sums, inputs=3, outputs=0, sums=1)
RMS_GATED_GRADIENT = Map(_rms_gated_gradient, inputs=3, outputs=2, sums=1)
