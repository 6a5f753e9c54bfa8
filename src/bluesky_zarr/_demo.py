"""What ``bluesky-zarr demo`` does: the main job on a simulated beamline, from camera to picture."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["load_profile", "run_demo"]


def load_profile(name: str) -> ModuleType:
    """Load a file of the reference profile, as a startup script is loaded: by its path.

    >>> load_profile("plans/mapping").map_energies.__name__
    'map_energies'
    """
    here = Path(__file__).resolve().parent
    # A wheel carries the profile inside the package, a checkout beside it.
    for root in (here / "profile", here.parents[1]):
        path = root / f"{name}.py"
        if path.is_file():
            break
    else:
        raise FileNotFoundError(
            f"The reference profile has no {name}.py beside {here}; reinstall bluesky-zarr."
        )
    module_name = f"bluesky_zarr_profile_{name.replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def run_demo(directory: Path, say: Callable[[str], None]) -> list[Path]:
    """Map a sample, find the lines of its spectrum, read both back, and draw them.

    Parameters
    ----------
    directory
        Where the stores, the catalog and the picture go.
    say
        Called with each line for the user.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    ImportError
        When the ``demo`` extra is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from bluesky.run_engine import RunEngine

    import bluesky_zarr as bz
    from bluesky_zarr.catalog import serve

    directory.mkdir(parents=True, exist_ok=True)
    RE = RunEngine(call_returns_result=True)
    storage = bz.Storage(f"file://{directory}/stores")
    storage.attach(RE)

    beamline = load_profile("devices/beamline").make_beamline()
    mapping, alignment = load_profile("plans/mapping"), load_profile("plans/alignment")
    storage.inject(beamline.cam, beamline.cam2)
    mono, y, x = beamline.mono, beamline.y, beamline.x

    with serve(directory / "catalog", readable_storage=[storage.base]) as server:
        say(f"Tiled serves the catalog at {server.uri}")
        RE.subscribe(server.writer(batch_size=100))
        RE.subscribe(bz.ScanProgress())
        client = server.client()

        say("\nA nested scan: a map of the sample at each energy")
        detectors = [beamline.cam, beamline.cam2, beamline.diode]
        RE(mapping.map_energies(detectors, mono, y, x))
        pictures = [_show_map(storage.last_path, client, directory, say)]

        say("\nAn adaptive scan: the lines of the spectrum in the middle of the sample")
        RE(alignment.find_lines([beamline.cam, beamline.diode], "cam-sum", mono))
        pictures.append(_show_lines(storage.last_path, client, directory, say))
    say(f"\nThe pictures: {', '.join(map(str, pictures))}")
    return pictures


def _show_map(path: Path, client: Any, directory: Path, say: Callable[[str], None]) -> Path:
    """Read a nested scan back through Tiled and xarray, and draw it."""
    import numpy as np

    import bluesky_zarr as bz
    from bluesky_zarr.store import inspect, validate

    say(f"\nThe store: {path}\n{inspect(path)}\n{validate(path, deep=True)}")
    uid = bz.open(path).attrs["run_uid"]
    array = client[uid]["primary"]["cam"]
    say(f"\nThrough Tiled:  {uid[:8]}/primary/cam {array.shape} {tuple(array.dims)}")
    primary = bz.open(path)["primary"].to_dataset()
    cam = primary["cam"]
    say(f"Through xarray: {dict(cam.sizes)} {cam.dtype}")
    middle = {dim: size // 2 for dim, size in cam.sizes.items() if dim in primary["cam-sum"].dims}
    frame = cam.isel(middle)
    same = np.array_equal(np.asarray(array[tuple(middle.values())]), frame.values)
    say(f"The same frame through both: {'yes' if same else 'NO'}")
    picture = directory / "map.png"
    _draw(primary, frame, picture)
    say(f"Open it again: import bluesky_zarr as bz; bz.open('{path}')['primary']")
    return picture


def _show_lines(path: Path, client: Any, directory: Path, say: Callable[[str], None]) -> Path:
    """Read an adaptive scan back through Tiled and xarray, and draw it."""
    import numpy as np

    import bluesky_zarr as bz
    from bluesky_zarr.pictures import plot_zoom
    from bluesky_zarr.store import validate

    say(f"\nThe store: {path}\n{validate(path, deep=True)}")
    tree = bz.open(path)
    run = client[tree.attrs["run_uid"]]
    streams = [name for name in tree.children if "cam" in tree[name]]
    shapes = ", ".join(f"{name} {run[name]['cam'].shape}" for name in streams)
    say(f"Through Tiled:  {shapes}")
    energies = ", ".join(f"{e:.4f}" for e in np.sort(np.asarray(tree["peaks"]["center"])))
    say(
        f"Through xarray: {tree['merged']['cam-sum'].size} readings merged, lines at {energies} keV"
    )
    same = all(
        np.array_equal(np.asarray(run[name]["cam"][...]), np.asarray(tree[name]["cam"]))
        for name in streams
    )
    say(f"The same frames through both: {'yes' if same else 'NO'}")
    picture = directory / "lines.png"
    plot_zoom(path).savefig(picture, dpi=110)
    return picture


def _draw(primary: xr.Dataset, frame: xr.DataArray, picture: Path) -> None:
    """Maps of the sum at each energy, the spectrum of the whole map, and one frame of it."""
    import matplotlib.pyplot as plt
    import numpy as np

    from bluesky_zarr.pictures._labels import label_of, place_of

    sums = primary["cam-sum"]
    slow, rows, columns = sums.dims
    number = sums.sizes[slow]
    figure = plt.figure(figsize=(2.1 * number + 0.9, 5.9), layout="constrained")
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.25])
    low, high = float(sums.min()), float(sums.max())
    image = None
    maps = above.subplots(1, number, sharey=True, squeeze=False)[0]
    for i, axes in enumerate(maps):
        image = axes.pcolormesh(
            primary[columns], primary[rows], sums.isel({slow: i}), vmin=low, vmax=high
        )
        axes.set_title(place_of(primary, {slow: i}), fontsize="medium")
        axes.set_xlabel(label_of(primary, columns))
        axes.set_aspect("equal")
    maps[0].set_ylabel(label_of(primary, rows))
    if image is not None:
        above.colorbar(image, ax=maps, label=label_of(primary, "cam-sum"), shrink=0.75)
    spectrum, one = below.subplots(1, 2, width_ratios=[1.35, 1])
    spectrum.plot(primary[slow], sums.mean([rows, columns]), "o-")
    spectrum.set_title("Mean over the map", fontsize="medium")
    spectrum.set(xlabel=label_of(primary, slow), ylabel=label_of(primary, "cam-sum"))
    spectrum.grid(alpha=0.3)
    pixels = one.imshow(frame, cmap="magma")
    place = {d: int(np.abs(primary[d].values - frame[d].values).argmin()) for d in sums.dims}
    one.set_title(f"The frame at {place_of(primary, place)}", fontsize="medium")
    one.set(xlabel="cam_x [pixel]", ylabel="cam_y [pixel]")
    below.colorbar(pixels, ax=one, label=label_of(primary, "cam"))
    figure.savefig(picture, dpi=110)
    plt.close(figure)
