"""The laboratory of the session's tests, to break it."""

from __future__ import annotations

from tests.session.conftest import lab

__all__ = ["lab"]
