"""The general curves of which calibrations are made; a certificate stores their coefficients or points."""

from .base import Parametric
from .composed import Inverse, Logarithmic, Pieces
from .piecewise import Points, Spline, Table
from .polynomials import Chebyshev, Polynomial, Rational

__all__ = [
    "Chebyshev",
    "Inverse",
    "Logarithmic",
    "Parametric",
    "Pieces",
    "Points",
    "Polynomial",
    "Rational",
    "Spline",
    "Table",
]
