"""Readings to temperatures: a million at a time, on one core, beside thermocouples_reference and scipy's interpolation.

A figure is the processor's time per sample. thermocouples_reference solves the reference function one sample at a time,
so it gets two hundred of them; the interpolations have the printed table's knots, one a kelvin. Before the figures
stands how far each contestant is from the solution of the reference function at worst.

thermocouples_reference 0.20 (2014) asks numpy for arrays in a way that numpy 2 refuses; it gets one that agrees.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.interpolate
import thermocouples_reference
from _measure import OURS, Figure, Work, arguments, finish, header, measure

from calibration.rtd import Platinum
from calibration.sprt import Sprt
from calibration.thermocouple import Thermocouple

SAMPLES = 1_000_000
FEW = 200
GOAL = 1.0 / 20.0
JUNCTION = 22.0
Convert = Callable[[Any], Any]


def readings(low: float, high: float, curve: Thermocouple | Platinum | Sprt) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures all over a range, in no order, and what the sensor shows at each."""
    t = np.random.default_rng(0).uniform(low, high, SAMPLES)
    return t, curve.values(t)


def per_sample(convert: Convert, given: np.ndarray) -> Work:
    """Time one pass over `given`, in seconds per sample."""

    def work(count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            convert(given)
        return (time.process_time() - begun) / given.size

    return work


def one_by_one(solve: Callable[[float], float]) -> Convert:
    return lambda given: np.array([solve(float(y)) for y in given])


def spline(curve: Thermocouple | Platinum) -> Convert:
    """scipy's cubic spline through the table at every kelvin."""
    t = np.arange(np.ceil(curve.invertible[0]), curve.invertible[1] + 0.5)
    return scipy.interpolate.CubicSpline(curve.values(t), t)


def straight(curve: Thermocouple | Platinum) -> Convert:
    """numpy's linear interpolation in the table at every kelvin."""
    t = np.arange(np.ceil(curve.invertible[0]), curve.invertible[1] + 0.5)
    y = curve.values(t)
    return lambda given: np.interp(given, y, t)


def figure(
    what: str, t: np.ndarray, y: np.ndarray, contestants: dict[str, Convert], goal: dict[str, float], slow: str = ""
) -> Figure:
    """A figure; says of each contestant how wrong it is."""
    for name, convert in contestants.items():
        n = FEW if name == slow else SAMPLES
        error = np.abs(np.asarray(convert(y[:n])) - t[:n]).max()
        print(f"{what:34}{name:34}{1e3 * error:>12.3g} mK at worst")
    works = {name: per_sample(convert, y[:FEW] if name == slow else y) for name, convert in contestants.items()}
    return Figure(what, works, goal, fixed=1)


def figures() -> list[Figure]:
    """Everything measured."""
    out = []
    for letter, low, high in (("K", -200.0, 1300.0), ("S", -50.0, 1760.0)):
        sensor = Thermocouple(letter)
        theirs = thermocouples_reference.thermocouples[letter]
        t, y = readings(low, high, sensor)
        contestants: dict[str, Convert] = {
            f"{OURS} (solve)": sensor.solve,
            f"{OURS} (temperature, uncertainty)": lambda v, s=sensor: (
                s.temperature(v, 0.0, uncertainty=0.005, junction_uncertainty=0.3).value
            ),
            "thermocouples_reference": one_by_one(theirs.inverse_CmV),
            "scipy CubicSpline": spline(sensor),
            "numpy interp": straight(sensor),
        }
        contestants = {OURS: lambda v, s=sensor: s.inverse(v).value} | contestants
        goal = {"thermocouples_reference": GOAL}
        out.append(figure(f"type {letter}, mV to degC", t, y, contestants, goal, "thermocouples_reference"))
    sensor = Thermocouple("K")
    t, y = readings(-200.0, 1300.0, sensor)
    forward = {OURS: sensor.values, "thermocouples_reference": thermocouples_reference.thermocouples["K"].emf_mVC}
    out.append(Figure("type K, degC to mV", {n: per_sample(c, t) for n, c in forward.items()}, fixed=1))
    pt100 = Platinum()
    t, y = readings(-200.0, 850.0, pt100)
    contestants = {
        OURS: lambda v: pt100.inverse(v).value,
        f"{OURS} (solve)": pt100.solve,
        "scipy CubicSpline": spline(pt100),
        "numpy interp": straight(pt100),
    }
    out.append(figure("Pt100, ohm to degC", t, y, contestants, {}))
    sprt = Sprt(7, 25.5, (-2.98e-4, -2.35e-5, 5.06e-6))
    t, y = readings(0.0, 660.0, sprt)
    out.append(figure("SPRT, ohm to degC on the ITS-90", t, y, {OURS: lambda v: sprt.inverse(v).value}, {}))
    return out


class Numpy1:
    """numpy, but an array that can't be had without a copy is copied, as numpy 1 did."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def array(self, given: Any, **how: Any) -> np.ndarray:
        return np.array(given, **(how | {"copy": how.get("copy") or None}))


async def main() -> None:
    args = arguments(__doc__, rounds=15)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    thermocouples_reference.function_types.np = Numpy1()
    header("readings to temperatures", ("numpy", "scipy", "thermocouples-reference"))
    measured = [await measure(f, rounds=args.rounds, slice_=args.slice) for f in figures()]
    finish(measured, check=args.check)


if __name__ == "__main__":
    asyncio.run(main())
