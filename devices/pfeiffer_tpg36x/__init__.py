"""The Pfeiffer TPG 361, 362 and 366 gauge controllers; the TPG 261 and 262 as far as they agree."""
