"""Where a store may be and what may be in it; every refusal says what to write instead."""

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    PathInfo,
    PathProvider,
    StaticPathProvider,
    array_uri,
    check_inside,
    check_key,
    store_path,
    store_uri,
)
from bluesky_zarr.store._paths import local_path

# ------------------ stores


@pytest.mark.parametrize(
    "uri",
    [
        "file:///data/scan.zarr",
        "file://localhost/data/scan.zarr",
        "/data/scan.zarr",
        "/data//./scan.zarr/",
        Path("/data/scan.zarr"),
    ],
)
def test_every_way_to_name_a_store_gives_one_path_and_one_uri(uri):
    assert store_path(uri) == Path("/data/scan.zarr")
    assert store_uri(uri) == "file:///data/scan.zarr"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("data/x", r"'data/x' is not an absolute path or file:// URI; write file:///data/x"),
        ("", r"'' is not an absolute path or file:// URI; write file:///data/scan001.zarr"),
        ("file:data/x", r"'data/x' is not an absolute path .* write file:///data/x"),
        (None, "None is not an absolute path or file:// URI"),
        ("s3://bucket/x.zarr", r"s3:// stores are not supported yet in this version; use file://"),
        ("http://host/x.zarr", r"http:// stores are not supported yet in this version"),
        ("://x", "not supported yet"),
        ("file://data/x.zarr", r"is on the host 'data'.* write file:///data/x.zarr if that was"),
        ("file://[x/y", r"is not a URI .*; write file:///data/scan001.zarr"),
        ("file:///data/../x.zarr", r"'/data/../x.zarr' contains '..'; write out the directory"),
        ("/data/../x.zarr", r"contains '..'"),
        ("file:///data/%2e%2e/x.zarr", r"contains '..'"),
        ("file:///", "names no directory; add a name, as in file:///data/scan001.zarr"),
        ("file:///data/x.zarr?a=1", r"contains '\?' or '#', which end the path of a URI"),
        ("file:///data/x#1", r"contains '\?' or '#'"),
        ("/data/50%/x.zarr", r"contains '%', which readers of a URI misread; choose another path"),
        ("/data/x\x00.zarr", r"contains the control character '\\x00'; choose another path"),
        ("file:///data/x%0a.zarr", r"contains the control character '\\n'"),
        ("file:///data/%ff.zarr", r"contains the control character '\\udcff'"),
        ("/data/" + "x" * 256, "256 bytes long, a file name has at most 255; choose another path"),
    ],
)
def test_what_names_no_store_is_refused_with_what_to_write(uri, words):
    with pytest.raises(ValueError, match=words):
        store_path(uri)


def test_uris_carry_no_encoding_because_readers_do_not_undo_it(tmp_path):
    store = tmp_path / "2026 november" / "größe+(1).zarr"
    assert store_uri(store) == f"file://{store}"
    assert store_path(store_uri(store)) == store
    assert store_path(store.as_uri()) == store, "an encoded URI is understood all the same"


def test_an_array_uri_has_a_host_and_the_key():
    assert (
        array_uri("file:///data/x.zarr", "primary/cam")
        == "file://localhost/data/x.zarr/primary/cam"
    )
    with pytest.raises(ValueError, match="leaves the store"):
        array_uri("file:///data/x.zarr", "../cam")


def test_what_a_person_types_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path("x.zarr") == tmp_path / "x.zarr"
    assert local_path(f"file://{tmp_path}/x.zarr") == tmp_path / "x.zarr"


# ------------------ keys


@pytest.mark.parametrize("key", ["cam", "primary/cam", "c", "cam-1", "größe", "a.b", "x" * 255])
def test_ordinary_names_are_keys(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is empty; give the device a name"),
        (None, "is not a string"),
        ("..", r"leaves the store \('..'\); use the device's name"),
        ("primary/../../cam", "leaves the store"),
        ("/cam", "is absolute; leave out the leading '/'"),
        ("a\\b", "contains a backslash; separate groups by '/'"),
        ("primary//cam", "has an empty part; write single '/'"),
        ("cam/", "has an empty part"),
        (".cam", r"'.cam' starts with a dot, kept for temporary files; choose another name"),
        ("primary/.", "starts with a dot"),
        ("__cam", "'__cam' starts with '__', kept by the Zarr specification; choose another name"),
        ("cam/zarr.json", "'zarr.json' is Zarr's own metadata file; choose another name"),
        ("cam\x00", r"contains the control character '\\x00'"),
        ("cam\n1", r"contains the control character '\\n'"),
        ("cam\u2028", "contains the control character"),
        ("cam\udcff", "contains the control character"),
        ("cam?1", r"contains '\?', which readers of a URI misread"),
        ("ü" * 128, "256 bytes long, a file name has at most 255; choose another name"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_with_what_to_change(key, words):
    with pytest.raises(ValueError, match=words):
        check_key(key)


def test_a_symbolic_link_out_of_the_store_is_refused(tmp_path):
    store, outside = tmp_path / "x.zarr", tmp_path / "outside"
    (store / "primary").mkdir(parents=True)
    outside.mkdir()
    (store / "escape").symlink_to(outside)
    (store / "primary" / "up").symlink_to("../..")
    (store / "nowhere").symlink_to("/does/not/exist")
    (store / "loop").symlink_to("loop")
    for key in ("escape", "escape/cam", "primary/up/cam", "nowhere", "loop/cam"):
        with pytest.raises(ValueError, match=r"is a symbolic link to .* out of the store"):
            check_inside(store, key)


def test_a_link_within_the_store_and_a_link_to_the_store_are_fine(tmp_path):
    store = tmp_path / "x.zarr"
    (store / "primary").mkdir(parents=True)
    (store / "alias").symlink_to("primary")
    assert check_inside(store, "alias/cam") == store / "alias" / "cam"
    (tmp_path / "link.zarr").symlink_to(store)
    assert check_inside(tmp_path / "link.zarr", "primary/cam")


# ------------------ PathInfo


def test_a_path_info_travels():
    geometry = ScanGeometry.from_spec(Linspace("x", 0, 1, 3))
    info = PathInfo("file:///data/x.zarr", "cam", 6, geometry=geometry, extra={"units": "counts"})
    assert pickle.loads(pickle.dumps(info)) == info
    with pytest.raises(FrozenInstanceError):
        info.capacity = 7  # pyright: ignore[reportAttributeAccessIssue] (wrong on purpose)


def test_a_path_info_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match="not supported yet"):
        PathInfo("s3://bucket/x.zarr")
    with pytest.raises(ValueError, match="leaves the store"):
        PathInfo("/data/x.zarr", "../cam")
    with pytest.raises(
        ValueError, match="capacity=-1 is not a number of frames; use 0 for unlimit"
    ):
        PathInfo("/data/x.zarr", "cam", -1)
    assert PathInfo("/data/x.zarr").store_uri == "file:///data/x.zarr"


def test_what_the_caller_does_to_extra_afterwards_changes_nothing():
    extra = {"axes": ["y", "x"]}
    info = PathInfo("/data/x.zarr", extra=extra)
    extra["axes"].append("z")
    assert info.extra == {"axes": ["y", "x"]}
    assert isinstance(hash(info), int)


def test_the_static_provider_gives_each_device_its_name_as_key():
    provider: PathProvider = StaticPathProvider("/data/x.zarr", capacity=10)
    assert isinstance(provider, PathProvider)
    assert pickle.loads(pickle.dumps(provider))("cam") == PathInfo("/data/x.zarr", "cam", 10)
    with pytest.raises(ValueError, match="leaves the store"):
        provider("..")
    with pytest.raises(ValueError, match="not an absolute path"):
        StaticPathProvider("data/x.zarr")
