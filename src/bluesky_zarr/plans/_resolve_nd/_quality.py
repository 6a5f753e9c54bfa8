"""Whether a fit describes what was measured."""

from __future__ import annotations

import math

from bluesky_zarr.peaks._surface import SurfaceFit

__all__ = ["inflation_of", "poor"]


def poor(fit: SurfaceFit) -> bool:
    """Whether the points contradict the fit, all of them or those on the peaks alone."""
    core, freedom = _core_chi_squared(fit)
    return _unlikely(fit.chi_squared, fit.freedom) or _unlikely(core, freedom)


def inflation_of(fit: SurfaceFit) -> float:
    """What the errors are larger by, where the peak does not follow the formula."""
    chi_squared, freedom = _core_chi_squared(fit)
    return math.sqrt(max(1.0, chi_squared / freedom)) if freedom > 2 else 1.0


def _core_chi_squared(fit: SurfaceFit) -> tuple[float, int]:
    """Chi-squared of the points on the peaks alone, and how many more they are than parameters."""
    core = fit.peaks > 0.1 * max(float(fit.peaks.max()), 1e-300)
    freedom = int(core.sum()) - fit.surface.peaks * fit.surface.each
    return float((fit.residuals[core] ** 2).sum()), freedom


def _unlikely(chi_squared: float, freedom: int) -> bool:
    """Whether noise alone makes chi-squared as large in less than about one of a hundred cases."""
    # Wilson and Hilferty: the cube root of chi-squared is nearly normal.
    if freedom < 1:
        return False
    spread = 2 / (9 * freedom)
    return (chi_squared / freedom) ** (1 / 3) > 1 - spread + 2.4 * math.sqrt(spread)
