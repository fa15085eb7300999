"""The New Era NE-1000 syringe pump."""
