"""Calibration: from what an instrument says to what was, with its uncertainty. Needs numpy, nothing of ours.

So far only certificates are here. One that a lab file names is kept in the record, and applied to no reading;
`hal align --certificate` applies one of a delay.
"""
