"""A scan that announces its frames and goes on until it is killed: run by the tests of crashes."""

from __future__ import annotations

import json
import sys
from typing import Any

from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

from bluesky_zarr import Storage
from bluesky_zarr.plans import nested_scan
from tests.fakes import PositionCamera, instant_motor


def main(base: str, codec: str) -> None:
    RE = RunEngine()
    storage = Storage(f"file://{base}", codec=codec)
    with init_devices():
        a, b = instant_motor("a"), instant_motor("b")
        cam = PositionCamera([a, b], (16, 16), name="cam")
    storage.attach(RE)
    storage.inject(cam)

    def announce(name: str, doc: Any) -> None:
        if name == "stream_datum":
            print(json.dumps(["frame", doc["indices"]["start"]]), flush=True)
        elif name == "event":
            print(json.dumps(["event", doc["data"]["scan_index"], doc["seq_num"]]), flush=True)

    RE.subscribe(announce)
    RE(nested_scan([cam], Linspace(a, 0, 49, 50) * ~Linspace(b, 0, 39, 40)))
    print(json.dumps(["complete"]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
