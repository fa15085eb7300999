"""Calibration: from what an instrument says to what was, with its uncertainty. Needs numpy, nothing of ours.

Nothing is here yet. Certificates that a lab file names are kept in the record; none is applied to readings.
"""
