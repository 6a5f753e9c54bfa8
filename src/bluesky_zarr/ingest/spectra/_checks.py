"""Does a store keep schema 2.0? Every row is looked at; nothing is changed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.ingest.spectra import _schema as schema
from bluesky_zarr.ingest.spectra._spectrum import is_dead
from bluesky_zarr.store import Report
from bluesky_zarr.store._metadata import DOCUMENT, Document, nodes, open_quietly, read_document

_AGAIN = "ingest the files again"
_LEAVE_OUT = "leave the spectrum out, and ingest the others again"
_MOST_ROWS = 20


def is_spectral(store: Path) -> bool:
    """Whether a store says that it is one of spectra, or looks like one."""
    try:
        attributes = read_document(store).get("attributes") or {}
    except (OSError, ValueError):
        return False
    kind = (attributes.get("ingest") or {}).get("kind")
    if kind is not None:
        return kind == "spectra"
    return attributes.get("schema_version") == schema.VERSION or (
        (store / schema.FLUX / DOCUMENT).is_file()
    )


def check_spectra(store: Path, report: Report) -> None:
    """Add to a report what a store does otherwise than schema 2.0 says.

    Each problem names the array, the row, the value and what to do. A store of any origin can be
    checked; what an array lacks is not held against the others.

    Parameters
    ----------
    store
        A directory with a Zarr v3 group.
    report
        Gets the problems, and a note on how much was looked at.
    """
    _Checks(store, report).run()


class _Checks:
    def __init__(self, store: Path, report: Report) -> None:
        self.store = store
        self.report = report
        self.documents: dict[str, Document] = {}

    def run(self) -> None:
        damaged: list[Path] = []
        self.documents.update(nodes(self.store, on_error=lambda node, _: damaged.append(node)))
        self._groups()
        self._provenance()
        flux = self._flux()
        self._exist()
        if flux is None:
            return
        n_spec, n_pix = flux
        self._wavelength(n_spec, n_pix)
        self._aligned(n_spec, n_pix)
        self._columns(n_spec)
        self._units()
        self._cut(n_spec, n_pix)
        self._rows(n_spec)
        self._index(n_spec)
        self.report.notes.append(
            f"schema {schema.VERSION}: looked at {n_spec} spectra of {n_pix} pixels"
        )

    # ------------------ what there is

    def _groups(self) -> None:
        for group in schema.GROUPS:
            found = self.documents.get(group)
            if found is None:
                self.report.add(group, "the group is missing", _AGAIN)
            elif found["node_type"] != "group":
                self.report.add(group, "it is an array, not a group", _AGAIN)

    def _provenance(self) -> None:
        attributes = read_document(self.store).get("attributes") or {}
        version = attributes.get("schema_version")
        if version != schema.VERSION:
            self.report.add(
                "root attributes",
                f"schema_version is {version!r}, not {schema.VERSION!r}",
                f"set it to {schema.VERSION!r}, if that is what the store keeps to",
            )
        for name in ("ingest_pipeline", "git_commit"):
            if not isinstance(attributes.get(name), str) or not attributes[name]:
                self.report.add(
                    "root attributes", f"{name} is {attributes.get(name)!r}", "add it, as text"
                )
        created = attributes.get("created_at")
        try:
            offset = datetime.datetime.fromisoformat(str(created)).utcoffset()
        except ValueError:
            offset = None
        if offset != datetime.timedelta(0):
            self.report.add(
                "root attributes",
                f"created_at is {created!r}, no time in UTC",
                "write it as 2026-11-21T09:30:00+00:00",
            )

    def _exist(self) -> None:
        needed = [*schema.ALIGNED, schema.WAVELENGTH, schema.METHOD]
        names = (*schema.TEXT_METADATA, *schema.NUMBER_METADATA)
        needed += [f"metadata/{name}" for name in names]
        for key in needed:
            if self._array(key) is None:
                self.report.add(key, "the array is missing", _AGAIN)
        flux, error = (self._array(key) is not None for key in schema.NORMALIZED)
        if flux != error:
            there, missing = schema.NORMALIZED if flux else schema.NORMALIZED[::-1]
            self.report.add(missing, f"the array is missing, but {there} is there", _AGAIN)

    def _flux(self) -> tuple[int, int] | None:
        """The shape that all else is compared with."""
        found = self._array(schema.FLUX)
        if found is None:
            return None
        shape = tuple(found["shape"])
        if len(shape) != 2:
            self.report.add(schema.FLUX, f"its shape is {shape}, not (spectra, pixels)", _AGAIN)
            return None
        if 0 in shape:
            self.report.add(schema.FLUX, f"its shape is {shape}: it is empty", _AGAIN)
            return None
        if found["data_type"] != "float32":
            self.report.add(schema.FLUX, f"its type is {found['data_type']}, not float32", _AGAIN)
        return shape

    # ------------------ shapes and types

    def _wavelength(self, n_spec: int, n_pix: int) -> None:
        found = self._array(schema.WAVELENGTH)
        if found is not None and tuple(found["shape"]) not in ((n_pix,), (n_spec, n_pix)):
            self.report.add(
                schema.WAVELENGTH,
                f"its shape is {tuple(found['shape'])}, neither {(n_pix,)} nor {(n_spec, n_pix)}",
                _AGAIN,
            )

    def _aligned(self, n_spec: int, n_pix: int) -> None:
        for key in (*schema.ALIGNED, *schema.NORMALIZED):
            found = self._array(key)
            if found is not None and tuple(found["shape"]) != (n_spec, n_pix):
                self.report.add(
                    key,
                    f"its shape is {tuple(found['shape'])}, that of {schema.FLUX} is "
                    f"{(n_spec, n_pix)}",
                    _AGAIN,
                )

    def _columns(self, n_spec: int) -> None:
        for key, found in self._columns_there():
            if tuple(found["shape"]) != (n_spec,):
                self.report.add(
                    key,
                    f"its shape is {tuple(found['shape'])}, there are {n_spec} spectra",
                    _AGAIN,
                )
            group, _, name = key.partition("/")
            numbers = group == "params" or name in schema.NUMBER_METADATA
            text = key == schema.METHOD or name in schema.TEXT_METADATA
            kind = str(found["data_type"])
            if numbers and not kind.startswith("float"):
                self.report.add(key, f"its type is {kind}, not a float with NaN", _AGAIN)
            if text and kind != "string":
                self.report.add(key, f"its type is {kind}, not text of any length", _AGAIN)

    def _columns_there(self) -> Iterator[tuple[str, Document]]:
        for key, document in self.documents.items():
            if document["node_type"] == "array" and (
                key.startswith(("params/", "metadata/")) or key == schema.METHOD
            ):
                yield key, document

    def _units(self) -> None:
        for key, document in self.documents.items():
            if key.startswith(("signal/", "continuum/", "representations/")) and _is_number(
                document
            ):
                unit = (document.get("attributes") or {}).get("units")
                if not isinstance(unit, str) or not unit.strip():
                    self.report.add(
                        key,
                        f"its attribute 'units' is {unit!r}",
                        "add it; what has no unit is 'dimensionless'",
                    )

    def _cut(self, n_spec: int, n_pix: int) -> None:
        right = schema.chunks(n_spec, n_pix)
        for key in (*schema.ALIGNED, *schema.NORMALIZED):
            found = self._array(key)
            if found is None or tuple(found["shape"]) != (n_spec, n_pix):
                continue
            chunk, codecs = _chunk(found)
            if chunk != right:
                self.report.add(key, f"its chunks are {chunk}, not {right}", _AGAIN)
            missing = _codecs_missing(codecs)
            if missing:
                self.report.add(key, f"its codecs lack {missing}", _AGAIN)

    # ------------------ values, of every row

    def _rows(self, n_spec: int) -> None:
        flux = self._open(schema.FLUX)
        if flux is not None:
            rows = schema.chunks(*flux.shape)[0]
            bad: list[tuple[int, str]] = []
            for start in range(0, n_spec, rows):
                block = self._read(schema.FLUX, flux, start, start + rows)
                if block is None:
                    continue
                for row in np.flatnonzero(is_dead(block)):
                    zeros, nans = int((block[row] == 0).sum()), int(np.isnan(block[row]).sum())
                    what = f"{nans} pixels are NaN and {zeros} are 0, of {block.shape[1]}"
                    bad.append((start + int(row), what))
            self._bad_rows(schema.FLUX, bad, _LEAVE_OUT)
        for name, words in (
            ("source_type", schema.SOURCE_TYPES),
            ("flux_type", schema.FLUX_TYPES),
        ):
            self._words(f"metadata/{name}", words)
        method = self._values(schema.METHOD)
        empty = [] if method is None else np.flatnonzero(method == "")
        self._bad_rows(schema.METHOD, [(int(row), "it is ''") for row in empty], "say 'none'")
        for key, document in self._columns_there():
            if key.startswith("params/") and str(document["data_type"]).startswith("float"):
                self._sentinels(key)

    def _words(self, key: str, words: Sequence[str]) -> None:
        values = self._values(key)
        if values is None or values.dtype.kind not in "TOU":
            return
        bad = [(row, f"it is {value!r}") for row, value in enumerate(values) if value not in words]
        self._bad_rows(key, bad, f"use one of {', '.join(words)}")

    def _sentinels(self, key: str) -> None:
        values = self._values(key)
        if values is not None:
            rows = np.flatnonzero(np.isin(values, schema.SENTINELS) | np.isinf(values))
            bad = [(int(row), f"it is {values[row]}, which stands for nothing") for row in rows]
            self._bad_rows(key, bad, "write NaN")

    def _bad_rows(self, key: str, bad: Sequence[tuple[int, str]], advice: str) -> None:
        for row, what in bad[:_MOST_ROWS]:
            self.report.add(f"{key} row {row}", what, advice)
        if len(bad) > _MOST_ROWS:
            self.report.add(key, f"so are {len(bad) - _MOST_ROWS} more rows", advice)

    def _index(self, n_spec: int) -> None:
        path = self.store / schema.INDEX
        if not path.is_file():
            self.report.add(schema.INDEX, "the file is missing", _AGAIN)
            return
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            self.report.notes.append(
                f"{schema.INDEX} was not looked at: pip install 'bluesky-zarr[ingest]'"
            )
            return
        try:
            file = parquet.ParquetFile(path)
            rows, names = file.metadata.num_rows, file.schema_arrow.names
        except (pyarrow.ArrowException, OSError) as error:
            self.report.add(schema.INDEX, f"it is no Parquet file ({error})", _AGAIN)
            return
        if rows != n_spec:
            self.report.add(schema.INDEX, f"it has {rows} rows, there are {n_spec} spectra", _AGAIN)
        missing = [name for name in schema.INDEX_COLUMNS if name not in names]
        if missing:
            self.report.add(schema.INDEX, f"it has no column {', '.join(missing)}", _AGAIN)
            return
        ids = self._values("metadata/spec_id")
        if rows != n_spec or ids is None or ids.shape != (n_spec,):
            return
        indexed = file.read(["spec_id"]).column("spec_id").to_pylist()
        bad = [
            (row, f"spec_id is {there!r}, in metadata/spec_id it is {here!r}")
            for row, (there, here) in enumerate(zip(indexed, ids, strict=True))
            if there != here
        ]
        self._bad_rows(schema.INDEX, bad, _AGAIN)

    # ------------------ reading

    def _array(self, key: str) -> Document | None:
        found = self.documents.get(key)
        return found if found is not None and found["node_type"] == "array" else None

    def _open(self, key: str) -> Any:
        if self._array(key) is None:
            return None
        try:
            return open_quietly(self.store, path=key)
        except Exception as error:  # whatever zarr-python says is what a reader would get
            self.report.add(key, f"zarr-python cannot open it: {error}", _AGAIN)
            return None

    def _read(self, key: str, array: Any, start: int, stop: int) -> np.ndarray | None:
        try:
            return np.asarray(array[start:stop])
        except Exception as error:
            self.report.add(f"{key} rows {start} on", f"they cannot be read: {error}", _AGAIN)
            return None

    def _values(self, key: str) -> np.ndarray | None:
        array = self._open(key)
        if array is None or array.ndim != 1:
            return None
        return self._read(key, array, 0, array.shape[0])


def _is_number(document: Document) -> bool:
    return document["node_type"] == "array" and document["data_type"] != "string"


def _chunk(document: Document) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """The shape of the smallest piece that is read, and its codecs."""
    codecs = document.get("codecs") or []
    if codecs and codecs[0].get("name") == "sharding_indexed":
        inside = codecs[0]["configuration"]
        return tuple(inside["chunk_shape"]), inside["codecs"]
    return tuple(document["chunk_grid"]["configuration"]["chunk_shape"]), codecs


def _codecs_missing(codecs: Sequence[dict[str, Any]]) -> str:
    by_name = {codec.get("name"): codec.get("configuration") or {} for codec in codecs}
    blosc = by_name.get("blosc", {})
    right = (
        blosc.get("cname") == "zstd"
        and blosc.get("shuffle") == "bitshuffle"
        and 5 <= int(blosc.get("clevel", 0)) <= 7
    )
    missing = [] if right else ["Blosc zstd with bitshuffle at a level of 5 to 7"]
    return " and ".join([*missing, *([] if "crc32c" in by_name else ["crc32c"])])
