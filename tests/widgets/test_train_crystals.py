"""Crystals to train on: a folder that is really built, the built-in library, cancel, refusals."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from napari_mep import crystals
from napari_mep.widgets import _train_crystals_panel as module
from napari_mep.widgets._train_crystals import BUILTIN, build
from napari_mep.widgets._train_crystals_panel import CrystalsPanel

_STRUCTURES = Path(crystals.__file__).with_name("structures")

# Writes a library of one crystal and says what it was asked.
_BUILDER = """
import json, sys
import numpy as np
from napari_mep.crystals.library import CrystalLibrary
from napari_mep.crystals.structure import Crystal
source, _, target = sys.argv[1:4]
salt = Crystal(4.2 * np.eye(3), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]])
CrystalLibrary.from_crystals([salt], {"asked for": source}).save(target)
print(json.dumps({"refused": [{"file": "a/half.cif", "reason": "no atoms"}]}))
"""


@pytest.fixture
def panel(qtbot, viewer_model, monkeypatch, repository):
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    panel = CrystalsPanel(viewer_model)
    qtbot.addWidget(panel)
    yield panel
    panel.close_down()


def builds_with(monkeypatch, program):
    monkeypatch.setattr(module, "build", partial(build, builder=(sys.executable, "-c", program)))


def idle(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)


def test_a_folder_becomes_a_library_once(panel, qtbot, tmp_path, viewer_model):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("srtio3.cif", "gaas.cif"):
        shutil.copy(_STRUCTURES / name, folder)
    (folder / "broken.cif").write_text("this is no crystal")
    panel.set_source(str(folder))
    idle(qtbot, panel)
    assert panel.problem == "build the library of these crystals first"
    assert not panel.preview_button.isEnabled()
    panel.build_button.click()
    assert panel.problem == "the library is being built"
    idle(qtbot, panel)
    assert panel.problem == ""
    assert panel.library.crystals == 2
    assert panel.refusals.toPlainText().startswith("broken.cif: ")
    again = CrystalsPanel(viewer_model)
    qtbot.addWidget(again)
    again.set_source(str(folder))
    idle(qtbot, again)
    assert again.library.path == panel.library.path  # kept: nothing is built again
    assert "built" in again.summary.text()
    again.close_down()


def test_the_built_in_library_needs_no_path(panel, qtbot, monkeypatch):
    builds_with(monkeypatch, _BUILDER)
    panel.kind.set_value("built-in library")
    idle(qtbot, panel)
    assert panel.source == BUILTIN
    assert panel._path_row.isHidden()
    panel.build()
    idle(qtbot, panel)
    assert panel.library.sources == {"asked for": "builtin"}
    assert panel.refusals.toPlainText() == "half.cif: no atoms"


def test_building_can_be_cancelled(panel, qtbot, monkeypatch, tmp_path):
    builds_with(monkeypatch, "import time; time.sleep(60)")
    panel.set_source(str(tmp_path))
    idle(qtbot, panel)
    panel.build_button.click()
    qtbot.waitUntil(lambda: "building the library" in panel.message.text())
    assert panel.build_button.text() == "Cancel"
    panel.build_button.click()
    idle(qtbot, panel)
    assert panel.library is None
    assert panel.build_button.text() == "Build library"


def test_why_a_library_was_not_built_is_told(panel, qtbot, monkeypatch, tmp_path):
    builds_with(monkeypatch, "import sys; sys.exit('napari-mep: crystals: nothing in there')")
    panel.set_source(str(tmp_path))
    idle(qtbot, panel)
    panel.build()
    idle(qtbot, panel)
    assert panel.problem == "crystals: nothing in there"
    panel.set_source(str(tmp_path / "gone"))
    qtbot.waitUntil(lambda: "no such file or folder" in panel.problem)
