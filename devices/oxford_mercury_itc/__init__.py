"""Oxford Instruments MercuryiTC temperature controller (its "SCPI" command set)."""
