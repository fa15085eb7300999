"""Electronic data sheets: IEEE 1451.4 in a connector's EEPROM, and what a holder's own one says of its calibration."""

from .holder import coefficients_for, holder_curve
from .pages import from_pages, to_pages
from .sheet import Basic, Sheet, pack, unpack
from .short import lengthen, shorten
from .templates import Bridge, Thermocouple

__all__ = [
    "Basic", "Bridge", "Sheet", "Thermocouple", "coefficients_for", "from_pages", "holder_curve", "lengthen", "pack",
    "shorten", "to_pages", "unpack",
]  # fmt: skip
