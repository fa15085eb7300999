"""Protocols without I/O, both directions: framing, SCPI, TSP, Modbus, ZeroMQ. Drivers and emulators share them."""
