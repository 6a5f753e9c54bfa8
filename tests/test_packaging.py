"""What an installation brings: the right files, and no more imports than it needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    pytest.importorskip("hatchling", reason="builds without network, so with the installed backend")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", ["devices", "plans"])
def test_wheel_holds_the_reference_profile(wheel: set[str], folder: str):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
    assert files
    assert {f"bluesky_zarr/profile/{file}" for file in files} <= wheel


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: set[str]):
    assert {"bluesky_zarr/__init__.py", "bluesky_zarr/py.typed"} <= wheel
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bluesky_zarr"}


def test_importing_the_package_imports_nothing_of_an_extra():
    extras = ["tiled", "bluesky_tiled_plugins", "databroker", "matplotlib", "h5py", "tensorstore"]
    extras += ["astropy", "pyarrow", "distributed"]
    code = f"import sys, bluesky_zarr; print([name for name in {extras} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"
