"""The chip is not the specimen: from the heater's temperature to the specimen's, with what is not known of it.

A chip tells the temperature of its heater. The specimen lies on a thin membrane some way off, in gas that carries
heat to cold windows, and it touches the membrane more or less. Three differences, each with guessed constants:

1. Heater to the membrane under the specimen. A thin disc held at the heater's temperature along its rim loses heat
   on both sides: in the middle theta = theta_rim / I0(a/L), theta = T - Tw, with L^2 = kappa t / (h_above + h_below)
   (the equation of a cooling fin: H. S. Carslaw and J. C. Jaeger, Conduction of Heat in Solids).
2. Membrane to specimen, which loses heat to the gas and by radiation and gets it through its contact.
3. The beam: I <E> (t/lambda) = 4 pi kappa t dT / (0.58 + 2 ln(2 R0/d)) for a beam of diameter d in a film of radius
   R0 (R. F. Egerton, P. Li and M. Malac, Micron 35 (2004) 399; formula as globalsino.com/EM/page4685 quotes it).

What is measured of such differences: 60 K at 900 degC in 3 mbar of hydrogen and 13 K in vacuum on one chip; several
hundred kelvin of cooling by gas on furnace holders (docs/explanation/specimen-temperature.md has the literature).
So the uncertainty is large, and stated: each constant is a `Guess`, and the model itself is doubted by half of
what it corrects. Where a melting point or a lattice parameter can be had in the same gas, measure instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import ArrayLike

from .curve import Bools, Estimate, Float64, doubles
from .errors import CalibrationError
from .gas_data import Composition, fractions
from .heat_loss import by_radiation, through_gas

ZERO = 273.15
MODEL_DOUBT = 0.5
"""Standard uncertainty of the model, as a share of the difference it gives: a judgement, after the scatter between
published finite-element models and measurements."""
LARGEST = 0.3
"""A difference above this share of what the heater is hotter than the walls is no correction any more."""
FAR = 700.0
"""Lengths L from the rim at which exp is still a double; the middle has the walls' temperature long before."""
TURNS = 12
"""Most rounds of putting the specimen's temperature into its own losses; three or four are usual."""
SETTLED = 1e-3
"""K between two rounds."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A positive constant known within a factor: value / factor to value * factor is one standard uncertainty."""

    value: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (self.value > 0.0 and self.factor >= 1.0 and np.isfinite(self.value) and np.isfinite(self.factor)):
            raise CalibrationError(f"specimen: a guess is a value above 0 and a factor of 1 or more, not {self}")


@dataclass(frozen=True, slots=True)
class Chip:
    """The membrane between the heater, which is the sensor, and the specimen. SI units."""

    radius: Guess
    """m from the specimen to the heater's edge; where the heater's metal runs across, half its pitch."""
    thickness: Guess
    """m, of the membrane."""
    conductivity: Guess = Guess(3.0, 1.3)
    """W/(m K): about 3 for silicon nitride of low stress."""
    emissivity: Guess = Guess(0.3, 1.7)
    """Thin nitride with metal on it: a judgement."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Walls and gas: windows of a gas cell, pole pieces of an environmental microscope, or vacuum."""

    above: Guess
    """m from the membrane to the wall; windows bulge under pressure."""
    below: Guess
    wall: float = 25.0
    """degC: of window or pole piece; a window across a narrow gap is hotter."""
    gas: Composition | None = None
    accommodation: Guess = Guess(0.7, 1.5)


@dataclass(frozen=True, slots=True)
class Contact:
    """How the specimen touches the membrane."""

    conductance: Guess = Guess(1e5, 10.0)
    """W/(m^2 K) per area of contact. Dry contacts are orders of magnitude below films that grew there: a judgement."""
    area_ratio: Guess = Guess(2.0, 1.5)
    """Area that loses heat over area that touches."""


@dataclass(frozen=True, slots=True)
class Beam:
    """An electron beam that warms the film it crosses."""

    current: float
    """A."""
    diameter: float
    """m, of the illuminated area."""
    loss: Guess = Guess(35.0, 1.2)
    """eV lost in one inelastic event."""
    paths: Guess = Guess(0.5, 1.3)
    """Thickness over the mean free path of inelastic scattering, t/lambda."""


@dataclass(frozen=True, slots=True, eq=False)
class SpecimenTemperature:
    """The specimen's temperature (degC) and, in kelvin, how it came about."""

    estimate: Estimate
    membrane: Float64
    """Heater less membrane."""
    contact: Float64
    """Membrane less specimen."""
    beam: Float64
    """Rise by the beam."""
    parts: Mapping[str, Float64] = field(default_factory=dict)
    """Standard uncertainty by cause: ``heater``, ``model`` and each guess (``chip.radius``)."""


def specimen_temperature(
    heater: ArrayLike,
    uncertainty: ArrayLike,
    chip: Chip,
    surroundings: Surroundings,
    *,
    pressure: ArrayLike = 0.0,
    contact: Contact | None = None,
    beam: Beam | None = None,
) -> SpecimenTemperature:
    """From the heater's temperature (degC) and its standard uncertainty (K), at a pressure (Pa) that may vary too.

    contact: None if the specimen is the membrane or a film on it. Every guess is moved up and down by its factor;
    half the difference of both results is its part. `uncertain` where the model corrects more than 30 % of what the
    heater is above the walls.
    """
    t, p = np.broadcast_arrays(doubles(heater), doubles(pressure))
    sigma = np.broadcast_to(doubles(uncertainty), t.shape)
    _check(t, p, sigma, surroundings)
    setup = _Setup(chip, surroundings, contact, beam)
    membrane, step, rise = setup.differences(t, p)
    parts: dict[str, Float64] = {
        "heater": sigma.copy(),
        "model": MODEL_DOUBT * np.sqrt(membrane**2 + step**2 + rise**2),
    }
    for name, up, down in setup.moved():
        one, other = up.differences(t, p), down.differences(t, p)
        shift = 0.5 * ((one[2] - one[0] - one[1]) - (other[2] - other[0] - other[1]))
        if np.any(shift != 0.0):
            parts[name] = np.asarray(np.abs(shift))
    value = t - membrane - step + rise
    spread = np.sqrt(sum(np.square(part) for part in parts.values()))
    excess = np.abs(t - surroundings.wall)
    uncertain: Bools = np.asarray(np.abs(membrane + step) > LARGEST * excess)
    return SpecimenTemperature(
        Estimate(np.asarray(value), np.asarray(spread), uncertain, "degC"), membrane, step, rise, parts
    )


@dataclass(frozen=True, slots=True)
class _Setup:
    chip: Chip
    surroundings: Surroundings
    contact: Contact | None
    beam: Beam | None

    def differences(self, heater: Float64, pressure: Float64) -> tuple[Float64, Float64, Float64]:
        """Heater less membrane, membrane less specimen, and the beam's rise, K."""
        wall = self.surroundings.wall + ZERO
        rim = heater + ZERO
        sheet = self.chip.conductivity.value * self.chip.thickness.value  # W/K
        middle = rim
        for _ in range(TURNS):
            above, below = self._losses(0.5 * (rim + middle), pressure)
            ratio = np.minimum(self.chip.radius.value * np.sqrt((above + below) / sheet), FAR)
            middle, last = wall + (rim - wall) / np.i0(ratio), middle
            if not np.any(np.abs(middle - last) > SETTLED):
                break
        specimen = middle
        if self.contact is not None:
            for _ in range(TURNS):
                above, _ = self._losses(specimen, pressure)
                share = above * self.contact.area_ratio.value
                share = share / (share + self.contact.conductance.value)
                specimen, last = middle - (middle - wall) * share, specimen
                if not np.any(np.abs(specimen - last) > SETTLED):
                    break
        rise = np.zeros_like(rim)
        if self.beam is not None:
            watt = self.beam.current * self.beam.loss.value * self.beam.paths.value
            spread = 0.58 + 2.0 * np.log(2.0 * self.chip.radius.value / self.beam.diameter)
            rise = rise + watt * max(spread, 0.58) / (4.0 * np.pi * sheet)
        return np.asarray(rim - middle), np.asarray(middle - specimen), rise

    def _losses(self, hot: Float64, pressure: Float64) -> tuple[Float64, Float64]:
        """W/(m^2 K) above and below."""
        around = self.surroundings
        wall = around.wall + ZERO
        # One emissivity for both faces: nobody knows them apart.
        glow = by_radiation(hot, wall, self.chip.emissivity.value)
        if around.gas is None:
            return glow, glow
        alpha = min(around.accommodation.value, 1.0)
        above, below = (
            through_gas(around.gas, pressure, hot, wall, distance.value, alpha)
            for distance in (around.above, around.below)
        )
        return np.asarray(above + glow), np.asarray(below + glow)

    def moved(self) -> list[tuple[str, _Setup, _Setup]]:
        """Each guess with a factor: its name, and the setup with it larger and smaller."""
        out = []
        for owner in ("chip", "surroundings", "contact", "beam"):
            held = getattr(self, owner)
            for each in fields(held) if held is not None else ():
                guess = getattr(held, each.name)
                if isinstance(guess, Guess) and guess.factor > 1.0:
                    up, down = (
                        replace(self, **{owner: replace(held, **{each.name: Guess(value)})})
                        for value in (guess.value * guess.factor, guess.value / guess.factor)
                    )
                    out.append((f"{owner}.{each.name}", up, down))
        return out


def _check(heater: Float64, pressure: Float64, sigma: Float64, around: Surroundings) -> None:
    if around.gas is not None:
        fractions(around.gas)
    elif np.any(pressure > 0.0):
        raise CalibrationError("specimen: there is a pressure and no gas; say which gas it is (Surroundings.gas)")
    if np.any(sigma < 0.0) or np.any(pressure < 0.0):
        raise CalibrationError("specimen: pressure and standard uncertainty can't be negative")
    if np.any(heater <= -ZERO) or around.wall <= -ZERO:
        raise CalibrationError("specimen: temperatures are in degC and lie above -273.15")
