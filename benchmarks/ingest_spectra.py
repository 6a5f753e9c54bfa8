"""Spectra from FITS files: seconds and memory of an ingest, beside copying and reading the files.

    python benchmarks/ingest_spectra.py [--real] [--directory DIRECTORY] [--rounds N]

Contenders take turns, each in a process of its own, after the files were read once: `cp -r` of the
input; astropy opening each file and reading its columns once, which no ingest can do without;
the ingest with 1 worker and with 2. Without --real there are few files, which says little.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

_TIMED = """
import resource, sys, time
source, target = sys.argv[1:3]
{imports}
if __name__ == "__main__":
    started = time.perf_counter()
    {body}
    seconds = time.perf_counter() - started
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(seconds, kilobytes)
"""
_INGEST = "ingest_spectra([source], target + '.zarr', SpectraConfig(workers={}))"
_READ = """for path in Path(source).glob("*.fits"):
        with fits.open(path, memmap=False) as hdus:
            _ = [hdus[1].data[name][0].astype("f4") for name in ("WAVE", "FLUX", "ERR")]"""
CONTENDERS = {
    "cp": ("import shutil", "shutil.copytree(source, target)"),
    "astropy reads": ("from pathlib import Path\nfrom astropy.io import fits", _READ),
    "ours, 1 worker": (
        "from bluesky_zarr.ingest import SpectraConfig, ingest_spectra", _INGEST.format(1),
    ),
    "ours, 2 workers": (
        "from bluesky_zarr.ingest import SpectraConfig, ingest_spectra", _INGEST.format(2),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="1000 x 5000, 300 x 60 000; 3 rounds")
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.real else 1)
    cases = [(1000, 5000), (300, 60_000)] if options.real else [(60, 5000), (20, 60_000)]
    for count, n_pix in cases:
        with tempfile.TemporaryDirectory(dir=options.directory) as folder:
            report(Path(folder), count, n_pix, rounds)


def report(folder: Path, count: int, n_pix: int, rounds: int) -> None:
    """One table: medians, and ratios to cp and to astropy."""
    source = folder / "in"
    megabytes = make(source, count, n_pix)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            found[name].append(run(name, source, folder / "out"))
    medians = {
        name: tuple(statistics.median(column) for column in zip(*figures, strict=True))
        for name, figures in found.items()
    }
    print(f"\n{count} files of {n_pix} pixels, {megabytes:.0f} MB, medians of {rounds}")
    print(f"{'':16} {'s':>7} {'MB/s':>6} {'ms/file':>8} {'x cp':>6} {'x astropy':>10} {'MiB':>5}")
    for name, (seconds, kilobytes) in medians.items():
        print(
            f"{name:16} {seconds:7.2f} {megabytes / seconds:6.0f} {seconds / count * 1e3:8.2f} "
            f"{medians['cp'][0] / seconds:6.2f} {medians['astropy reads'][0] / seconds:10.2f} "
            f"{kilobytes / 1024:5.0f}"
        )


def make(directory: Path, count: int, n_pix: int) -> float:
    """Write ESO-style files with noise; returns their megabytes."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    for n in range(count):
        flux = rng.normal(100, 1, n_pix).astype("f4")
        columns = [
            fits.Column("WAVE", f"{n_pix}D", unit="nm", array=400 + np.arange(n_pix)[None] / 100),
            fits.Column("FLUX", f"{n_pix}E", unit="adu", array=flux[None]),
            fits.Column("ERR", f"{n_pix}E", unit="adu", array=np.sqrt(flux)[None]),
        ]
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update({f"KEY{k}": float(k) for k in range(30)})
        table.writeto(directory / f"s{n:05}.fits", checksum=True)
    return sum(path.stat().st_size for path in directory.iterdir()) / 1e6


def run(name: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and KiB of one contender; what it makes is deleted."""
    imports, body = CONTENDERS[name]
    # In a file of its own, which the processes of workers import again.
    script = target.with_name("contender.py")
    script.write_text(_TIMED.format(imports=imports, body=body))
    arguments = [sys.executable, str(script), str(source), str(target)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    for made in (target, target.with_name(f"{target.name}.zarr")):
        shutil.rmtree(made, ignore_errors=True)
    seconds, kilobytes = result.stdout.split()
    return float(seconds), float(kilobytes)


if __name__ == "__main__":
    main()
