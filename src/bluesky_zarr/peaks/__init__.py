"""Peaks in a signal: detection, fits, uncertainties. Knows nothing but numbers."""

from ._find import Peaks, find_peaks
from ._fit import Fit, fit_peaks
from ._fit_nd import FitND, fit_peaks_nd
from ._found import Rejected
from ._nd import PeaksND, find_peaks_nd
from ._peak import Peak

__all__ = [
    "Fit",
    "FitND",
    "Peak",
    "Peaks",
    "PeaksND",
    "Rejected",
    "find_peaks",
    "find_peaks_nd",
    "fit_peaks",
    "fit_peaks_nd",
]
