"""What a reading is when it becomes a column: its type, its shape, and how a value becomes an
element.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_zarr.store._metadata import plain

_WORDS = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "str"}
_TEXT = ("str", "string", "json")


class Misfit(Exception):
    """A value that its column cannot hold."""


@dataclass(frozen=True)
class Column:
    """A reading that every event of a stream has: one element, or one small array, per position of
    the scan.

    A single float is stored as float64, a single integer as int64 (uint64 where it is one), text as
    text of any length; arrays keep their dtype; anything else is stored as JSON text.

    Parameters
    ----------
    dtype
        A numpy dtype ("float64", "<u2"), a word of the documents ("number", "integer", "boolean",
        "string"), or "json" for whatever has no fixed type or shape.
    shape
        That of one value; () for a single one.
    units, long_name
        Stored as attributes.
    dims
        The names of the value's dims, by default dim_0, dim_1, ...

    Raises
    ------
    ValueError
        `dims` do not name each dim of `shape`.

    Examples
    --------
    >>> Column("number", units="A").stored_dtype
    '<f8'
    """

    dtype: str
    shape: tuple[int, ...] = ()
    units: str = ""
    long_name: str = ""
    dims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dims", tuple(self.dims))
        if self.dims and len(self.dims) != len(self.shape):
            raise ValueError(
                f"a column has dims={self.dims} for values of the shape {self.shape}; name each dim"
            )

    @property
    def stored_dtype(self) -> str:
        """The dtype of the array: a numpy name, or "str" for text and JSON."""
        if self.is_json:
            return "str"
        name = _WORDS.get(self.dtype, self.dtype)
        if name in _TEXT:
            return "str"
        dtype = np.dtype(name)
        if dtype.kind in "US":
            return "str"
        if self.shape:
            return dtype.newbyteorder("<").str
        if dtype.kind == "b":
            return "bool"
        if dtype.kind == "u" and dtype.itemsize == 8:
            return "<u8"
        return "<i8" if dtype.kind in "iu" else "<f8"

    @property
    def is_json(self) -> bool:
        """Whether values are stored as JSON text, because their type or shape has no place in an
        array.
        """
        name = _WORDS.get(self.dtype, self.dtype)
        if any(not isinstance(n, int) or n < 1 for n in self.shape):
            return True
        if name in _TEXT:
            # One text per element is a string array; an array of texts per element is not.
            return name == "json" or bool(self.shape)
        try:
            dtype = np.dtype(name)
        except TypeError:
            return True
        if dtype.kind in "US":
            return bool(self.shape)
        return dtype.kind not in "biuf" or dtype.itemsize > 8

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape that one value takes in the array: () for text and JSON."""
        return () if self.stored_dtype == "str" else self.shape

    def stored_dims(self, key: str) -> tuple[str, ...]:
        """The names of a value's own dims, made the reading's own by its key.

        Examples
        --------
        >>> Column("float64", (128,), dims=("channel",)).stored_dims("mca")
        ('mca_channel',)
        """
        names: Sequence[str] = self.dims or [f"dim_{i}" for i in range(len(self.shape))]
        return tuple(f"{key}_{name}" for name in names) if self.stored_shape else ()

    @property
    def fill_value(self) -> Any:
        """What stands where there is no value: NaN, 0, False or ""."""
        dtype = self.stored_dtype
        if dtype == "str":
            return ""
        return {"f": np.nan, "b": False}.get(np.dtype(dtype).kind, 0)

    def converter(self) -> Callable[[Any], Any]:
        """A function from a value to an element; it raises `Misfit` rather than change what the
        value says.
        """
        if self.is_json:
            return _to_json
        dtype = self.stored_dtype
        if dtype == "str":
            return _to_text
        if self.shape:
            return _ArrayConverter(np.dtype(dtype), self.shape)
        if dtype == "bool":
            return _to_bool
        return {"f": _to_float, "i": _to_int, "u": _to_uint}[np.dtype(dtype).kind]


def _to_json(value: Any) -> str:
    return json.dumps(plain(value))


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if value is None or not isinstance(value, (str, int, float, np.generic)):
            raise Misfit("is no text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misfit("is no text that UTF-8 can hold") from None
    return text


def _to_float(value: Any) -> float:
    if isinstance(value, str):
        raise Misfit("is no number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Misfit("is no number") from None


def _to_int(value: Any) -> int:
    return _whole(value, -(2**63), 2**63 - 1)


def _to_uint(value: Any) -> int:
    return _whole(value, 0, 2**64 - 1)


def _whole(value: Any, lowest: int, highest: int) -> int:
    try:
        whole = int(value)
        same = not isinstance(value, str) and bool(whole == value)
    except (TypeError, ValueError, OverflowError):
        same, whole = False, 0
    if not same:
        raise Misfit("is no whole number")
    if not lowest <= whole <= highest:
        raise Misfit(f"is not between {lowest} and {highest}")
    return whole


def _to_bool(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, float, np.generic)) and value in (0, 1):
        return bool(value)
    raise Misfit("is neither true nor false")


@dataclass(frozen=True)
class _ArrayConverter:
    dtype: np.dtype
    shape: tuple[int, ...]

    def __call__(self, value: Any) -> np.ndarray:
        try:
            given = np.asarray(value)
        except ValueError:
            raise Misfit("is no array") from None
        if given.shape != self.shape:
            raise Misfit(f"has the shape {given.shape}, not {self.shape}")
        if given.dtype.kind not in "biuf" or (given.dtype.kind == "f" and self.dtype.kind != "f"):
            raise Misfit(f"is of type {given.dtype}, not {self.dtype}")
        converted = given.astype(self.dtype)
        if self.dtype.kind != "f" and not np.array_equal(converted, given):
            raise Misfit(f"does not fit into {self.dtype}")
        return converted
