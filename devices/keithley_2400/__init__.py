"""Keithley 2400 source-measure unit: biases a specimen and measures what flows."""
