"""The Thorlabs KDC101 servo motor controller."""
