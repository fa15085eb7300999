"""The independent errors behind a set of quantities, and random draws of all of them.

A component is an error of its own unless it is shared; then it is one error that several quantities have, each with
its own size. Quantities whose correlation is only known as a number are taken together, as jointly normal errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..curve import Float64
from ..errors import CalibrationError
from .component import Component, Quantity
from .distribution import Distribution, draw

Correlations = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One error: its size in each quantity that has it, for m values each."""

    key: str
    sizes: dict[int, Float64]
    """Standard uncertainty (m,) by the number of the quantity."""
    distribution: Distribution
    dof: Float64
    parts: dict[int, Component]
    """The component it is in each quantity; none in a group of correlated quantities, each of which is one error."""


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """All errors of some quantities; the first `grouped` of them are correlated."""

    values: Float64
    """(q, m)."""
    sources: tuple[Source, ...]
    matrix: Float64
    """Correlation of the first sources, (grouped, grouped)."""

    @property
    def grouped(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def totals(self) -> Float64:
        """Standard uncertainty of each quantity, (q, m)."""
        squares = np.zeros(self.values.shape)
        for source in self.sources:
            for q, size in source.sizes.items():
                squares[q] += size**2
        return np.sqrt(squares)

    @property
    def group_dof(self) -> Float64:
        """Of the correlated quantities together: the least of theirs, which is theirs if they were read together."""
        return np.asarray(np.min(np.stack([source.dof for source in self.sources[: self.grouped]]), axis=0))

    def part(self, which: slice | Sequence[int]) -> Sources:
        """The same for some of the m values."""
        return Sources(
            self.values[:, which],
            tuple(
                Source(s.key, {q: u[which] for q, u in s.sizes.items()}, s.distribution, s.dof[which], s.parts)
                for s in self.sources
            ),
            self.matrix,
        )

    def draw(self, trials: int, random: np.random.Generator) -> Float64:
        """Quantities with random errors, (q, trials, m)."""
        out = np.repeat(self.values[:, None, :], trials, axis=1)
        m = self.values.shape[1]
        if self.grouped:
            z = np.einsum("ij,jtm->itm", _root(self.matrix), random.standard_normal((self.grouped, trials, m)))
            dof = self.group_dof
            if np.isfinite(dof).any():
                nu = np.where(np.isfinite(dof), dof, 1.0)
                z = z * np.where(np.isfinite(dof), np.sqrt(nu / random.chisquare(nu, (trials, m))), 1.0)
            for source, error in zip(self.sources, z, strict=False):
                for q, size in source.sizes.items():
                    out[q] += size * error
        for source in self.sources[self.grouped :]:
            error = draw(source.distribution, np.ones(m), source.dof, trials, random)
            for q, size in source.sizes.items():
                out[q] += size * error
        return out

    def whitened(self, signed: Float64) -> Float64:
        """Contributions of independent errors, the correlated ones replaced by as many independent ones."""
        if not self.grouped:
            return signed
        return np.concatenate([_root(self.matrix).T @ signed[: self.grouped], signed[self.grouped :]])


def sources_of(quantities: Sequence[Quantity], correlations: Correlations, shape: tuple[int, ...]) -> Sources:
    """Raises `CalibrationError` for names that occur twice or not at all, and for impossible correlations."""
    names = [one.name for one in quantities]
    if len(set(names)) < len(names):
        raise CalibrationError(f"two quantities have the same name; they are {', '.join(names)}")
    m = int(np.prod(shape))
    values = np.stack([np.broadcast_to(np.asarray(one.value), shape).reshape(m) for one in quantities])
    group, matrix = _matrix(names, correlations)
    sources: dict[str, Source] = {}
    for q in group:
        one = quantities[q]
        if any(component.shared for component in one.components):
            raise CalibrationError(f"{one.name}: it has a correlation and a shared error; state the one or the other")
        size, dof = (np.broadcast_to(v, shape).reshape(m) for v in (one.uncertainty, one.dof))
        sources[f"{one.name} (as a whole)"] = Source(one.name, {q: size}, "normal", dof, {})
    for q, one in enumerate(quantities):
        for number, component in enumerate(() if q in group else one.components):
            size = np.broadcast_to(np.asarray(component.uncertainty), shape).reshape(m)
            dof = np.broadcast_to(np.asarray(component.dof), shape).reshape(m)
            key = f"shared: {component.shared}" if component.shared else f"{one.name}: {component.name} ({number})"
            known = sources.get(key)
            if known is None:
                sources[key] = Source(key, {q: size}, component.distribution, dof, {q: component})
                continue
            if known.distribution != component.distribution or not np.array_equal(known.dof, dof):
                raise CalibrationError(
                    f"{component.shared}: a shared error has one distribution and one number of degrees of freedom; "
                    f"those of {one.name} are others"
                )
            known.sizes[q], known.parts[q] = size, component
    return Sources(values, tuple(sources.values()), matrix)


def _matrix(names: Sequence[str], correlations: Correlations) -> tuple[list[int], Float64]:
    """Numbers of the correlated quantities, and their matrix."""
    for pair, r in correlations.items():
        if unknown := [name for name in pair if name not in names]:
            raise CalibrationError(
                f"correlation of {unknown[0]!r}: there is no such quantity; there are {', '.join(names)}"
            )
        if pair[0] == pair[1] or not -1.0 <= r <= 1.0:
            raise CalibrationError(
                f"a correlation is of two different quantities and between -1 and 1, not {pair}: {r}"
            )
        if pair[::-1] in correlations:
            raise CalibrationError(f"the correlation of {pair[0]} and {pair[1]} is stated twice")
    group = sorted({names.index(name) for pair in correlations for name in pair})
    matrix = np.eye(len(group))
    for (one, other), r in correlations.items():
        i, j = group.index(names.index(one)), group.index(names.index(other))
        matrix[i, j] = matrix[j, i] = r
    if group and np.linalg.eigvalsh(matrix).min() < -1e-9:
        raise CalibrationError(
            "these correlations can't all be true together: some combination has a negative variance"
        )
    return group, matrix


def _root(matrix: Float64) -> Float64:
    """L with L L' = the matrix, which may be singular."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
