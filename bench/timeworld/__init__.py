"""Simulated laboratories whose truth is known: clocks, links and frames for the benchmarks of time."""
