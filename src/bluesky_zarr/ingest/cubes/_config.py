"""What a conversion is told."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bluesky_zarr.store import check_key
from bluesky_zarr.store._codecs import compressor_configuration

ENV_PREFIX = "BLUESKY_ZARR_CUBES_"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


class CubesConfig(BaseSettings):
    """Which images become which cube, and how.

    What is not given is looked for in the environment, ``BLUESKY_ZARR_CUBES_CHUNK_LM`` and so on.

    >>> config = CubesConfig(input_dir="/data/2024-05-24", output_dir="/data/cubes")
    >>> config.target.as_posix(), config.chunk_lm
    ('/data/cubes/2024-05-24.zarr', 1024)
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    input_dir: Path = Field(description="Directory of the FITS images, and those beneath it")
    output_dir: Path = Field(description="Directory of the cube")
    name: str = Field(
        default="", description="Name of the cube, without .zarr; by default the input directory's"
    )
    fixed_dir: Path | None = Field(
        default=None,
        description="Keep corrected copies of the images here; by default headers are corrected "
        "in memory",
    )
    chunk_lm: int = Field(
        default=1024, ge=0, description="Pixels of a chunk along l and m; 0 for the whole plane"
    )
    codec: str = Field(
        default="blosc-zstd-5",
        description='"none", "lz4", "zstd-N", "blosc-lz4-N" or "blosc-zstd-N" (bitshuffle)',
    )
    rebuild: bool = Field(
        default=False, description="Build anew; an old cube stays until the new one is published"
    )
    resume: bool = Field(default=False, description="Go on where a conversion was interrupted")
    skip_header_fixing: bool = Field(
        default=False,
        description="Take headers as they are, or the corrected copies in fixed_dir",
    )
    on_duplicate: Literal["first", "fail"] = Field(
        default="first",
        description="Two files of one time and frequency: keep the first and warn, or fail",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes of a local Dask cluster; by default all is done in this one",
    )
    scheduler: str = Field(
        default="", description="Address of a Dask scheduler, tcp://host:8786, to work on"
    )
    prefect: bool = Field(default=False, description="Run the steps as a Prefect flow")
    tiled: str = Field(
        default="", description="Address of a Tiled server whose catalog the cube is put into"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="How much is told"
    )

    @property
    def target(self) -> Path:
        """Where the cube is when it is published."""
        name = (self.name or _absolute(self.input_dir).name or "cube").removesuffix(".zarr")
        return _absolute(self.output_dir) / f"{name}.zarr"

    @field_validator("input_dir", "output_dir", "fixed_dir", mode="before")
    @classmethod
    def _check_path(cls, value: object) -> object:
        # A Path of a URI has one slash less.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", str(value)):
            raise ValueError("it is a URI; give the path of a directory")
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value and "/" in check_key(value):
            raise ValueError(f"the name {value!r} is a path; give the directory as output_dir")
        return value

    @field_validator("codec")
    @classmethod
    def _check_codec(cls, value: str) -> str:
        compressor_configuration(value, 4)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_choices(self) -> CubesConfig:
        if self.rebuild and self.resume:
            raise ValueError("--rebuild and --resume are both given; choose one of them")
        if self.workers and self.scheduler:
            raise ValueError(
                "--workers and --scheduler are both given; choose one: a scheduler has its own "
                "workers"
            )
        return self
