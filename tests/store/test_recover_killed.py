"""Whenever a writer, a publication or a recovery is killed, nothing announced is lost."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import zarr
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Journal, recover, validate
from bluesky_zarr.store._publish import publication_steps
from tests.store.crashed import TILES, copied, crashed, expect, frame, opened, set_entry


def test_a_store_left_at_any_step_of_publication_is_recovered(tmp_path):
    order = (0, 1, 2, 3, 2)
    original = crashed(tmp_path / "scan.zarr", order, layout=TILES)
    copy = copied(original, "count.zarr")
    steps = list(publication_steps(copy, status="complete"))
    for step in range(len(steps)):
        store = copied(original, f"{step}.zarr")
        for _ in zip(range(step), publication_steps(store, status="complete"), strict=False):
            pass
        # Also a frame that was not entered: the indexes that publication has made are made anew.
        set_entry(store, (0, 3), {(y, x): (2**64 - 1,) * 2 for y in range(2) for x in range(2)})
        assert recover(store), steps[:step]
        expect(store, order)


WRITER = textwrap.dedent("""
    import sys, time
    import numpy as np
    from scanspec.specs import Linspace
    from bluesky_zarr.geometry import ScanGeometry
    from bluesky_zarr.store import Column, Journal, Layout, SourceInfo, StreamTable, ZarrWriter

    path, codec, tiles = sys.argv[1], sys.argv[2], sys.argv[3] == "tiles"
    geometry = ScanGeometry.from_spec(Linspace("y", 0, 1, 20) * ~Linspace("x", 0, 2, 30))
    layout = Layout((1, 1, 64, 64), (10, 30, 128, 64)) if tiles else "frames"
    writer = ZarrWriter(path, codec=codec, layout=layout)
    source = SourceInfo("cam", "uint16", (128, 128), geometry=geometry)
    sink = writer.prepare(source, key="primary/cam")
    journal = Journal(writer.path)
    table = StreamTable(writer.path, "primary", geometry, journal)
    table.declare({"diode": Column("number")})
    random = np.random.default_rng(0)
    print("ready", flush=True)
    for n in range(100_000):
        k = geometry.flat(n % 600) if n % 7 else geometry.flat(max(0, n % 600 - 1))
        frame = np.random.default_rng(n).integers(0, 60_000, (128, 128)).astype("uint16")
        sink.write(frame, k)
        if n % 3 == 0:
            sink.drain()
        table.put(k, seq_num=n + 1, time=1.7e9 + n, data={"diode": n / 2})
        if sink.completed:
            print(n, k, sink.completed, flush=True)
""")


@pytest.mark.filterwarnings("ignore:the layout")
@pytest.mark.parametrize(
    ("codec", "tiles"), [("none", "frames"), ("blosc-zstd-1", "tiles"), ("none", "tiles")]
)
def test_after_sigkill_at_a_random_moment_nothing_announced_is_lost(tmp_path, codec, tiles):
    path = tmp_path / "scan.zarr"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITER, str(path), codec, tiles],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # While it lives it is refused, by the number of its process.
    assert f"by process {process.pid}" in str(recover(path))
    time.sleep(random.uniform(0.05, 1.5))
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    # The last line may be cut anywhere.
    whole, _, _ = output.rpartition("\n")
    announced = [list(map(int, line.split())) for line in whole.splitlines()]

    report = recover(path)
    assert report, str(report)
    assert validate(path, deep=True), str(validate(path, deep=True))
    rows = [payload for kind, payload in Journal.read(path) if kind == "row"]
    newest_row = {row["index"]: row for row in rows}
    group = opened(path)
    seq_nums = group["seq_num"].values.ravel()
    assert seq_nums.tolist() == [newest_row.get(k, {}).get("seq_num", 0) for k in range(600)]
    assert len(rows) >= len(announced)
    raw = zarr.open_array(path / "primary" / "time", mode="r")[...].ravel()
    assert all(raw[k] == row["time"] for k, row in newest_row.items())

    # Frames are stored in any order, so what was announced is a number; all of them are there.
    counts = group["cam_written"].values.ravel()
    last, completed = (announced[-1][0], announced[-1][2]) if announced else (-1, 0)
    assert completed <= counts.sum() <= last + 3
    writes: dict[int, list[int]] = {}
    for n in range(int(last) + 3):
        k = n % 600 if n % 7 else max(0, n % 600 - 1)
        writes.setdefault(GEOMETRY.flat(k), []).append(n)
    data = group["cam"].values.reshape(600, 128, 128)
    for k in np.flatnonzero(counts):
        n = writes[int(k)][counts[k] - 1]
        assert (data[k] == frame(n, (128, 128))).all(), (k, n)
    assert not data[counts == 0].any()


GEOMETRY = ScanGeometry.from_spec(Linspace("y", 0, 1, 20) * ~Linspace("x", 0, 2, 30))


def test_recover_may_itself_be_killed_and_called_again(tmp_path):
    order = (0, 1, 2, 3, 2)
    script = (
        "import sys; from bluesky_zarr.store import recover; "
        "print(1, flush=True); recover(sys.argv[1])"
    )
    original = crashed(tmp_path / "scan.zarr", order)
    for delay in (0, 0.01, 0.02, 0.03):
        store = copied(original, f"{delay}.zarr")
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert recover(store)
        assert json.loads((store / "zarr.json").read_text())["attributes"]["status"] == "recovered"
        expect(store, order)
