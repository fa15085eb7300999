"""What is known of the error of a result: components, their propagation, and a budget a person can read (GUM)."""

from .budget import Budget, covariance, propagate
from .component import (
    Component,
    Quantity,
    drift,
    effective_dof,
    expanded,
    hysteresis,
    limits,
    pooled,
    readings,
    resolution,
    type_a,
)
from .monte_carlo import Trials
from .quantile import chi_square_tail, student
from .table import Line

__all__ = [
    "Budget",
    "Component",
    "Line",
    "Quantity",
    "Trials",
    "chi_square_tail",
    "covariance",
    "drift",
    "effective_dof",
    "expanded",
    "hysteresis",
    "limits",
    "pooled",
    "propagate",
    "readings",
    "resolution",
    "student",
    "type_a",
]
