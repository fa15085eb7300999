"""Quantum Detectors Merlin: a Medipix3 pixel detector, filmed over TCP."""
