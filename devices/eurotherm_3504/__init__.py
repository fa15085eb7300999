"""Eurotherm 3504, 3508 and 3216 temperature controllers (Modbus)."""
