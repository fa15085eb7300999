"""The registry: drivers found by name through the entry points `hal.devices`."""

from __future__ import annotations

import difflib
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..instrument.instrument import Instrument

GROUP = "hal.devices"
WORLD = "devices.physics:World"
"""What emulated instruments share."""
BOARD = "devices.insitu_mcu.emulator:EmulatedBoard"
"""What starts our board's own firmware."""


@cache
def known() -> dict[str, EntryPoint]:
    """All installed drivers by name; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def driver(name: str, beside: Path | None = None) -> type[Instrument]:
    """Return the driver called `name`: an entry point, or ``my_pkg.module:Class``. Raises `ConfigError`.

    A module of one's own may lie in the folder `beside`, that of the lab file.
    """
    if ":" in name:
        if beside is not None and str(beside.resolve()) not in sys.path:
            sys.path.append(str(beside.resolve()))  # last: it can't stand in for anything installed
        found = load(name)
    elif name in known():
        try:
            found = load(known()[name].value)
        except ImportError as error:
            raise ConfigError(f"driver {name!r} can't be imported: {error}; is its package whole?") from error
    else:
        near = difflib.get_close_matches(name, known(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known()) or 'none'}."
        raise ConfigError(f'unknown driver {name!r}; {hint} Or write "package.module:Class".')
    if not (isinstance(found, type) and issubclass(found, Instrument)):
        raise ConfigError(f"driver {name!r} is {found!r}, not a subclass of hal.Instrument")
    return found


def load(path: str) -> Any:
    """Import ``package.module:Name``. Raises `ConfigError`."""
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(f"{path!r} can't be imported: {error}; is the package installed here?") from error
    except AttributeError:
        raise ConfigError(f"{path!r}: module {module} has no {name!r}") from None
