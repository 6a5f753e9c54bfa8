"""The journal: whatever was appended comes back, whatever happened to the process."""

import json
import math
import os
import threading

import numpy as np
import pytest

from bluesky_zarr.store import Journal


@pytest.fixture
def store(tmp_path):
    return tmp_path / "scan001.zarr"


def test_the_journal_is_a_file_beside_the_store_of_one_json_object_a_line(store):
    with Journal(store) as journal:
        journal.append("run", {"run_uid": "abc"})
        journal.append("status", {"status": "aborted"})
    lines = (store.parent / "scan001.zarr.journal").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["run", "status"]


def test_values_come_back_as_they_were_and_numpy_values_as_numbers(store):
    data = {
        "float": 0.1 + 0.2,
        "big": 2**70,
        "text": "é\n\u2028\udcff",
        "numpy": np.float32(0.5),
        "array": np.array([[1, 2], [3, 4]], "u2"),
        "truth": np.bool_(True),
        "none": None,
        "nested": {"a": [1, (2, 3)]},
    }
    with Journal(store) as journal:
        journal.append("row", {"data": data, "nan": math.nan})
        journal.append("odd", {"keys": {(1, 2): "tuple", 3: "int"}, "object": object})
    (_, row), (_, odd) = Journal.read(store)
    assert row["data"] == {
        **data,
        "numpy": 0.5,
        "array": [[1, 2], [3, 4]],
        "truth": True,
        "nested": {"a": [1, [2, 3]]},
    }
    assert math.isnan(row["nan"])
    assert odd["keys"] == {"(1, 2)": "tuple", "3": "int"}


def test_a_store_without_a_journal_has_no_entries(store):
    assert list(Journal.read(store)) == []


def test_a_torn_tail_is_passed_over_wherever_it_was_torn(store):
    with Journal(store) as journal:
        journal.append("row", {"index": 0})
        whole = journal.path.read_bytes()
        journal.append("row", {"index": 1})
        full = journal.path.read_bytes()
    for length in range(len(whole), len(full)):
        journal.path.write_bytes(full[:length])
        assert list(Journal.read(store)) == [("row", {"index": 0})]


def test_whoever_goes_on_after_a_torn_line_loses_nothing_more(store):
    with Journal(store) as journal:
        journal.append("row", {"index": 0})
        journal.append("row", {"index": 1})
    os.truncate(journal.path, journal.path.stat().st_size - 5)
    with Journal(store) as journal:
        journal.append("row", {"index": 2})
    assert [payload["index"] for _, payload in Journal.read(store)] == [0, 2]
    assert [number for number, entry in Journal.lines(store) if entry is None] == [2]


def test_a_flipped_bit_is_never_read_as_a_value(store):
    with Journal(store) as journal:
        journal.append("row", {"index": 1})
    good = journal.path.read_bytes()
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1
        journal.path.write_bytes(damaged)
        assert list(Journal.read(store)) == []


def test_several_threads_do_not_mix_their_lines(store):
    with Journal(store) as journal:

        def append(thread):
            for index in range(200):
                journal.append("row", {"thread": thread, "index": index, "text": "x" * 300})

        threads = [threading.Thread(target=append, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(list(Journal.read(store))) == 800


def test_a_full_disk_is_said_and_the_next_entry_is_whole(store, monkeypatch):
    real = os.write
    with Journal(store) as journal:
        journal.append("row", {"index": 0})
        left = [10]

        def full(fd, data):
            if not left[0]:
                raise OSError(28, "No space left on device")
            count = real(fd, data[: left[0]])
            left[0] -= count
            return count

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append("row", {"index": 1})
        monkeypatch.setattr(os, "write", real)
        journal.append("row", {"index": 2})
    assert [payload["index"] for _, payload in Journal.read(store)] == [0, 2]


def test_a_closed_journal_says_so(store):
    journal = Journal(store)
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match=r"scan001.zarr.journal' is closed"):
        journal.append("row", {})
