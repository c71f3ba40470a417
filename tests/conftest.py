"""For the whole suite: no trace on the user's settings, and a display where a window is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HAS_DISPLAY = not sys.platform.startswith("linux") or bool(
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
)
if not HAS_DISPLAY:
    # Widgets without OpenGL can be tested all the same.
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def display() -> None:
    """Skip a test that opens a real window where there is none to open."""
    if not HAS_DISPLAY:
        pytest.skip("needs a display: run it with scripts/with-display.sh")
