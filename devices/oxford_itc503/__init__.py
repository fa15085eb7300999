"""Oxford Instruments ITC503 temperature controller (text commands, ISOBUS)."""
