"""The spatial grid of an image: which pixel lies where in the sky."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bluesky_zarr.ingest.cubes._axes import Axes, card_value, ctype
from bluesky_zarr.ingest.cubes._errors import ImageError

if TYPE_CHECKING:
    from astropy.io.fits import Header

# Cards of the celestial axes (FITS paper II), where {} is the number of an axis.
_OF_AN_AXIS = ("NAXIS{}", "CTYPE{}", "CUNIT{}", "CRPIX{}", "CDELT{}", "CRVAL{}", "CROTA{}")
_OF_BOTH = ("LONPOLE", "LATPOLE", "RADESYS", "EQUINOX")
_INDEXED = re.compile(r"(PC|CD|PV)(\d+)_(\d+)")

# Two headers say the same number in different texts; a thousandth of a thousandth of a degree is
# less than the pixel of any radio image.
_CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-9}


class Offset(NamedTuple):
    """A coordinate along one axis of a grid: how far its pixels lie from the reference pixel in the
    plane of projection [rad], float64; and the direction in which it increases, as the angle at
    the reference pixel from north over east [deg], where that is not east (l) or north (m).
    """

    values: np.ndarray
    angle: float | None


@dataclass(frozen=True)
class SpatialGrid:
    """How the celestial axes of an image are laid out, as the cards of its header say it.

    `cards` are those cards, with the numbers of the axes as 1 (RA) and 2 (DEC); `shape` is the
    number of pixels along l (RA) and m (DEC).
    """

    cards: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, header: Header, axes: Axes) -> SpatialGrid:
        """The grid of an image with this (corrected) header.

        Raises
        ------
        ImageError
            A card of it is no number, or an axis has no pixels.
        """
        numbers = {axes.ra: 1, axes.dec: 2}
        found: dict[str, Any] = {}
        for axis, number in numbers.items():
            for card in _OF_AN_AXIS:
                value = card_value(header, card.format(axis))
                if isinstance(value, str) and card not in ("CTYPE{}", "CUNIT{}"):
                    raise ImageError(f"{card.format(axis)} is {value!r}, not a number")
                if value is not None:
                    found[card.format(number)] = _plain(value)
            if not found.get(f"NAXIS{number}"):
                raise ImageError(
                    f"its axis {axis} has no pixels", "move it out of the input directory"
                )
            found[f"CTYPE{number}"] = ctype(header, axis)
            found.setdefault(f"CUNIT{number}", "deg")
        for card in _OF_BOTH:
            value = card_value(header, card)
            if value is not None:
                found[card] = _plain(value)
        for card in header:
            name, value = _renumbered(card, numbers), card_value(header, card)
            if name and value is not None:
                found[name] = _plain(value)
        return cls(tuple(sorted(found.items())))

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along l and m."""
        cards = dict(self.cards)
        return int(cards["NAXIS1"]), int(cards["NAXIS2"])

    @property
    def checksum(self) -> str:
        """A text that only the same grid has."""
        return hashlib.sha256(json.dumps(self.cards).encode()).hexdigest()

    def differences(self, other: SpatialGrid) -> dict[str, tuple[Any, Any]]:
        """The cards in which another grid differs by more than rounding, each with both values."""
        mine, theirs = dict(self.cards), dict(other.cards)
        return {
            card: (mine.get(card), theirs.get(card))
            for card in sorted(mine.keys() | theirs.keys())
            if not _same(mine.get(card), theirs.get(card))
        }

    def __str__(self) -> str:
        cards = dict(self.cards)
        n_l, n_m = self.shape
        centre = ", ".join(f"{cards.get(f'CRVAL{n}', 0.0):g}" for n in (1, 2))
        steps = ", ".join(f"{cards.get(f'CDELT{n}', 0.0):g}" for n in (1, 2))
        return f"{n_l} x {n_m} pixels around ({centre}) deg in steps of ({steps}) deg"

    def check(self) -> None:
        """Raise `ImageError` where astropy finds no places in the sky for the pixels."""
        try:
            wcs, _, _ = self._in_the_sky()
            wcs.wcs_pix2world(0, 0, 0)
            self.offsets()
        except (ValueError, ArithmeticError) as error:  # WcsError and UnitsError are the first
            text = " ".join(str(error).split())
            raise ImageError(f"nothing says where in the sky its pixels lie ({text})") from error

    def offsets(self) -> tuple[Offset, Offset]:
        """The coordinates l and m of the pixels along the two axes (FITS paper II, section 2.1):
        towards the east and the north, but of a grid that is turned in the sky along its own axes,
        as no pixel's distance towards the east is known from one of its numbers alone.
        """
        cards = dict(self.cards)
        found = []
        for index, length in enumerate(self.shape):
            number = index + 1
            angle = None
            if self._is_turned:
                # Increasing to the side that is nearer to the east, or the north.
                x, y = self._matrix[:, index] * math.copysign(1, self._matrix[index, index])
                angle = math.degrees(math.atan2(x, y))
                step = math.copysign(math.hypot(x, y), self._matrix[index, index])
            else:
                # Where there is a matrix of CD cards, CDELT is there for old readers only.
                step = cards.get(f"CDELT{number}", 1.0) * cards.get(f"PC{number}_{number}", 1.0)
                step = cards.get(f"CD{number}_{number}", step) * _degrees(cards, number)
                step = math.copysign(step, self._matrix[index, index])
            pixels = np.arange(1, length + 1) - cards.get(f"CRPIX{number}", 0.0)
            found.append(Offset(pixels * math.radians(step), angle))
        return found[0], found[1]

    @functools.cached_property
    def _matrix(self) -> np.ndarray:
        """What a step along each axis (columns) is towards the east and the north [deg]."""
        wcs, _, _ = self._in_the_sky()
        return wcs.pixel_scale_matrix

    @property
    def _is_turned(self) -> bool:
        """Whether a step along one axis leads away along the other, over the image by more than a
        thousandth of a pixel.
        """
        aside, size = np.fliplr(self._matrix).diagonal(), np.abs(self._matrix).max()
        return bool(np.abs(aside).max() * max(self.shape) > 1e-3 * size)

    def sky(self, rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Right ascension and declination [deg, FK5 J2000] of all pixels, by astropy.wcs.

        Blocks of so many rows of l, each as (first row, right ascension, declination), float64
        (rows, m); NaN where a pixel lies outside of the sky.
        """
        from astropy import units
        from astropy.coordinates import FK5, SkyCoord

        wcs, frame, is_fk5 = self._in_the_sky()
        n_l, n_m = self.shape
        for first in range(0, n_l, rows):
            l, m = np.meshgrid(  # noqa: E741
                np.arange(first, min(first + rows, n_l)), np.arange(n_m), indexing="ij"
            )
            ra, dec = wcs.wcs_pix2world(l, m, 0)
            if not is_fk5:
                # An equinox that is not given here would be that of the image.
                sky: Any = SkyCoord(ra, dec, unit=units.deg, frame=frame)
                sky = sky.transform_to(FK5(equinox="J2000"))
                ra, dec = sky.ra.deg, sky.dec.deg
            yield first, ra, dec

    @property
    def converted_from(self) -> str:
        """The frame of the image's own coordinates, as "fk4 B1950.0"; empty if that is FK5 J2000,
        in which `sky` gives them.
        """
        _, frame, is_fk5 = self._in_the_sky()
        if is_fk5:
            return ""
        equinox = getattr(frame, "equinox", None)
        if equinox is None:
            return frame.name
        letter, year = ("B", equinox.byear) if "fk4" in frame.name else ("J", equinox.jyear)
        return f"{frame.name} {letter}{round(year, 3)}"

    def _in_the_sky(self) -> tuple[Any, Any, bool]:
        """The astropy.wcs.WCS, the frame of its coordinates, and whether that is FK5 J2000."""
        from astropy.io.fits import Header
        from astropy.wcs import WCS
        from astropy.wcs.utils import wcs_to_celestial_frame

        wcs = WCS(Header([(card, value) for card, value in self.cards]), naxis=2)
        frame = wcs_to_celestial_frame(wcs)
        equinox = getattr(frame, "equinox", None)
        return wcs, frame, frame.name == "fk5" and equinox is not None and equinox.jyear == 2000.0


def _plain(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _renumbered(card: str, numbers: dict[int, int]) -> str:
    """The name that a card of the matrix or of the projection's parameters has when its axes are
    1 and 2; empty if it is of another axis.
    """
    match = _INDEXED.fullmatch(card)
    if match is None or int(match[2]) not in numbers:
        return ""
    kind, axis, second = match[1], numbers[int(match[2])], int(match[3])
    if kind == "PV":
        return f"PV{axis}_{second}"
    return f"{kind}{axis}_{numbers[second]}" if second in numbers else ""


def _same(one: Any, other: Any) -> bool:
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return math.isclose(one, other, **_CLOSE)
    return one == other


def _degrees(cards: dict[str, Any], number: int) -> float:
    unit = str(cards.get(f"CUNIT{number}") or "deg")
    if unit == "deg":
        return 1.0
    from astropy import units

    factor: Any = units.Unit(unit).to("deg")
    return float(factor)
