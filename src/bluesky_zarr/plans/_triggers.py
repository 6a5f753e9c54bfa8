"""Triggers: conditions on what a scan has just measured, asked after each acquisition."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from bluesky_zarr.peaks import Peak

from ._joining import AllOf, AnyOf, Joinable, Trigger, fired
from ._readings import Readings

__all__ = [
    "NAME",
    "OPERATORS",
    "RESERVED",
    "AllOf",
    "AnyOf",
    "Derivative",
    "Joinable",
    "PeakFound",
    "Readings",
    "Threshold",
    "Trigger",
    "Within",
    "fired",
]

#: What a reading can be compared by.
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}

#: A name that is written as it is in the text form; all others, and words with a meaning, are
#: written in double quotes.
NAME = re.compile(r"[^\W\d](?:[\w.:-]*\w)?")
RESERVED = ("and", "or", "not")


@dataclass(frozen=True)
class _Comparison(Joinable):
    """What a number of a reading is compared with; a subclass says which number."""

    name: str
    op: str
    value: float

    def __post_init__(self) -> None:
        _check_comparison(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The reading."""
        return (self.name,)

    def evaluate(self, readings: Readings) -> bool:
        """Return whether the number compares."""
        return _compares(self._number(readings), self.op, self.value)

    def fired(self, readings: Readings) -> str:
        """Return the number and what it was compared with."""
        number, subject = self._number(readings), self._subject(self.name)
        return f"{subject} = {number:.6g} {self.op} {_written(self.value)}"

    def __str__(self) -> str:
        return f"{self._subject(_quoted(self.name))} {self.op} {_written(self.value)}"

    def _number(self, readings: Readings) -> float:
        raise NotImplementedError(self)

    def _subject(self, name: str) -> str:
        raise NotImplementedError(self)


@dataclass(frozen=True)
class Threshold(_Comparison):
    """Fires when a reading compares with a value: one of > >= < <= == !=.

    A reading that is missing or NaN never fires.

    Raises
    ------
    ValueError
        There is no such operator, the value is not finite, or the name is empty or contains a
        double quote.

    Examples
    --------
    >>> trigger = Threshold("cam-sum", ">", 1000)
    >>> trigger.evaluate(Readings({"cam-sum": 1523.0}))
    True
    >>> str(trigger), trigger.fired(Readings({"cam-sum": 1523.0}))
    ('cam-sum > 1000', 'cam-sum = 1523 > 1000')
    """

    def _number(self, readings: Readings) -> float:
        return readings.number(self.name)

    def _subject(self, name: str) -> str:
        return name


@dataclass(frozen=True)
class Derivative(_Comparison):
    """Fires when the change of a reading per unit of the axis compares with a value.

    The change is that between the latest two acquisitions of a pass (`Readings.derivative`): with
    one alone, nothing fires.

    Raises
    ------
    ValueError
        As for `Threshold`.

    Examples
    --------
    >>> trigger = Derivative("det", ">", 50)
    >>> trigger.evaluate(Readings({"det": 17.0}, (0.2,), {"det": 5.0}, (0.1,)))
    True
    >>> str(trigger)
    'derivative(det) > 50'
    """

    def _number(self, readings: Readings) -> float:
        return readings.derivative(self.name)

    def _subject(self, name: str) -> str:
        return f"derivative({name})"


@dataclass(frozen=True)
class Within(Joinable):
    """Fires when a reading is between two values, or at one of them.

    Raises
    ------
    ValueError
        `lo` is above `hi`, one is not finite, or the name is empty or contains a double quote.

    Examples
    --------
    >>> trigger = Within("det", 10, 20)
    >>> trigger.evaluate(Readings({"det": 20})), str(trigger)
    (True, 'within(det, 10, 20)')
    """

    name: str
    lo: float
    hi: float

    def __post_init__(self) -> None:
        _check_name(self.name)
        _store_number(self, "lo")
        _store_number(self, "hi")
        if self.lo > self.hi:
            raise ValueError(
                f"nothing is within {_written(self.lo)} and {_written(self.hi)}; "
                "give the smaller number first"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The reading."""
        return (self.name,)

    def evaluate(self, readings: Readings) -> bool:
        """Return whether the latest reading is in the interval."""
        return self.lo <= readings.number(self.name) <= self.hi

    def fired(self, readings: Readings) -> str:
        """Return the reading and the interval."""
        value = readings.number(self.name)
        return f"{self.name} = {value:.6g} within {_written(self.lo)} and {_written(self.hi)}"

    def __str__(self) -> str:
        return f"within({_quoted(self.name)}, {_written(self.lo)}, {_written(self.hi)})"


@dataclass(frozen=True)
class PeakFound(Joinable):
    """Fires when there is a peak in the scan's signal, among all that has been measured so far.

    Parameters
    ----------
    min_prominence
        In the units of the signal.
    min_height
        Of the signal itself at the peak, background included, as in `find_peaks`.
    min_width, max_width
        Of the FWHM, along each axis, in its units.

    Raises
    ------
    ValueError
        A number is negative (a height may be) or not finite, or `min_width` is above `max_width`.

    Examples
    --------
    >>> seen = Readings({}, find=lambda: [Peak(7.1, 0.5, 900.0, prominence=880.0)])
    >>> trigger = PeakFound(min_prominence=500)
    >>> trigger.evaluate(seen), str(trigger)
    (True, 'peak(prominence=500)')
    >>> trigger.fired(seen)
    'a peak at 7.1 (prominence 880, width 0.5)'
    """

    min_prominence: float | None = None
    min_height: float | None = None
    min_width: float | None = None
    max_width: float | None = None

    #: What the text form calls each.
    TEXT: ClassVar[dict[str, str]] = {
        "prominence": "min_prominence",
        "height": "min_height",
        "width": "min_width",
        "max_width": "max_width",
    }

    def __post_init__(self) -> None:
        for attribute in self.TEXT.values():
            if getattr(self, attribute) is None:
                continue
            _store_number(self, attribute)
            value = getattr(self, attribute)
            if value < 0 and attribute != "min_height":
                raise ValueError(
                    f"{attribute} is {_written(value)}; it cannot be negative, give 0 or more"
                )
        low, high = self.min_width, self.max_width
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"no width is between {_written(low)} and {_written(high)}; "
                "give a max_width that is not below min_width"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """None: it uses the scan's signal."""
        return ()

    def evaluate(self, readings: Readings) -> bool:
        """Return whether there is such a peak."""
        return self._first(readings) is not None

    def fired(self, readings: Readings) -> str:
        """Return where the most prominent such peak is, and what it is like."""
        peak = self._first(readings)
        if peak is None:
            return ""
        center, fwhm = (
            " x ".join(f"{value:.6g}" for value in each) for each in (peak.centers, peak.fwhms)
        )
        return f"a peak at {center} (prominence {peak.prominence:.6g}, width {fwhm})"

    def _first(self, readings: Readings) -> Peak | None:
        return next(filter(self._fits, readings.peaks), None)

    def _fits(self, peak: Peak) -> bool:
        top = peak.height + (0.0 if math.isnan(peak.background) else peak.background)
        return (
            (self.min_prominence is None or peak.prominence >= self.min_prominence)
            and (self.min_height is None or top >= self.min_height)
            and (self.min_width is None or all(w >= self.min_width for w in peak.fwhms))
            and (self.max_width is None or all(w <= self.max_width for w in peak.fwhms))
        )

    def __str__(self) -> str:
        given = ((word, getattr(self, attribute)) for word, attribute in self.TEXT.items())
        return f"peak({', '.join(f'{k}={_written(v)}' for k, v in given if v is not None)})"


def _compares(value: float, op: str, with_value: float) -> bool:
    # What is not known compares with nothing, not even as different.
    return not math.isnan(value) and OPERATORS[op](value, with_value)


def _check_comparison(trigger: _Comparison) -> None:
    _check_name(trigger.name)
    if trigger.op not in OPERATORS:
        raise ValueError(f"there is no operator {trigger.op!r}; there are {' '.join(OPERATORS)}")
    _store_number(trigger, "value")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name or '"' in name:
        raise ValueError(f"no reading is named {name!r}; give a text without double quotes")


def _store_number(trigger: Joinable, attribute: str) -> None:
    value = getattr(trigger, attribute)
    if not isinstance(value, Real):
        raise TypeError(
            f"{attribute} is {value!r:.60} of type {type(value).__name__}; give a number"
        )
    if not math.isfinite(value):
        raise ValueError(f"{attribute} is {value}; give a finite number")
    object.__setattr__(trigger, attribute, float(value))


def _quoted(name: str) -> str:
    return name if NAME.fullmatch(name) and name not in RESERVED else f'"{name}"'


def _written(value: float) -> str:
    """Return a number as text that gives exactly it back."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
