"""Clocks: the lab's one timebase, and models of clocks that are not ours."""
