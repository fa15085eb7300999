"""Instruments: a folder each with codec, driver and emulator; `physics` is the world the emulators share."""
