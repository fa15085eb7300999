"""What the emulated detector films: a metal particle on its support, in counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from devices.physics import World

STEP = 0.12  # between the square roots of neighbouring levels: a fifth of the Poisson noise
LEVELS = 64
SAMPLES = 1 << 14
MELTS, MOLTEN = 500.0, 800.0  # degC
LAMP = 20.0  # counts that the world's lamp adds to each pixel in an exposure of the usual length

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


class Scene:
    """Poisson images of the specimen as the world has it; cheap by looking noise up instead of drawing it."""

    def __init__(self, world: World, size: int, rng: np.random.Generator) -> None:
        self.world, self.size, self._rng = world, size, rng
        means = (STEP * np.arange(LEVELS)) ** 2
        self._noise = rng.poisson(means[:, None], (LEVELS, SAMPLES)).astype(np.uint8).ravel()
        self._grain = rng.integers(0, SAMPLES // 2, size * size)
        y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
        self._round = np.hypot(x, y)
        self._facets = np.max([abs(x * np.cos(a) + y * np.sin(a)) for a in np.pi / 3 * np.arange(3) + 0.2], axis=0)
        self._seen: tuple[float, float, bool, float] | None = None
        self._places = self._grain

    def exposed(self, dose: float) -> Places:
        """What there is to be seen now, to be developed later; `dose` 1.0 is the usual one."""
        seen = (round(self.world.temperature, 0), round(self.world.hydrogen, 2), self.world.blanked, dose)
        if seen != self._seen:
            level = np.rint(np.sqrt(self._means(*seen)) / STEP).astype(np.int64)
            self._places = np.minimum(level, LEVELS - 1).ravel() * SAMPLES + self._grain
            self._seen = seen
        return self._places

    def developed(self, exposed: Places, lit: NDArray[np.float64]) -> Bytes:
        """An exposure for each of `lit`, (n, size * size): of the lamp's light, 1.0 for all of a usual exposure."""
        images = self._noise.take(exposed + self._rng.integers(0, SAMPLES // 2, len(lit))[:, None])
        for k in np.flatnonzero(lit):
            more = images[k] + self._rng.poisson(LAMP * lit[k], images.shape[1])
            images[k] = np.minimum(more, 255)
        return images

    def images(self, n: int, dose: float) -> Bytes:
        """n exposures of what there is to be seen now, (n, size * size), by detectors that see no lamp."""
        return self.developed(self.exposed(dose), np.zeros(n))

    def _means(self, temperature: float, hydrogen: float, blanked: bool, dose: float) -> NDArray[np.float64]:
        """Counts per pixel: hot, the particle loses its facets, shrinks and blurs; hydrogen dims it."""
        if blanked:
            return np.zeros_like(self._round)
        melt = min(max((temperature - MELTS) / (MOLTEN - MELTS), 0.0), 1.0)
        shape = (1 - melt) * self._facets + melt * self._round
        edge = (0.6 + 4.0 * melt) / 64
        inside = 1 / (1 + np.exp(np.clip((shape - 0.27 * (1 - 0.4 * melt)) / edge, -50, 50)))
        means: NDArray[np.float64] = dose * (2.0 + 20.0 * (1 - 0.5 * melt) * (1 - 0.6 * hydrogen) * inside)
        return means
