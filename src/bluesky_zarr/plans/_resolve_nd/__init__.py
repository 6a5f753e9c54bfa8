"""The efficient search for peaks over two axes and more.

Inside, all lengths are in units of the narrowest FWHM of each axis.
"""

from ._search import search_nd

__all__ = ["search_nd"]
