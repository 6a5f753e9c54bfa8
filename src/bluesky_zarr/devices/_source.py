"""What a camera's frames are and where they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["FrameFormat", "FrameSource"]


@dataclass(frozen=True)
class FrameFormat:
    """What every frame of a source looks like, until the next `prepare()`.

    `shape` is in pixels, slowest dimension first; `dims` are names without the device's name
    (``("y", "x")``), by default ``y, x`` for images and ``z, y, x`` for volumes; `units` are those
    of a pixel's value.

    >>> FrameFormat(shape=(512, 1024), dtype="uint16", units="counts").shape
    (512, 1024)
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] = ()
    units: str = ""


def _not_connected(frame: object) -> None:
    raise RuntimeError(
        "A frame arrived before the source was connected: give the source to a device with "
        "WritableDevice.add_frame_source(source)."
    )


class FrameSource(ABC):
    """Where frames come from: a camera's callback, a PVA monitor, a function.

    A source knows nothing of files. It says what its frames look like and hands each one to
    `deliver`, from any thread and as fast as it likes: `deliver` blocks when storage is behind,
    and raises `ValueError` when a frame is not what `frame_format` promised.
    """

    deliver: Callable[[np.ndarray], None] = staticmethod(_not_connected)
    """Set by the device; call it once with each frame."""

    deliver_many: Callable[[np.ndarray], None] = staticmethod(_not_connected)
    """Set by the device; call it with several frames of a flown row that follow one another, n
    frames as (n, ...), where they come together: small frames cost a tenth of what they do one by
    one. They are copied."""

    fail: Callable[[BaseException], None] = staticmethod(_not_connected)
    """Set by the device; call it when no frame will come, and the point fails at once with this
    error instead of when its time is up."""

    fresh_frames: bool = False
    """True when no frame is touched again after it was delivered: it is then stored without a
    copy. Leave it False where a driver reuses its buffers."""

    @abstractmethod
    async def frame_format(self) -> FrameFormat:
        """Say what the next frames look like. Asked at `prepare()`, when triggers are set up."""
