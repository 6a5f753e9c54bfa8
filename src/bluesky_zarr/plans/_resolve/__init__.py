"""`Resolve`: the strategy that finds peaks and resolves them with few points."""

from ._strategy import Resolve

__all__ = ["Resolve"]
