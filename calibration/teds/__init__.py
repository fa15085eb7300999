"""Electronic data sheets of sensors: IEEE 1451.4 in a connector's EEPROM, and the curve that a holder's own one has."""

from .holder import coefficients_for, holder_curve
from .pages import from_pages, to_pages
from .sheet import Basic, Sheet, pack, unpack
from .templates import Bridge, Thermocouple

__all__ = [
    "Basic", "Bridge", "Sheet", "Thermocouple", "coefficients_for", "from_pages", "holder_curve", "pack", "to_pages",
    "unpack",
]  # fmt: skip
