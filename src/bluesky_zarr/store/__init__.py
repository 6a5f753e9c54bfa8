"""Stores: layout, shard files, writers, publication, validation, recovery."""

from ._arrays import ArrayWriter
from ._batch import BatchStore, InvalidStoreError
from ._codecs import CODECS_HELP
from ._columns import Column
from ._fold import fold
from ._inspect import StoreSummary, inspect
from ._journal import Journal
from ._layout import Layout, choose_layout
from ._merge import merge
from ._names import RESERVED
from ._paths import (
    PathInfo,
    PathProvider,
    StaticPathProvider,
    array_uri,
    check_inside,
    check_key,
    store_path,
    store_uri,
)
from ._positions import FrameError
from ._publish import STATUSES, PublishedError, publish
from ._recover import recover
from ._relayout import relayout
from ._report import Problem, Report
from ._sink import FrameSink
from ._source_info import SourceInfo
from ._status import Listing, StoreState, recover_all, status
from ._table import StreamTable
from ._validate import validate
from ._writer import Writer
from ._zarr_writer import ZarrWriter

__all__ = [
    "CODECS_HELP",
    "RESERVED",
    "STATUSES",
    "ArrayWriter",
    "BatchStore",
    "Column",
    "FrameError",
    "FrameSink",
    "InvalidStoreError",
    "Journal",
    "Layout",
    "Listing",
    "PathInfo",
    "PathProvider",
    "Problem",
    "PublishedError",
    "Report",
    "SourceInfo",
    "StaticPathProvider",
    "StoreState",
    "StoreSummary",
    "StreamTable",
    "Writer",
    "ZarrWriter",
    "array_uri",
    "check_inside",
    "check_key",
    "choose_layout",
    "fold",
    "inspect",
    "merge",
    "publish",
    "recover",
    "recover_all",
    "relayout",
    "status",
    "store_path",
    "store_uri",
    "validate",
]
