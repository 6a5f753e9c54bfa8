"""The documents are what zarr-python itself would write, and every reader takes them."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from zarr.storage import MemoryStore

from bluesky_zarr.store._metadata import (
    array_document,
    consolidated,
    group_document,
    nodes,
    plain,
    read_document,
    sharded_document,
    write_document,
)

pytestmark = pytest.mark.filterwarnings("error")


def made_by_zarr(**arguments):
    memory = MemoryStore()
    zarr.create_array(memory, zarr_format=3, **arguments)
    return json.loads(memory._store_dict["zarr.json"].to_bytes())


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int64", "float32", "float64", "str"])
def test_an_array_document_is_zarr_pythons_own(dtype):
    document = array_document(shape=(5, 7), dtype=dtype, chunks=(2, 7), dims=("y", "x"))
    own = made_by_zarr(
        shape=(5, 7),
        dtype=np.dtype(dtype).newbyteorder("<") if dtype != "str" else dtype,
        chunks=(2, 7),
        dimension_names=("y", "x"),
        attributes={"_ARRAY_DIMENSIONS": ["y", "x"]},
        compressors=[zarr.codecs.Crc32cCodec()],
    )
    assert document == own


def test_nan_as_fill_value_and_the_attributes_are_written_as_zarr_does():
    document = array_document(
        shape=(3,),
        dtype="float64",
        chunks=(3,),
        dims=("x",),
        fill_value=math.nan,
        units="mm",
        long_name="position",
        attributes={"gain": np.float32(2), "limits": (0, math.inf)},
    )
    assert document["fill_value"] == "NaN"
    assert document["attributes"] == {
        "_ARRAY_DIMENSIONS": ["x"],
        "units": "mm",
        "long_name": "position",
        "gain": 2.0,
        "limits": [0, "Infinity"],
    }


def test_the_two_phases_of_a_sharded_array_differ_in_their_index_only():
    def made(published):
        return sharded_document(
            shape=(4, 6),
            dtype="uint16",
            shard=(4, 6),
            inner=(1, 6),
            dims=("k", "x"),
            codec="blosc-zstd-1",
            published=published,
        )

    live, done = made(False), made(True)
    index = live["codecs"][0]["configuration"]
    assert index["index_location"] == "start"
    assert [codec["name"] for codec in index["index_codecs"]] == ["bytes"]
    assert [codec["name"] for codec in index["codecs"]] == ["bytes", "blosc", "crc32c"]
    assert index["codecs"][1]["configuration"]["typesize"] == 2
    index["index_location"] = "end"
    index["index_codecs"].append({"name": "crc32c"})
    assert live == done


def test_documents_do_not_share_anything_that_one_could_change():
    first = array_document(shape=(3,), dtype="int64", chunks=(3,), dims=("x",))
    first["codecs"].clear()
    first["attributes"]["x"] = 1
    second = array_document(shape=(3,), dtype="int64", chunks=(3,), dims=("x",))
    assert second["codecs"]
    assert "x" not in second["attributes"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dims": ("y",)}, r"dims=\('y',\) has 1 entries, the shape \(5, 7\) has 2; give one for"),
        ({"chunks": (2,)}, r"chunks=\(2,\) has 1 entries"),
        ({"chunks": (0, 7)}, r"chunks=\(0, 7\) has an entry below 1"),
        ({"shape": (-1, 7)}, r"the shape \(-1, 7\) has a negative length"),
        ({"dtype": "M8[s]"}, r"the dtype datetime64\[s\] is not stored; use bool, an integer"),
        ({"dtype": "nonsense"}, r"'nonsense' is not a numpy dtype; write for example 'uint16'"),
    ],
)
def test_what_makes_no_array_is_refused(changed, words):
    good = {"shape": (5, 7), "dtype": "int64", "chunks": (5, 7), "dims": ("y", "x")}
    with pytest.raises(ValueError, match=words):
        array_document(**{**good, **changed})


def test_a_shard_that_is_not_a_whole_number_of_chunks_is_refused():
    with pytest.raises(ValueError, match=r"a shard of \(5,\) is not a whole number of .* \(2,\)"):
        sharded_document(
            shape=(9,),
            dtype="u1",
            shard=(5,),
            inner=(2,),
            dims=("x",),
            codec="none",
            published=False,
        )


def test_values_become_what_json_holds():
    when = datetime(2026, 11, 20, tzinfo=UTC)
    given = {1: np.int64(3), "a": np.arange(2), "t": when, "n": np.nan, "o": {"x": None, "y": True}}
    assert plain(given) == {
        "1": 3,
        "a": [0, 1],
        "t": "2026-11-20T00:00:00+00:00",
        "n": "NaN",
        "o": {"x": None, "y": True},
    }


# ------------------------------------------------------------------------------------------ on disk


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "x.zarr"
    (root / "primary" / "cam").mkdir(parents=True)
    (root / "primary" / "x").mkdir()
    write_document(root, group_document({"status": "running"}))
    write_document(root / "primary", group_document())
    write_document(
        root / "primary" / "cam",
        sharded_document(
            shape=(3, 4),
            dtype="uint16",
            shard=(3, 4),
            inner=(1, 4),
            dims=("x", "cam_x"),
            codec="none",
            published=False,
        ),
    )
    write_document(
        root / "primary" / "x",
        array_document(shape=(3,), dtype="float64", chunks=(3,), dims=("x",), fill_value=math.nan),
    )
    return root


def test_consolidated_metadata_is_zarr_pythons_own(store):
    document = consolidated(store)
    assert read_document(store).get("consolidated_metadata") is None, "nothing is written"
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(str(store))
    assert read_document(store) == document


def test_every_reader_opens_live_and_consolidated_stores_without_a_warning(store):
    for live in (True, False):
        if not live:
            for group in (store / "primary", store):
                write_document(group, consolidated(group))
        # xarray warns where it has to look for consolidated metadata in vain.
        options = {"consolidated": False} if live else {}
        assert xarray.open_zarr(store, group="primary", **options)["cam"].dims == ("x", "cam_x")
        tree = xarray.open_datatree(store, engine="zarr", **options)
        assert tree["primary/cam"].shape == (3, 4)
        assert zarr.open_group(str(store), mode="r")["primary/x"].shape == (3,)
        spec = {"driver": "zarr3", "kvstore": f"file://{store}/primary/cam/"}
        assert tensorstore.open(spec).result().shape == (3, 4)


def test_nodes_gives_groups_before_their_members_and_passes_over_temporary_files(store):
    (store / "primary" / ".x.tmp").mkdir()
    (store / "primary" / "cam" / "c").mkdir()
    (store / "outside").symlink_to(store / "primary")
    assert [key for key, _ in nodes(store)] == ["primary", "primary/cam", "primary/x"]


def test_a_missing_or_damaged_document_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a Zarr v3 array or group: it has no zarr"):
        read_document(tmp_path / "nothing")
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"zarr.json' is not JSON .* restore it from a copy"):
        read_document(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 2}')
    with pytest.raises(ValueError, match="is not a Zarr v3 document"):
        read_document(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "tree"}')
    with pytest.raises(ValueError, match="has the node_type 'tree', not 'array' or 'group'"):
        read_document(tmp_path)
