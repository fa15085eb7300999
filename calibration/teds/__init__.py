"""Electronic data sheets: IEEE 1451.4 in a connector's EEPROM, and what a holder's own one says of its calibration."""

from .holder import coefficients_for, holder_curve
from .pages import from_pages, to_pages
from .sheet import Basic, Sheet, pack, unpack
from .short import lengthen, shorten
from .templates import TEMPLATES, Bridge, Template, Thermocouple
from .typed import load_templates

__all__ = [
    "TEMPLATES", "Basic", "Bridge", "Sheet", "Template", "Thermocouple", "coefficients_for", "from_pages",
    "holder_curve", "lengthen", "load_templates", "pack", "shorten", "to_pages", "unpack",
]  # fmt: skip
