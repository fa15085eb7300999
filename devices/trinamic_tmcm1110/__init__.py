"""The Trinamic TMCM-1110 stepper motor module."""
