"""What a data set says of itself in its root attributes, by which a catalog finds it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bluesky_zarr.ingest._files import SourceFile


@dataclass(frozen=True)
class Summary:
    """A data set in short; `catalog.documents` makes a run of it.

    Parameters
    ----------
    kind
        "spectra", "cube".
    instruments
        The names of those that took it.
    time_range
        MJD (UTC): the beginning of the first exposure and the end of the last.
    frequency_range
        [Hz], least and greatest.
    counts
        How many there are of what: ``{"spectrum": 1000, "pixel": 5000}``.
    source
        Where it is from: `source_summary`.
    arrays
        Keys of the arrays that a catalog shows, each with how many of its dims are the scan's:
        those that tell one exposure from another.

    Examples
    --------
    >>> summary = Summary("cube", ("LWA",), None, (3e7, 8e7), {"time": 10}, {}, {"SKY": 2})
    >>> summary.attributes()["plan_name"]
    'ingest'
    """

    kind: str
    instruments: Sequence[str]
    time_range: tuple[float, float] | None
    frequency_range: tuple[float, float] | None
    counts: Mapping[str, int]
    source: Mapping[str, Any]
    arrays: Mapping[str, int]

    def attributes(self) -> dict[str, Any]:
        """Root attributes: this, and what makes the data set a run of its own."""
        return {"run_uid": str(uuid.uuid4()), "plan_name": "ingest", "ingest": asdict(self)}


def source_summary(files: Iterable[SourceFile]) -> dict[str, Any]:
    """The files of a data set as three numbers: how many, their bytes, and the sha256 of their
    sha256 digests in a row.
    """
    count = total = 0
    digest = hashlib.sha256()
    for file in files:
        count += 1
        total += file.size
        digest.update(bytes.fromhex(file.sha256))
    return {"files": count, "bytes": total, "sha256": digest.hexdigest()}
