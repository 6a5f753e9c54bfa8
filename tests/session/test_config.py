"""A configuration that cannot work is refused, with a message that says what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bluesky.run_engine import RunEngine

from bluesky_zarr import Storage, StorageConfig

START = {"plan_name": "count", "scan_id": 3, "uid": "0123456789ab", "time": 0.0}


def test_yaml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "storage.yaml"
    file.write_text(
        f"base_uri: file://{tmp_path}/data\nnaming: '{{date}}/{{scan_id:06d}}'\ncodec: zstd-3\n"
    )
    storage = Storage.from_yaml(file)
    assert storage.config.codec == "zstd-3"
    assert storage.config.store_name(START).endswith("/000003.zarr")


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BLUESKY_ZARR_BASE_URI", f"file://{tmp_path}")
    monkeypatch.setenv("BLUESKY_ZARR_CODEC", "lz4")
    assert StorageConfig().codec == "lz4"  # pyright: ignore[reportCallIssue] (base_uri is set)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base_uri: data/here", "absolute"),
        ("base_uri: http://example.org/data", "http"),
        ("base_uri: file:///data\ncolour: blue", "Known keys: base_uri, naming"),
        ("base_uri: file:///data\nnaming: '../{uid}'", "leaves the base directory"),
        ("base_uri: file:///data\nnaming: '/abs/{uid}'", "leaves the base directory"),
        ("base_uri: file:///data\nnaming: '{uid.__class__}'", "use plan_name, scan_id"),
        ("base_uri: file:///data\nnaming: '{uid[0]}'", "use plan_name, scan_id"),
        ("base_uri: file:///data\nnaming: '{uid!r}'", "use plan_name, scan_id"),
        ("base_uri: file:///data\nnaming: '{uid:>99999999}'", "one like ':05d'"),
        ("base_uri: file:///data\nnaming: '{uid'", "cannot be read"),
        ("base_uri: file:///data\nnaming: 'a\\b{uid}'", "characters other than"),
        ("base_uri: file:///data\ncodec: jpeg", "blosc-zstd"),
        ("base_uri: file:///data\nlayout: fast", "'frames', 'series' or 'balanced'"),
        ("- a\n- b", "is not a mapping"),
        ("a: [1", "is not plain YAML"),
        ("!!python/object/apply:os.system ['true']", "is not plain YAML"),
        ("base_uri: !!python/name:os.system", "is not plain YAML"),
    ],
)
def test_bad_yaml_says_what_to_change(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "storage.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"storage\.yaml") as raised:
        Storage.from_yaml(file)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "hostile",
    ["../../etc/passwd", "/abs", "a\\b", "..", "", "x" * 5000, "{uid}", "a\x00b", "é💥", None, 7],
)
def test_hostile_documents_make_harmless_names(hostile: Any) -> None:
    config = StorageConfig(base_uri="file:///data", naming="{plan_name}-{scan_id}-{uid}")
    name = config.store_name({"plan_name": hostile, "scan_id": hostile, "uid": hostile})
    assert "/" not in name
    assert ".." not in name.split(".zarr")[0].split("-")
    assert len(name.encode()) <= 255
    assert name.isascii()
    assert name.isprintable()


def test_a_durability_travels_by_name_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text("base_uri: file:///data\ndurability: flush-100-frames\n")
    assert StorageConfig.from_yaml(path).durability == "flush-100-frames"
    with pytest.raises(ValueError, match=r"durability 'flush-often' is none of .*flush-X-s"):
        StorageConfig(base_uri="file:///data", durability="flush-often")


def test_a_config_and_options_are_not_mixed() -> None:
    config = StorageConfig(base_uri="file:///data")
    with pytest.raises(ValueError, match="not both"):
        Storage(config, codec="lz4")


def test_only_writable_devices_are_injected(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ophyd_provider"):
        Storage(f"file://{tmp_path}").inject("a text")  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_a_base_that_cannot_be_written_is_refused_before_any_scan() -> None:
    # Nobody may make directories there, root included.
    storage = Storage("file:///sys/bluesky-zarr/data")
    with pytest.raises(OSError, match="another base_uri") as raised:
        storage.attach(RunEngine())
    assert "/sys/bluesky-zarr" in str(raised.value)
