"""Pfeiffer on RS-485: digital gauges (CPT, RPT, PPT, HPT, MPT) and drives of turbo pumps (TC 110, TC 400)."""
