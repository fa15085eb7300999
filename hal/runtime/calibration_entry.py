"""What a lab file says of certificates: which signal each is for, and whose signature they need."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Key = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
"""An Ed25519 public key, as `calibration.signing.new_key` gives it."""


class CalibrationEntry(BaseModel):
    """A certificate for one signal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: str = Field(description="Its path, relative to the lab file.")
    override: str = Field("", description="Why it is used although it has expired or is another sensor's; recorded.")


class CalibrationsEntry(BaseModel):
    """What holds for all certificates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signed_by: dict[str, Key] = Field(
        {}, description="Names and public keys (64 hex digits): a certificate that none of them signed is refused."
    )
