"""What is shipped: wheel, entry points, manifest, dependencies, light imports."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

HEAVY = ("torch", "abtem", "pymatgen", "h5py", "zarr")


@pytest.fixture(scope="session")
def pyproject(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel made with the build backend at hand, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    done = subprocess.run([*command, str(repository)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("napari_mep-*.whl")
    return zipfile.ZipFile(path)


def test_the_top_level_manifest_is_the_one_in_the_package(repository):
    top, real = repository / "napari.yaml", repository / "src/napari_mep/napari.yaml"
    assert top.read_text(encoding="utf-8") == real.read_text(encoding="utf-8")
    assert not real.is_symlink()


def test_the_editable_install_finds_the_manifest():
    manifest = PluginManifest.from_distribution("napari-mep")
    assert manifest.name == "napari-mep"
    names = [w.display_name for w in manifest.contributions.widgets]
    assert names == ["Reconstruct", "Compare", "4D-STEM data", "Train prior"]


def test_the_wheel_brings_the_manifest_where_napari_looks(wheel, repository, tmp_path):
    entry_points = next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "[napari.manifest]\nnapari-mep = napari_mep:napari.yaml" in text
    assert "napari-mep = napari_mep.cli:main" in text

    wheel.extractall(tmp_path)
    # A process of its own, in which only the unpacked wheel is the package.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from npe2 import PluginManifest\n"
        "import napari_mep\n"
        "assert napari_mep.__file__.startswith(sys.argv[1]), napari_mep.__file__\n"
        "print(PluginManifest.from_distribution('napari-mep').contributions.widgets[0].command)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "napari-mep.reconstruct", done.stderr


def test_the_wheel_holds_all_package_data(wheel, repository):
    package = repository / "src/napari_mep"
    data = {
        f"napari_mep/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", "")
    }
    assert data <= set(wheel.namelist())
    assert "napari_mep/py.typed" in data
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_every_command_of_the_manifest_can_be_imported():
    manifest = PluginManifest.from_distribution("napari-mep")
    manifest.validate_imports()
    used = {c.command for c in manifest.contributions.widgets}
    used |= {c.command for c in manifest.contributions.sample_data}
    used |= {c.command for c in manifest.contributions.readers}
    used |= {c.command for c in manifest.contributions.writers}
    assert used == {command.id for command in manifest.contributions.commands}


def test_npe2_validates_the_installed_plugin():
    npe2 = shutil.which("npe2", path=str(Path(sys.executable).parent))
    done = subprocess.run([npe2, "validate", "napari-mep"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_qt_binding_in_the_base_dependencies(pyproject):
    names = [re.split(r"[\s\[<>=!~;]", d)[0].lower() for d in pyproject["project"]["dependencies"]]
    assert not {"pyqt5", "pyqt6", "pyside2", "pyside6"} & set(names)
    assert not any(d.replace(" ", "").startswith("napari[") for d in names)
    extras = pyproject["project"]["optional-dependencies"]
    assert any(d.startswith("napari[all]") for d in extras["all"])


def test_constraints_pin_what_is_installed(repository):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


@pytest.mark.parametrize(
    "module",
    [
        "napari_mep",
        "napari_mep._reader",
        "napari_mep.prior.catalogue",
        "napari_mep.reconstruction.plan",
        "napari_mep.reconstruction.preflight",
        "napari_mep.reconstruction.provenance",
        "napari_mep.reconstruction.schedules",
    ],
)
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_opening_the_dock_loads_nothing_heavy():
    code = (
        "import os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "import sys\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from napari_mep.widgets import ReconstructWidget\n"
        "widget = ReconstructWidget(ViewerModel())\n"
        "assert len(widget.form.plot.curve[1]) == widget.plan().steps\n"
        f"print(*(m for m in {HEAVY} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
