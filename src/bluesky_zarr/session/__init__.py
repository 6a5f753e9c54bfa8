"""`Storage`, which ties devices, plans and stores to a RunEngine."""

from ._config import StorageConfig
from ._recorder import PlacementError
from ._storage import Storage

__all__ = ["PlacementError", "Storage", "StorageConfig"]
