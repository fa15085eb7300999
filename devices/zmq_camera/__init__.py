"""Detectors with a home-made server: frames as they come over ZeroMQ, in a small documented form."""
