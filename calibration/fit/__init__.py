"""Curves from calibration points: least squares with errors in x, y or both, robust if need be, with their band."""

from .diagnostics import Diagnostics
from .fitting import Fit, fit
from .forms import ChebyshevForm, Form, FunctionForm, PolynomialForm, RationalForm
from .selection import Selection, select

__all__ = [
    "ChebyshevForm",
    "Diagnostics",
    "Fit",
    "Form",
    "FunctionForm",
    "PolynomialForm",
    "RationalForm",
    "Selection",
    "fit",
    "select",
]
