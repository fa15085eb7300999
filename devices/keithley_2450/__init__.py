"""Keithley 2450 source-measure unit: biases a specimen and measures what flows."""
