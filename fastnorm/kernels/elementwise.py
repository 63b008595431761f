"""The maps of elementwise norms: what each does to a vector of elements, given a vector of each coefficient."""

from .._jit import step
from .maps import Map
from .vecmath import tanh, tanh_and_slope
from .vectors import fma

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
