"""Eurotherm 3504 and 3508 temperature controllers (Modbus)."""
