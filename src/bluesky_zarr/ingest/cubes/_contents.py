"""What a cube holds: arrays, coordinates, and what its root says of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bluesky_zarr.ingest._summary import Summary
from bluesky_zarr.ingest.cubes._axes import card_value
from bluesky_zarr.ingest.cubes._config import CubesConfig
from bluesky_zarr.ingest.cubes._discover import ImageSet
from bluesky_zarr.ingest.cubes._grid import Offset
from bluesky_zarr.ingest.cubes._layout import DIMS, cube_layout
from bluesky_zarr.store._batch import BatchStore

# Elements of a chunk of a coordinate.
_COORDINATE_ELEMENTS = 2**21


def make_arrays(config: CubesConfig, images: ImageSet, store: BatchStore) -> None:
    """Make the array of the images, empty, and the coordinates beside it, whole."""
    header = images.header
    layout = cube_layout(images.shape, config.chunk_lm)
    units = str(card_value(header, "BUNIT", "")).strip()
    store.create_array(
        "SKY",
        shape=images.shape,
        dtype="float32",
        dims=DIMS,
        chunks=layout.inner,
        shards=layout.shard,
        units=units,
        fill_value=math.nan,
        attributes={
            "long_name": "sky brightness",
            "coordinates": "right_ascension declination",
            "fits_header": header.tostring(sep="\n", endcard=False, padding=False),
        },
    )
    mjd = {"long_name": "time", "format": "mjd", "scale": "utc"}
    _coordinate(store, "time", images.times, ("time",), "d", mjd)
    _coordinate(store, "frequency", images.frequencies, ("frequency",), "Hz")
    _coordinate(store, "polarization", np.array(images.polarizations), ("polarization",))
    for name, side, offset in zip("lm", ("east", "north"), images.grid.offsets(), strict=True):
        _coordinate(store, name, offset.values, (name,), "rad", _about(offset, side))
    rows = max(1, min(images.shape[3], _COORDINATE_ELEMENTS // images.shape[4]))
    frame = {"frame": "fk5", "equinox": "J2000.0"}
    if converted_from := images.grid.converted_from:
        frame["converted_from"] = converted_from
    sky = [
        store.create_array(
            name,
            shape=images.shape[3:],
            dtype="float64",
            dims=("l", "m"),
            chunks=(rows, images.shape[4]),
            units="deg",
            fill_value=math.nan,
            attributes={"long_name": name.replace("_", " "), **frame},
        )
        for name in ("right_ascension", "declination")
    ]
    for first, *values in images.grid.sky(rows):
        for array, block in zip(sky, values, strict=True):
            array.write((first, 0), block)
    _make_sources(images, store)


def _about(offset: Offset, side: str) -> dict[str, Any]:
    long_name = "offset from the reference pixel in the plane of projection, "
    if offset.angle is None:
        return {"long_name": f"{long_name}towards the {side}"}
    return {
        "long_name": f"{long_name}along an axis of the image, which is turned in the sky",
        "position_angle": offset.angle,
    }


def _make_sources(images: ImageSet, store: BatchStore) -> None:
    """What is known of each file, over time and frequency."""
    shape = images.shape[:2]
    names = np.full(shape, "", object)
    nbytes = np.zeros(shape, "int64")
    beam = np.full((3, *shape), np.nan)
    for place, source in images.sources.items():
        names[place], nbytes[place] = source.name, source.nbytes
        beam[:, *place] = source.beam
    dims = DIMS[:2]
    for values, axis in zip(beam, ("major", "minor", "position_angle"), strict=True):
        about = {"long_name": f"synthesized beam, {axis.replace('_', ' ')}"}
        _coordinate(store, f"beam_{axis}", values, dims, "deg", about)
    about = {"long_name": "path of the image below the input directory; empty where there is none"}
    _coordinate(store, "source_file", names, dims, attributes=about)
    _coordinate(store, "source_bytes", nbytes, dims, "byte")
    store.create_array(
        "source_crc32c",
        shape=shape,
        dtype="uint32",
        dims=dims,
        chunks=_chunks(shape),
        attributes={"long_name": "crc32c of the image's file"},
    )


def _coordinate(
    store: BatchStore,
    key: str,
    values: np.ndarray,
    dims: tuple[str, ...],
    units: str = "",
    attributes: dict[str, Any] | None = None,
) -> None:
    is_text = values.dtype.kind in "UO"
    array = store.create_array(
        key,
        shape=values.shape,
        dtype="str" if is_text else values.dtype,
        dims=dims,
        chunks=_chunks(values.shape),
        units=units,
        attributes=attributes,
    )
    array.write((0,) * values.ndim, values)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    rest = math.prod(shape[1:])
    return (max(1, min(shape[0], _COORDINATE_ELEMENTS // rest)), *shape[1:])


def attributes(images: ImageSet, data_set: str) -> dict[str, Any]:
    """What the root of a cube says: what was observed, when, and which files it was made from."""
    header = images.header
    said = {
        name: str(card_value(header, card, "")).strip()
        for name, card in (
            ("telescope", "TELESCOP"),
            ("instrument", "INSTRUME"),
            ("object", "OBJECT"),
        )
    }
    steps, subbands = len(images.times), len(images.frequencies)
    instrument = said["instrument"] or said["telescope"]
    files = {
        "directory": str(images.directory),
        "files": len(images.sources),
        "bytes": images.nbytes,
        "duplicates": [{"left_out": a, "kept": b} for a, b in images.duplicates],
        "headers_corrected": images.fix,
        **{name: text for name, text in said.items() if text},
    }
    summary = Summary(
        kind="cube",
        instruments=(instrument,) if instrument else (),
        time_range=(float(images.times[0]), float(images.times[-1])),
        frequency_range=(float(images.frequencies[0]), float(images.frequencies[-1])),
        counts={
            "time": steps,
            "frequency": subbands,
            "image": len(images.sources),
            "missing": len(images.missing),
        },
        source=files,
        arrays={"SKY": 2},
    )
    return {**summary.attributes(), "data_set": data_set}
