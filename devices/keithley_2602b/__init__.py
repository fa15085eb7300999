"""Keithley 2602B source-meter: two channels, each biases and measures; programmed in TSP."""
