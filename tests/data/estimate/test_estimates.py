"""Helpers that need only patterns, against answers that are known."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_mep.data.estimate import (
    check_scan_step,
    find_bad_pixels,
    find_disk,
    find_drift,
    find_rotation,
    measure_dose,
)
from napari_mep.data.estimate.figure import write_figure
from napari_mep.data.virtual import Stopped
from napari_mep.errors import DataError, ExportError


def disk(shape=(64, 64), centre=(32.0, 32.0), radius=13.9, counts=200.0, outside=1.0):
    """A sharp disk on square pixels, each the mean over 8 x 8 points of its area."""
    part = (np.arange(8) - 3.5) / 8
    y = (np.arange(shape[0])[:, None] + part).ravel() - centre[0]
    x = (np.arange(shape[1])[:, None] + part).ravel() - centre[1]
    fine = np.hypot(y[:, None], x[None]) < radius
    share = fine.reshape(shape[0], 8, shape[1], 8).mean((1, 3))
    return outside + share * (counts - outside)


def crystal(image: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """The same disk with what a crystal does to it: fringes inside and faint disks around."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    fringes = 1 + 0.3 * np.cos(0.9 * (y - centre[0])) * np.cos(0.9 * (x - centre[1]) + 0.4)
    around = sum(
        disk(image.shape, (centre[0] + dy, centre[1] + dx), 13.9, 15.0, 0.0)
        for dy, dx in ((13, 0), (-13, 0), (0, 13), (0, -13))
    )
    return image * fringes + around


# --- bad pixels -----------------------------------------------------------------------------------


def test_dead_and_hot_pixels_are_found_and_no_others():
    rng = np.random.default_rng(0)
    counts = rng.poisson(disk(outside=2.0) * 100).astype(float) / 100
    assert not find_bad_pixels(counts, 100).bad.any()  # the edge of the disk is steep, not bad
    dead, hot = rng.random((2, 64, 64)) < 0.03
    hot &= (rng.random((64, 64)) < 0.1) & ~dead
    broken = np.where(dead, 0.0, np.where(hot, 900.0, counts))
    broken[5, 5] = np.nan
    found = find_bad_pixels(broken, 100)
    dead[5, 5], hot[5, 5] = False, True
    np.testing.assert_array_equal(found.hot, hot)
    assert not (found.dead & ~dead).any()
    assert found.dead.sum() > 0.97 * dead.sum()  # four within 5 x 5 pixels hide each other
    np.testing.assert_array_equal(found.bad, found.dead | found.hot)
    assert f"{int(found.dead.sum())} dead and {int(hot.sum())} hot" in found.summary


def test_a_pixel_among_empty_ones_is_not_called_dead():
    assert not find_bad_pixels(np.zeros((16, 16)), 10).bad.any()


def test_dead_pixels_that_hide_each_other_are_found():
    """One in ten is dead, so many have four and more dead ones around them."""
    rng = np.random.default_rng(0)
    k = np.hypot(*np.mgrid[-32:32, -32:32])
    expected = np.where(k < 14, 50, 0.5 * np.exp(-k / 20) + 0.02)
    found = marked = there = 0
    for _ in range(10):
        mean = rng.poisson(6400 * expected) / 6400
        dead = rng.random(mean.shape) < 0.1
        bad = find_bad_pixels(np.where(dead, 0, mean), 6400).bad
        within = dead & (k < 13)
        found, there = found + int((bad & within).sum()), there + int(within.sum())
        marked += int((bad & ~dead).sum())
    assert found > 0.88 * there
    assert marked == 0


# --- disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [7.3, 13.9, 24.6])
@pytest.mark.parametrize("centre", [(32.0, 32.0), (31.3, 33.8)])
def test_centre_and_radius_to_a_hundredth_of_the_radius(radius, centre):
    found = find_disk(disk(centre=centre, radius=radius), semiangle_mrad=21.4)
    assert found.centre_px == pytest.approx(centre, abs=0.02)
    assert found.radius_px == pytest.approx(radius, rel=0.002)
    assert found.calibration["detector_step_mrad"] == pytest.approx(21.4 / radius, rel=0.002)


def test_specimen_and_bad_pixels_do_not_move_the_edge():
    centre = (31.3, 33.8)
    image = crystal(disk(centre=centre), centre)
    bad = np.random.default_rng(1).random((64, 64)) < 0.03
    image[bad] = 0
    found = find_disk(image, bad=bad)
    assert found.centre_px == pytest.approx(centre, abs=0.1)
    assert found.radius_px == pytest.approx(13.9, rel=0.01)
    assert not found.calibration  # without a semi-angle nobody knows mrad
    known = find_disk(image, bad=bad, radius_px=13.9)
    assert known.centre_px == pytest.approx(centre, abs=0.1)
    assert known.radius_px == pytest.approx(13.9)


def test_what_is_no_disk_is_refused():
    with pytest.raises(DataError, match="dark"):
        find_disk(np.zeros((32, 32)))
    with pytest.raises(DataError, match=r"no edge found|reach over the edge"):
        find_disk(np.ones((32, 32)))
    with pytest.raises(DataError, match="over the edge of the detector"):
        find_disk(disk((32, 32), (16, 5), 9.0))


# --- drift ----------------------------------------------------------------------------------------


def scan_of_disks(descan, centre=(16.3, 15.4), noise=True, shape=(10, 12)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    moved = np.array(descan).reshape(2, 2)
    offset = np.stack((y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2), -1) @ moved
    stack = np.array(
        [disk((32, 32), tuple(c), 8.0, 60.0, 0.2) for c in (offset + centre).reshape(-1, 2)]
    ).reshape(*shape, 32, 32)
    return np.random.default_rng(2).poisson(stack) if noise else stack


def test_drift_is_the_plane_of_the_disk_centres():
    descan = (0.1, 0.02, -0.05, 0.08)
    found = find_drift(scan_of_disks(descan), radius_px=8.0)
    assert found.descan_px == pytest.approx(descan, abs=0.01)
    assert found.centre_px == pytest.approx((16.3, 15.4), abs=0.03)
    assert found.total_px == pytest.approx(
        np.hypot(0.1 * 9 - -0.05 * 11, 0.02 * 9 - 0.88), rel=0.15
    )


def test_no_drift_is_said_to_be_none():
    found = find_drift(scan_of_disks((0, 0, 0, 0)), radius_px=8.0)
    assert found.descan_px == (0, 0, 0, 0)
    assert found.summary.startswith("none")


def test_drift_can_be_stopped_and_needs_a_scan():
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        find_drift(scan_of_disks((0, 0, 0, 0)), radius_px=8.0, stop=stop)
    with pytest.raises(DataError, match="too small"):
        find_drift(scan_of_disks((0, 0, 0, 0), shape=(1, 5)), radius_px=8.0)
    with pytest.raises(DataError, match="no disk found"):
        find_drift(np.zeros((6, 6, 32, 32)), radius_px=8.0)


# --- rotation -------------------------------------------------------------------------------------


def deflection(rotation_deg: float, mirrored: bool, noise=0.0) -> np.ndarray:
    """Gradient of a potential without mirror symmetry, seen by a turned detector."""
    s, f = np.mgrid[:40, :44].astype(float)
    field = np.zeros((40, 44, 2))
    for qs, qf, weight, phase in (
        (0.13, 0.02, 1.0, 0.3), (-0.03, 0.11, 0.8, 1.0), (0.09, 0.14, 0.6, 2.0)
    ):  # fmt: skip
        slope = weight * np.cos(2 * np.pi * (qs * s + qf * f) + phase)
        field += np.stack((qs * slope, qf * slope), -1)
    cos, sin = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    # physics.scan: y = s cos - f sin, x = s sin + f cos
    world = np.stack(
        (cos * field[..., 0] - sin * field[..., 1], sin * field[..., 0] + cos * field[..., 1]), -1
    )
    world += np.random.default_rng(0).normal(0, noise, world.shape)
    return world[..., ::-1] if mirrored else world


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [-80.0, 0.0, 23.0, 44.0])
def test_rotation_and_handedness_from_the_curl(rotation, mirrored):
    drift = np.linspace(0, 0.3, 40)[:, None, None]  # descan drift is no deflection
    found = find_rotation(deflection(rotation, mirrored, noise=0.03) + drift)
    assert found.transpose == mirrored
    assert found.rotation_deg == pytest.approx(rotation, abs=max(2.0, 3 * found.error_deg))
    assert found.error_deg < 2
    assert found.coherence[mirrored] > 0.9 > found.coherence[not mirrored]
    curve = found.proof[0]
    best = curve.others["transposed"] if mirrored else curve.y
    assert curve.x[np.argmin(best)] == pytest.approx(found.rotation_deg, abs=0.51)


def test_rotation_needs_a_field():
    with pytest.raises(DataError, match="8 x 8 are needed"):
        find_rotation(np.zeros((7, 30, 2)))
    with pytest.raises(DataError, match="does not move"):
        find_rotation(np.zeros((9, 30, 2)))


# --- scan step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0.88, 1.0, 1.13])
def test_scan_step_against_a_lattice(error):
    y, x = np.mgrid[:40, :36] * 0.5  # the true step
    a = 3.905
    turned = (0.8 * y + 0.6 * x) / a, (-0.6 * y + 0.8 * x) / a
    image = sum(np.cos(2 * np.pi * t) for t in turned)
    image = image + 0.7 * np.cos(2 * np.pi * sum(turned)) + 5
    found = check_scan_step(image, 0.5 * error, [a, a / 2**0.5])
    assert found.scan_step_A == pytest.approx((0.5, 0.5), rel=0.01)
    assert found.known_A == pytest.approx((a, a / 2**0.5))
    assert found.calibration["scan_step_A"] == pytest.approx(0.5, rel=0.01)
    assert abs(found.calibration["scan_step_A"] - 0.5) < 3 * found.uncertainty["scan_step_A"]


def test_no_lattice_no_step():
    noise = np.random.default_rng(0).normal(size=(30, 30))
    with pytest.raises(DataError, match="no lattice peak within"):
        check_scan_step(noise[:6, :6], 0.5, [3.9])
    with pytest.raises(DataError, match="give the lattice spacings"):
        check_scan_step(noise, 0.5, [])


# --- dose -----------------------------------------------------------------------------------------


def test_dose_from_counts():
    sums = np.full((4, 5), 2500.0)
    found = measure_dose(sums, np.ones((2, 8, 8)), scan_step_A=(0.5, 0.4))
    assert found.electrons_per_pattern == 2500
    assert found.dose_e_per_A2 == pytest.approx(12500)
    assert found.counted
    assert not found.calibration  # electrons already: nothing to scale
    scaled = measure_dose(sums, np.full((2, 8, 8), 0.5), scan_step_A=0.5, counts_per_electron=10)
    assert scaled.calibration == pytest.approx({"dose_e_per_A2": 1000})


def test_dose_of_what_is_no_count_must_be_told():
    with pytest.raises(DataError, match=r"no whole numbers.*counts_per_electron"):
        measure_dose(np.ones((2, 2)), np.full((2, 8, 8), 0.5))
    with pytest.raises(DataError, match="counts_per_electron = -1"):
        measure_dose(np.ones((2, 2)), np.ones((2, 8, 8)), counts_per_electron=-1)
    with pytest.raises(DataError, match="nothing was counted"):
        measure_dose(np.zeros((2, 2)), np.ones((2, 8, 8)))


# --- figure ---------------------------------------------------------------------------------------


def test_the_picture_shows_every_proof(tmp_path):
    estimates = [
        find_bad_pixels(disk(), 10),
        find_disk(disk(), semiangle_mrad=21.4),
        find_rotation(deflection(23.0, False)),
    ]
    path = write_figure(tmp_path / "proof.png", estimates, "a scan")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ExportError, match=r"use \.png"):
        write_figure(tmp_path / "proof.nonsense", estimates)
    with pytest.raises(ExportError, match="nothing to show"):
        write_figure(tmp_path / "none.png", [])
