"""What can go wrong with an ingest as a whole."""

from __future__ import annotations


class IngestError(RuntimeError):
    """An ingest that could not be done; the message says why and what to do."""
