"""Simulated cameras and diodes, without a RunEngine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from ophyd_async.core import TriggerInfo
from ophyd_async.sim import SimMotor

from bluesky_zarr import StaticPathProvider
from bluesky_zarr.devices import (
    FrameFormat,
    FrameSource,
    FunctionCamera,
    SimCamera,
    SimPointDetector,
)
from bluesky_zarr.devices._exposures import ExposureLogic


class Frames(FrameSource):
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.errors: list[BaseException] = []
        self.deliver = self.taken.append
        self.fail = self.errors.append

    async def frame_format(self) -> FrameFormat:
        return FrameFormat((2, 2), "uint16")


def logic_of(expose: Callable[[], Any]) -> tuple[ExposureLogic, Frames]:
    source = Frames()
    return ExposureLogic(source, expose), source


async def test_as_many_frames_as_were_prepared() -> None:
    numbers = iter(range(10))

    async def expose() -> Any:
        return next(numbers)

    logic, source = logic_of(expose)
    logic.number = 3
    await logic.start_acquiring()
    await logic.wait_for_idle()
    assert source.taken == [0, 1, 2]


async def test_no_frame_comes_after_a_stop() -> None:
    async def expose() -> Any:
        await asyncio.sleep(10)

    logic, source = logic_of(expose)
    await logic.start_acquiring()
    await asyncio.sleep(0.01)
    await asyncio.wait_for(logic.ensure_stopped(), 5)
    assert source.taken == []
    await logic.ensure_stopped()  # and stopping what stands still is no mistake


async def test_a_stop_waits_for_what_a_thread_is_doing() -> None:
    entered, leave = threading.Event(), threading.Event()
    left: list[bool] = []

    def function() -> np.ndarray:
        entered.set()
        leave.wait(5)
        left.append(True)
        return np.zeros((2, 2), "uint16")

    camera = FunctionCamera(function, (2, 2), "uint16", name="cam")
    logic = cast(Any, camera._acquire_logic)._camera
    logic._source.deliver = lambda frame: left.append(False)
    await logic.start_acquiring()
    assert await asyncio.to_thread(entered.wait, 5)
    asyncio.get_running_loop().call_later(0.05, leave.set)
    await logic.ensure_stopped()
    assert left == [True]


async def test_what_goes_wrong_is_said_at_once_and_raised_when_frames_are_waited_for() -> None:
    async def expose() -> Any:
        raise OSError("no light")

    logic, source = logic_of(expose)
    await logic.start_acquiring()
    with pytest.raises(OSError, match="no light"):
        await logic.wait_for_idle()
    assert [str(error) for error in source.errors] == ["no light"]


def test_frames_can_be_predicted() -> None:
    one, other = SimCamera((32, 48), seed=3), SimCamera((32, 48), seed=3)
    np.testing.assert_array_equal(one.render(0.1, 0.2, 7.1), other.render(0.1, 0.2, 7.1))
    assert not np.array_equal(one.render(0.1, 0.2, 7.1), one.render(0.1, 0.2, 7.1, repeat=1))
    assert not np.array_equal(one.render(0.1), SimCamera((32, 48), seed=4).render(0.1))


def test_noise_is_poissons() -> None:
    camera = SimCamera((64, 64))
    stack = np.stack([camera.render(exposure=0.02, repeat=n) for n in range(200)]).astype(float)
    expected = 0.02 * camera.sample.expected(0, 0, None, shape=(64, 64))
    np.testing.assert_allclose(stack.mean(axis=0), expected, rtol=0.2)
    assert (stack.var(axis=0) / expected).mean() == pytest.approx(1, abs=0.05)


def test_a_long_exposure_saturates() -> None:
    frame = SimCamera((64, 64), field_of_view=3).render(exposure=10)
    assert frame.dtype == "uint16"
    assert frame.max() == 65535


def test_a_shape_that_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4,\) is not that of an image"):
        SimCamera((4,))  # pyright: ignore[reportArgumentType] (wrong on purpose)


async def test_a_camera_sees_where_its_motors_stand(tmp_path: Any) -> None:
    x, y, mono = (SimMotor(name=name) for name in ("x", "y", "mono"))
    camera = SimCamera((16, 24), x=x, y=y, wavelength=mono, name="cam", exposure=0.001)
    for device in (x, y, mono, camera):
        await device.connect()
    await x.set(0.3)
    await mono.set(7.11)
    taken: list[np.ndarray] = []
    for store in ("a", "b"):
        camera.path_provider = StaticPathProvider(f"file://{tmp_path}/{store}.zarr")
        await camera.stage()
        await camera.prepare(TriggerInfo(number_of_events=1, livetime=0.002))
        source = cast(Any, camera._acquire_logic)._camera._source
        deliver = source.deliver
        source.deliver = lambda frame, deliver=deliver: (taken.append(frame), deliver(frame))
        await camera.trigger()
        await camera.trigger()
        source.deliver = deliver
        config = await camera.read_configuration()
        readings = await camera.read()
        await camera.unstage()
    first = camera.render(0.3, 0.0, 7.11, exposure=0.002)
    second = camera.render(0.3, 0.0, 7.11, exposure=0.002, repeat=1)
    for frame, expected in zip(taken, [first, second, first, second], strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert config["cam-exposure"]["value"] == 0.002
    assert readings["cam-sum"]["value"] == second.sum()


async def test_an_exposure_takes_no_less_than_its_time(tmp_path: Any) -> None:
    camera = SimCamera((4, 4), name="cam", exposure=0.15)
    await camera.connect()
    camera.path_provider = StaticPathProvider(f"file://{tmp_path}/a.zarr")
    await camera.stage()
    started = time.monotonic()
    await camera.trigger()
    assert time.monotonic() - started >= 0.15
    await camera.unstage()


async def test_an_exposure_of_no_time_is_refused(tmp_path: Any) -> None:
    camera = SimCamera((4, 4), name="cam", exposure=0)
    await camera.connect()
    camera.path_provider = StaticPathProvider(f"file://{tmp_path}/a.zarr")
    await camera.stage()
    with pytest.raises(ValueError, match=r"cam-exposure is 0\.0 s; give it a time above 0"):
        await camera.trigger()


async def test_a_function_is_a_camera(tmp_path: Any) -> None:
    calls: list[str] = []

    def function() -> np.ndarray:
        calls.append(threading.current_thread().name)
        return np.full((2, 3), len(calls), "int32")

    camera = FunctionCamera(
        function, (2, 3), "int32", StaticPathProvider(f"file://{tmp_path}/a.zarr"), name="mine"
    )
    await camera.connect()
    await camera.stage()
    await camera.trigger()
    await camera.trigger()
    readings = await camera.read()
    await camera.unstage()
    assert readings["mine-sum"]["value"] == 12
    assert threading.main_thread().name not in calls
    assert len(calls) == 2
    with pytest.raises(ValueError, match="exposes as long as its function takes"):
        await camera.prepare(TriggerInfo(livetime=0.1))


async def test_a_diode_reads_the_same_scan_alike() -> None:
    x = SimMotor(name="x")
    diode = SimPointDetector(x=x, name="diode", exposure=0.001)
    await x.connect()
    await diode.connect()
    assert diode.hints == {"fields": ["diode"]}
    scans = []
    for _ in range(2):
        await diode.stage()
        values = []
        for position in (0.0, 0.5, 0.5):
            await x.set(position)
            await diode.trigger()
            values.append((await diode.read())["diode"]["value"])
        await diode.unstage()
        scans.append(values)
    assert scans[0] == scans[1]
    assert scans[0][1] != scans[0][2]
    assert scans[0][0] == pytest.approx(diode.expected(0.0, exposure=0.001), rel=0.3)
