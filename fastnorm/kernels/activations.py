"""The activation fused into a norm: in-place loops over one block, forward and backward.

gelu, gelu_tanh and silu are z·G(z) with G the distribution function of an even density D. They are computed
from the tail T = 1 - G and from D at a = |z|, where nothing overflows and little cancels:

    G(z)        = T(a) if z < 0 else 1 - T(a)
    z·G(z)      = max(z, 0) - a·T(a)
    (z·G(z))'   = w if z < 0 else 1 - w,  w = T(a) - a·D(a)
"""

import math

from .._jit import routine, step
from .language.loads import number
from .language.vecmath import at_most, logistic_tail, normal_tail, tanh
from .language.vectors import fma, if_less, magnitude, number_like

NONE = 0
RELU = 1
GELU = 2
GELU_TANH = 3
SILU = 4
SIGMOID = 5
TANH = 6

CODES = {
    None: NONE,
    "relu": RELU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
}


# -- Distributions: (T(a), D(a)) for a >= 0 ------------------------------------------------------------------


@step
def _logistic(a):
    """T = 1/(1 + e^a)."""
    tail = logistic_tail(a)
    return tail, fma(-tail, tail, tail)


_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


@step
def _tanh_logistic(a):
    """T = (1 - tanh u)/2 = 1/(1 + e^2u) with 2u = 2·√(2/π)·(a + 0.044715·a³): near the normal tail."""
    linear, cubic, square = number_like(a, _LINEAR), number_like(a, _CUBIC), a * a
    tail, density = _logistic(a * fma(cubic, square, linear))
    return tail, density * fma(number_like(a, 3) * cubic, square, linear)


# -- One value -----------------------------------------------------------------------------------------------


@step
def _magnitude(z):
    """|z|, but finite: at 1024 every tail is 0 in both dtypes, and so is its product with a."""
    return at_most(1024, magnitude(z))


@step
def _below_or_above(z, w):
    """w if z < 0, else 1 - w."""
    return if_less(z, number_like(z, 0), w, number_like(z, 1) - w)


@step
def _identity(z):
    return z


@step
def _identity_derivative(z):
    return number_like(z, 1)


@step
def _relu(z):
    zero = number_like(z, 0)
    return if_less(z, zero, zero, z)


@step
def _relu_derivative(z):
    zero, one = number_like(z, 0), number_like(z, 1)
    return if_less(zero, z, one, if_less(z, one, zero, one))  # of NaN 1, as PyTorch has it


@step
def sigmoid(z):
    return _below_or_above(z, logistic_tail(_magnitude(z)))


@step
def sigmoid_derivative(z):
    return _logistic(_magnitude(z))[1]


@step
def _tanh_derivative(z):
    """tanh z = 2·sigmoid(2z) - 1; as 1 - tanh² it would cancel."""
    return number_like(z, 4) * sigmoid_derivative(number_like(z, 2) * z)


def _gated(distribution):
    """(z·G(z), its derivative)."""

    @step
    def value(z):
        a = _magnitude(z)
        tail, _ = distribution(a)
        return fma(-a, tail, _relu(z))

    @step
    def derivative(z):
        a = _magnitude(z)
        tail, density = distribution(a)
        return _below_or_above(z, fma(-a, density, tail))

    return value, derivative


silu, silu_derivative = _gated(_logistic)

# act and act' of a number, or of each in a vector.
FUNCTIONS = {
    None: (_identity, _identity_derivative),
    "relu": (_relu, _relu_derivative),
    "gelu": _gated(normal_tail),
    "gelu_tanh": _gated(_tanh_logistic),
    "silu": (silu, silu_derivative),
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (tanh, _tanh_derivative),
}

# -- One block: a loop per activation, so that each is vectorised --------------------------------------------


def _forward(value):
    @routine
    def loop(block, at, size):
        for i in range(at, at + size):
            block[i] = value(block[i])

    return loop


def _backward(derivative):
    @routine
    def loop(dy, at, z, size):
        for i in range(size):
            z[i] = number(dy, at + i) * derivative(z[i])

    return loop


def _both(name):
    value, derivative = FUNCTIONS[name]
    return _forward(value), _backward(derivative)


_, _identity_backward = _both(None)
_relu_forward, _relu_backward = _both("relu")
_gelu_forward, _gelu_backward = _both("gelu")
_gelu_tanh_forward, _gelu_tanh_backward = _both("gelu_tanh")
_silu_forward, _silu_backward = _both("silu")
_sigmoid_forward, _sigmoid_backward = _both("sigmoid")
_tanh_forward, _tanh_backward = _both("tanh")


@routine
def activate(block, at, size, code):
    """z → act(z), in place over block[at : at + size]."""
    if code == RELU:
        _relu_forward(block, at, size)
    elif code == GELU:
        _gelu_forward(block, at, size)
    elif code == GELU_TANH:
        _gelu_tanh_forward(block, at, size)
    elif code == SILU:
        _silu_forward(block, at, size)
    elif code == SIGMOID:
        _sigmoid_forward(block, at, size)
    elif code == TANH:
        _tanh_forward(block, at, size)


@routine
def activate_backward(dy, at, z, size, code):
    """z → dy·act'(z), or dy without an activation, in place over the first `size` numbers of z; dy's begin at dy[at]."""
    if code == NONE:
        _identity_backward(dy, at, z, size)
    elif code == RELU:
        _relu_backward(dy, at, z, size)
    elif code == GELU:
        _gelu_backward(dy, at, z, size)
    elif code == GELU_TANH:
        _gelu_tanh_backward(dy, at, z, size)
    elif code == SILU:
        _silu_backward(dy, at, z, size)
    elif code == SIGMOID:
        _sigmoid_backward(dy, at, z, size)
    elif code == TANH:
        _tanh_backward(dy, at, z, size)
