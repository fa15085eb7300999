"""Protocols without I/O, both directions: framing, SCPI, Modbus. Drivers and emulators share them."""
