"""The vocabulary: readings, signals, limits, devices, operations, capabilities, safety."""
