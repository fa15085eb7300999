"""Instruments: devices on sessions, the places their signals live, and how they are emulated."""
