"""What an ingest of spectra can be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SourceType = Literal["observed", "synthetic", "emulator", "forward_model", "stacked"]
FluxType = Literal["flux", "intensity"]

ENVIRONMENT = "BLUESKY_ZARR_INGEST_"
"""What the names of the environment's settings begin with."""


class SpectraConfig(BaseSettings):
    """How spectra are ingested, from keywords or from the environment
    (``BLUESKY_ZARR_INGEST_WORKERS`` and so on). Unknown keys are refused.

    >>> SpectraConfig(flux_unit="adu", workers=4).on_error
    'skip'
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT, extra="forbid", frozen=True)

    on_error: Literal["skip", "fail"] = Field(
        default="skip",
        description="A file that cannot be used: leave it out and report it, or stop",
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that read files and write shards"
    )
    scratch: Path | None = Field(
        default=None,
        description="Build the data set in this directory (a fast local disk), then copy it",
    )
    wavelength_unit: str = Field(
        default="", description="The unit of wavelengths in files that do not say: Angstrom, nm"
    )
    flux_unit: str = Field(
        default="", description="The unit of fluxes in files that do not say: adu, dimensionless"
    )
    source_type: SourceType = Field(default="observed", description="What the spectra are")
    flux_type: FluxType | None = Field(
        default=None,
        description="What the flux is; by default as its column is called",
    )
    simulator: str = Field(
        default="", description="What made synthetic spectra, in files that do not say"
    )
    exclude_header: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Header keywords to leave out, as shell patterns: 'ESO DET *'; in the "
        "environment with commas between them",
    )
    tiled: str = Field(
        default="", description="Address of a Tiled server whose catalog the data set is put into"
    )

    @field_validator("exclude_header", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str) and value.lstrip().startswith("["):
            return json.loads(value)
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("wavelength_unit", "flux_unit")
    @classmethod
    def _spell(cls, value: str, info: ValidationInfo) -> str:
        from bluesky_zarr.ingest._units import is_length, parsed, spelled, spelled_wavelength

        unit = (spelled_wavelength if info.field_name == "wavelength_unit" else spelled)(value)
        if unit and parsed(unit) is None:
            raise ValueError(
                f"{value!r} is no unit that astropy knows; write for example Angstrom, nm, "
                "erg/(s cm2 Angstrom), adu or dimensionless"
            )
        if unit and info.field_name == "wavelength_unit" and not is_length(unit):
            raise ValueError(f"{value!r} is no unit of length; write for example Angstrom or nm")
        return unit
