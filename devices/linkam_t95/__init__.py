"""Linkam T95 temperature controller of heating and cooling stages (serial)."""
