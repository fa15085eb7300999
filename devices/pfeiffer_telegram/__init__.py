"""Pfeiffer's digital gauges on RS-485 (CPT, RPT, PPT, HPT, MPT): telegrams with a checksum."""
