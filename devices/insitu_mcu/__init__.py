"""Our own microcontroller board (firmware/): heater, analogue inputs, frame pulses, TEDS."""
