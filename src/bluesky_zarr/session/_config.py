"""Where the stores of a session go, what they are called, and how they are written."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bluesky_zarr.store import store_path
from bluesky_zarr.store._codecs import compressor_configuration
from bluesky_zarr.store._durability import flush_of

__all__ = ["StorageConfig"]

_FIELDS = ("plan_name", "scan_id", "uid", "date", "time")
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SPEC = re.compile(r"(\.?\d{1,2}|0\d{1,2}d?)?")
_NAME_BYTES = 200


class StorageConfig(BaseSettings):
    """Where the stores of a session go and how they are written.

    Read from keywords, from YAML with `from_yaml`, or from the environment
    (``BLUESKY_ZARR_BASE_URI`` and so on). Unknown keys are refused.

    >>> config = StorageConfig(base_uri="file:///data/2026-11")
    >>> config.store_name(
    ...     {"plan_name": "nested_scan", "scan_id": 7, "uid": "0d5a9c1e-7e", "time": 0}
    ... )
    '00007_nested_scan_0d5a9c1e.zarr'
    """

    model_config = SettingsConfigDict(env_prefix="BLUESKY_ZARR_", extra="forbid", frozen=True)

    base_uri: str = Field(
        description="Directory of the stores: file:///data/2026-11, or an absolute path"
    )
    naming: str = Field(
        default="{scan_id:05d}_{plan_name}_{uid:.8}",
        description="Name of a run's store without .zarr; fields: "
        + ", ".join(_FIELDS)
        + "; '/' makes directories",
    )
    layout: Literal["frames", "series", "balanced"] = Field(
        default="frames", description="What reads should be quick: whole frames, series of pixels"
    )
    codec: str = Field(
        default="blosc-zstd-1",
        description='"none", "lz4", "zstd-N", "blosc-lz4-N" or "blosc-zstd-N"',
    )
    durability: str = Field(
        default="page",
        description='When frames are forced to disk: "page" (at close_run and publication), '
        '"flush" (every second as well), "flush-N-frames" or "flush-X-s"',
    )
    publication: Literal["stop", "manual"] = Field(
        default="stop", description="Publish a store on its run's stop document, or by hand"
    )

    @field_validator("base_uri")
    @classmethod
    def _check_base(cls, value: str) -> str:
        store_path(value)
        return value

    @field_validator("codec")
    @classmethod
    def _check_codec(cls, value: str) -> str:
        compressor_configuration(value, 2)
        return value

    @field_validator("durability")
    @classmethod
    def _check_durability(cls, value: str) -> str:
        flush_of(value)
        return value

    @field_validator("naming")
    @classmethod
    def _check_naming(cls, value: str) -> str:
        # str.format would follow attributes and indices: only plain fields of the list pass.
        if not value or len(value) > _NAME_BYTES:
            raise ValueError(f"naming has {len(value)} characters; use 1 to {_NAME_BYTES}")
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise ValueError(
                f"naming {value!r} cannot be read ({error}); write fields like {{scan_id}}"
            ) from None
        for text, field, spec, conversion in parts:
            if re.search(r"[^A-Za-z0-9._/ -]", text):
                raise ValueError(
                    f"naming {value!r} has characters other than letters, digits and '._-/'; "
                    "leave them out"
                )
            if field is not None and (field not in _FIELDS or conversion):
                raise ValueError(
                    f"naming {value!r} has the field {{{field}}}; use {', '.join(_FIELDS)}"
                )
            if spec and not _SPEC.fullmatch(spec):
                raise ValueError(
                    f"naming {value!r} has the format ':{spec}'; use one like ':05d' or ':.8'"
                )
        if value.startswith("/") or any(p.strip(". ") == "" for p in value.split("/")):
            raise ValueError(
                f"naming {value!r} leaves the base directory; write it relative to base_uri, "
                "without '..' or a leading '/'"
            )
        return value

    @classmethod
    def from_yaml(cls, path: str | Path) -> StorageConfig:
        """Read a YAML file of the fields above.

        Raises
        ------
        ValueError
            When the file is not a mapping of known keys, naming what to change.
        """
        text = Path(path).read_text(encoding="utf-8")
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(
                f"{path} is not plain YAML; write lines like 'layout: frames'. {error}"
            ) from None
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise ValueError(
                f"{path} is not a mapping; write lines like 'base_uri: file:///data/2026-11'"
            )
        try:
            return cls(**data)
        except ValidationError as error:
            known = ", ".join(cls.model_fields)
            raise ValueError(
                f"{path} cannot be used: "
                + "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
                + f". Known keys: {known}."
            ) from None

    def store_name(self, start: Mapping[str, Any]) -> str:
        """The name of a run's store, from its start document, with every field made harmless."""
        when = datetime.fromtimestamp(float(start.get("time", 0.0)))
        scan_id = start.get("scan_id", 0)
        fields = {
            "plan_name": _harmless(start.get("plan_name") or "plan"),
            "scan_id": scan_id if type(scan_id) is int else _harmless(scan_id),
            "uid": _harmless(start.get("uid", "")),
            "date": when.strftime("%Y-%m-%d"),
            "time": when.strftime("%H%M%S"),
        }
        parts = []
        for text, field, spec, _ in string.Formatter().parse(self.naming):
            parts.append(text)
            if field is None:
                continue
            try:
                parts.append(format(fields[field], spec or ""))
            except ValueError:  # a number's format for a scan_id that is a word
                parts.append(str(fields[field]))
        return "".join(parts) + ".zarr"


def _harmless(value: object) -> str:
    text = _SAFE.sub("_", str(value))[:64].strip(".")
    return text or "_"
