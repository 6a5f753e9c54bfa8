"""Several processes at one store: writers, readers, and children that outlive their parents."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import tensorstore
import zarr

from bluesky_zarr.store import SourceInfo, ZarrWriter, publish, recover, validate
from bluesky_zarr.store._identity import process_identity, process_start
from tests.faults.pictures import named, picture
from tests.faults.processes import Said, run
from tests.faults.promises import frames_hold
from tests.faults.victims import SCANS, one_source
from tests.store.crashed import made
from tests.store.reading import zarr_python

SCAN = SCANS[1]


def test_the_second_writer_of_a_key_is_told_who_has_it(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (4, 5)), key="primary/cam")
    me = process_identity()
    held = (
        f"written by process {me['pid']} on {me['host']}, started at {me['process_start']}, boot "
        f"{me['boot_id']}"
    )
    with pytest.raises(FileExistsError, match="already exists") as raised:
        ZarrWriter(tmp_path / "scan.zarr").prepare(
            SourceInfo("cam", "uint16", (4, 5)), key="primary/cam"
        )
    assert held in str(raised.value)


def test_of_two_processes_at_one_key_one_writes_and_the_other_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.zarr"
    code = (
        "import sys, numpy as np\n"
        "from bluesky_zarr.store import SourceInfo, ZarrWriter\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "writer = ZarrWriter(sys.argv[1])\n"
        "try:\n"
        "    sink = writer.prepare(SourceInfo('cam', 'uint16', (4, 5)), key='primary/cam')\n"
        "except FileExistsError as error: print('refused', error, flush=True)\n"
        "else:\n"
        "    for n in range(50): sink.write(np.full((4, 5), n + 1, 'uint16'))\n"
        "    writer.complete(); print('wrote', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=PIPE, stdout=PIPE, text=True
        )
        for _ in range(2)
    ]
    pipes = [(one.stdin, one.stdout) for one in both if one.stdin and one.stdout]
    for _, hears in pipes:
        assert hears.readline() == "ready\n"
    for tells, _ in pipes:
        tells.write("\n")
        tells.flush()
    said = sorted(hears.readline() for _, hears in pipes)
    for process in both:
        process.communicate("\n")
    assert said[0].startswith("refused array 'primary/cam' already exists")
    assert any(f"process {process.pid} on " in said[0] for process in both)
    assert said[1] == "wrote\n"
    publish(path)
    assert validate(path, deep=True)
    assert zarr_python(path, "primary/cam")[:, 0, 0].tolist() == [*range(1, 51)]


def test_four_processes_write_four_keys_at_once_and_one_publication_follows_the_last(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scan.zarr"

    def write(n: int) -> Said:
        # The third one dies: the others' frames and its own are there all the same.
        return run(one_source, SCAN, n, 4, str(path), number=40 if n == 2 else -1)

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(write, range(4)))
    assert [one.killed for one in said] == [False, False, True, False]
    assert len(said[2].of("frames")) < len(SCAN.order())
    publish(path, status="failed", reason="a device died")
    assert validate(path, deep=True), str(validate(path, deep=True))
    for one in said:
        assert one.announced()
        frames_hold(path, SCAN, one)


def test_a_child_that_outlives_its_parent_keeps_no_lock(tmp_path: Path) -> None:
    store = made(tmp_path / "scan.zarr", process_start="1")
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from bluesky_zarr.store._locks import directory_turn, only_recovery\n"
        "store = Path(sys.argv[1])\n"
        "with only_recovery(store) as alone, directory_turn(store):\n"
        "    begun, begins = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.write(begins, b'!')\n"
        "        sys.stdout.close(); os.close(1); time.sleep(60); os._exit(0)\n"
        "    os.read(begun, 1)  # only then the child has run its first steps\n"
        "    print(alone, child, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    alone, child = parent.stdout.readline().split()
    try:
        assert alone == "True"
        assert "another process is recovering it" in str(recover(store))
        parent.kill()
        parent.wait()
        assert process_start(int(child)), "it lives"
        assert recover(store), "nobody waits for a child of the dead"
    finally:
        os.kill(int(child), signal.SIGKILL)
        parent.communicate()


@pytest.mark.filterwarnings("ignore")
def test_a_reader_in_mode_a_at_every_path_of_a_running_store_harms_nothing(
    tmp_path: Path,
) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    scan = SCANS[0]
    sink = writer.prepare(
        SourceInfo("cam0", "uint16", scan.frame, geometry=scan.geometry), key="primary/cam0"
    )
    order = scan.order()
    for write, flat in enumerate(order, 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
        if write % 10 == 0:
            paths = [writer.path, *(p for p in writer.path.rglob("*") if p.is_dir())]
            for place in [*paths, writer.path / "primary" / "nothing"]:
                with contextlib.suppress(Exception):  # what it says is zarr's own affair
                    zarr.open(str(place), mode="a")
    writer.publish()
    assert validate(writer.path, deep=True), str(validate(writer.path, deep=True))
    data = zarr.open_array(str(writer.path / "primary" / "cam0"), mode="r")[...]
    for flat in order:
        assert (named(np.asarray(data).reshape(-1, *scan.frame)[flat]) or (0, -1))[1] == flat


def test_readers_with_open_handles_read_on_across_publication(tmp_path: Path) -> None:
    scan = SCANS[2]
    writer = ZarrWriter(tmp_path / "scan.zarr")
    sink = writer.prepare(
        SourceInfo("cam0", "uint16", scan.frame, geometry=scan.geometry), key="primary/cam0"
    )
    for write, flat in enumerate(scan.order(), 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    sink.drain()
    node = writer.path / "primary" / "cam0"
    first = zarr.open_array(str(node), mode="r")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(node)}}
    second = tensorstore.open(spec, open=True, read=True).result()
    before = np.asarray(first[...])
    with (node / "c/0/0/0/0").open("rb") as raw:
        writer.publish()
        np.testing.assert_array_equal(np.asarray(first[...]), before)
        np.testing.assert_array_equal(np.asarray(second.read().result()), before)
        assert raw.read(16)
    assert json.loads((writer.path / "zarr.json").read_text())["attributes"]["status"] == "complete"
