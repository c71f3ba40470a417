"""The demo at a small size: everything it promises is there, and what fails says so."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import pytest
from PIL import Image

from napari_mep.errors import DeviceError, ExportError, WeightsError
from napari_mep.export.ome_zarr import read_reconstruction
from napari_mep.reconstruction import ReconstructionPlan
from napari_mep.widgets import demo

PLAN = ReconstructionPlan.parse(
    {
        "steps": 2,
        "samples": 1,
        "gradient": {"iterations": 2},
        "finish_iterations": 1,
        "device": "cpu",
    }
)


@contextmanager
def silent(title, unit):
    yield lambda done, total: None


@pytest.mark.slow
@pytest.mark.usefixtures("display", "qapp")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:vispy")  # on Mesa's software renderer
def test_the_whole_demo(tmp_path):
    seen = []

    @contextmanager
    def bar(title, unit):
        yield lambda done, total: seen.append((done, total))

    text = demo.run_demo(tmp_path, headless=True, bar=bar, scan_shape=(6, 6), plan=PLAN)
    assert seen[-1] == (36, 36)
    volume, record = read_reconstruction(tmp_path / "reconstruction.ome.zarr")
    assert volume.data.std() > 0
    assert (record["step"], record["total"]) == (12, 12)
    # The probe is wider than so small a scan: its electrons do not suffice for depth.
    assert ReconstructionPlan.parse(record["plan"]) == PLAN.settled(
        sees_estimate=True, knows_depth=True, resolves_depth=False
    )
    with Image.open(tmp_path / "screenshot.png") as picture:
        assert picture.width >= 1000
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 200
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == text + "\n"
    mep, gradient = text.splitlines()[2:4]
    assert mep.startswith("| mep | ")
    assert gradient.startswith("| gradient | ")
    assert len(mep.split("|")) == len(gradient.split("|")) == 9
    assert "GiB" in text


def test_missing_weights_are_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    plan = PLAN.replace(prior="nonesuch")
    with pytest.raises(WeightsError, match="nonesuch"):
        demo.run_demo(tmp_path / "out", headless=True, bar=silent, plan=plan)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others have a display")
def test_without_a_display_it_says_how_to_get_one(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match="make demo"):
        demo.run_demo(tmp_path, headless=True, bar=silent)


def test_an_output_that_is_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    (tmp_path / "out").touch()
    with pytest.raises(ExportError, match="out: cannot be written"):
        demo.run_demo(tmp_path / "out", headless=True, bar=silent)
