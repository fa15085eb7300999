"""Bronkhorst mass flow controllers on RS-232 or FLOW-BUS."""
