"""Keithley DMM6500 digital multimeter: measures a voltage, current, resistance or temperature."""
