"""Boards of eight relays with Modbus coils: gas valves and the beam blanker hang on them."""
