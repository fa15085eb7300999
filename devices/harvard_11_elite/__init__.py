"""The Harvard Apparatus Pump 11 Elite and Pico Plus Elite syringe pumps."""
