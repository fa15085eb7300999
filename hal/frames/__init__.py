"""Frames: when each was exposed, which exposure it was, and every signal's value during it."""
