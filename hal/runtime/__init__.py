"""A lab at run time: its file, its drivers, its wires, its lifetime."""
