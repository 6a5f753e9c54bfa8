"""What comes from outside may be anything: it is taken, or refused in words; nothing else."""

from __future__ import annotations

import contextlib
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bluesky_zarr import PathInfo, StorageConfig
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.plans import parse_condition
from bluesky_zarr.store import Journal, validate
from bluesky_zarr.store._shard import ShardFile

FEW, MANY = 1_000, 100_000
_WORDS = (
    "file:///", "../", "..", "/", "\\", "%2e%2e%2f", "{uid}", "{uid.__class__}", "{0}", "${HOME}",
    "!!python/object/apply:os.system", "&a", "*a", "\x00", "\n", "\u202e", "\ud800", "cam",
    "base_uri: ", "naming: ", "codec: ", "peak(prominence=", ")", "(", " and ", " or ", "not ", ">",
    "<=", "1e999", "-", "nan", "zstd-1", "__import__('os')", "x" * 300, "s3://b/k", "[", "]", "{",
    "}", "\"", "'",
)  # fmt: skip


def text(chance: random.Random) -> str:
    parts = [
        chance.choice(_WORDS)
        if chance.random() < 0.7
        else "".join(chance.choices(string.printable, k=chance.randrange(8)))
        for _ in range(chance.randrange(8))
    ]
    return "".join(parts)


def value(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(9 if depth else 6)
    if kind < 2:
        return text(chance)
    if kind == 2:
        return chance.choice([0, 1, -1, 2**31, 2**63, -(2**70), True, None])
    if kind == 3:
        return chance.choice([0.0, 1.5, float("nan"), float("inf"), -1e308])
    if kind == 4:
        return chance.choice([[], {}, ()])
    if kind == 5:
        return chance.randbytes(4)
    if kind < 8:
        return [value(chance, depth - 1) for _ in range(chance.randrange(5))]
    return {text(chance): value(chance, depth - 1) for _ in range(chance.randrange(5))}


def a_config(chance: random.Random, directory: Path) -> None:
    path = directory / "storage.yaml"
    content = text(chance)
    if chance.random() < 0.5:
        keys = ("base_uri", "naming", "codec", "layout", "durability", "publication", text(chance))
        content = yaml.dump({chance.choice(keys): value(chance) for _ in range(3)})
    path.write_text(content, encoding="utf-8", errors="replace")
    config = StorageConfig.from_yaml(path)
    a_name(chance, config)


def a_name(chance: random.Random, config: StorageConfig) -> None:
    name = config.store_name(
        {"plan_name": value(chance), "scan_id": value(chance), "uid": text(chance)}
    )
    assert ".." not in Path(name).parts
    assert not name.startswith("/")
    assert len(name.encode()) < 1024


def a_path(chance: random.Random, directory: Path) -> None:
    info = PathInfo(text(chance), text(chance), capacity=value(chance))
    assert ".." not in info.array_key.split("/")
    assert info.store_uri.startswith("file:///")


def a_start(chance: random.Random, directory: Path) -> None:
    keys = (
        "shape",
        "extents",
        "snaking",
        "hints",
        "motors",
        "num_points",
        "plan_args",
        "plan_name",
    )
    start = {key: value(chance) for key in keys if chance.random() < 0.7}
    if chance.random() < 0.5:
        start["hints"] = {"gridding": "rectilinear", "dimensions": value(chance)}
    geometry = ScanGeometry.from_start(start)
    assert len(geometry.shape) <= 64


def a_condition(chance: random.Random, directory: Path) -> None:
    parse_condition(text(chance))


def a_root(chance: random.Random, directory: Path) -> None:
    document = {"zarr_format": 3, "node_type": chance.choice(["group", "array", text(chance)])}
    if chance.random() < 0.9:
        document["attributes"] = chance.choice(
            [
                value(chance),
                {"format": value(chance), "status": value(chance), "arrays": value(chance)},
            ]
        )
    store = directory / "scan.zarr"
    store.mkdir(exist_ok=True)
    content = json.dumps(document, default=repr)
    (store / "zarr.json").write_text(content if chance.random() < 0.9 else content[:20])
    assert str(validate(store))


def an_index(chance: random.Random, directory: Path) -> None:
    path = directory / "shard"
    path.write_bytes(chance.randbytes(chance.randrange(400)))
    with ShardFile(path, chance.randrange(1, 20), writable=False) as shard:
        for _, extent in shard.present():
            shard.chunk_is_whole(extent)
            shard.read_record(extent)
        list(shard.records())
        shard.end_index_is_whole()


def a_journal(chance: random.Random, directory: Path) -> None:
    store = directory / "scan.zarr"
    line = json.dumps({"kind": text(chance), "payload": value(chance)}, default=repr)
    Journal.path_of(store).write_bytes(chance.randbytes(20) + line.encode() + b"\n")
    assert not list(Journal.read(store))


PARSERS = [a_config, a_path, a_start, a_condition, a_root, an_index, a_journal]


def fuzz(parse: Callable[[random.Random, Path], None], directory: Path, times: int) -> None:
    inside = directory / "inside"
    inside.mkdir()
    before = sorted(directory.rglob("*"))
    for seed in range(times):
        chance = random.Random(f"{parse.__name__} {seed}")
        try:
            with contextlib.suppress(ValueError):  # the documented error; pydantic's is one, too
                parse(chance, inside)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
    assert [p for p in sorted(directory.rglob("*")) if not p.is_relative_to(inside)] == [
        p for p in before if not p.is_relative_to(inside)
    ], "nothing is written outside"


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
def test_whatever_it_is_it_is_taken_or_refused(tmp_path: Path, parse: Any) -> None:
    fuzz(parse, tmp_path, FEW // len(PARSERS))


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
def test_100_000_inputs_are_taken_or_refused(tmp_path: Path, parse: Any) -> None:
    fuzz(parse, tmp_path, MANY // len(PARSERS))
