"""Simulated scans: patterns, truth and calibration must describe the same experiment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_mep.crystals.render import SliceRenderer
from napari_mep.crystals.samples import Sample, sample, sample_from_crystal
from napari_mep.crystals.structure import AtomBox, Crystal
from napari_mep.data._abtem_multislice import fourier_crop
from napari_mep.data._simulation_grid import plan_grid
from napari_mep.data.dataset import DiffractionDataset, orient_detector
from napari_mep.data.experiment import Experiment
from napari_mep.data.imperfections import Imperfections, record
from napari_mep.data.simulate import (
    NOISE_FREE_DOSE,
    ExpectedPatterns,
    apply_dose,
    simulate_dataset,
    simulate_expected,
)
from napari_mep.errors import CalibrationError, CrystalError, DataError, DeviceError
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.optics import wavelength_A
from napari_mep.physics.probe import Aberrations, probe_fourier
from napari_mep.physics.scan import raster_positions_A
from napari_mep.volume import PhaseVolume

# A smaller and more compact experiment than the default: 24 x 24 detector pixels of 0.25 A.
SMALL = Experiment(
    thickness_A=8.0,
    slice_thickness_A=2.0,
    scan_shape=(3, 4),
    scan_step_A=0.7,
    semiangle_mrad=20.0,
    defocus_A=-60.0,
    spherical_aberration_A=0.0,
    detector_pixels=32,
    detector_step_invA=0.125,
)


@pytest.fixture(scope="module")
def skew() -> Crystal:
    """Atoms so uneven that no transposition, mirror or reversal of depth goes unnoticed."""
    return Crystal(
        np.diag([6.1, 5.3, 8.0]),
        [38, 22, 8, 14, 6],
        [[0.1, 0.2, 0.05], [0.6, 0.3, 0.4], [0.3, 0.8, 0.7], [0.8, 0.7, 0.9], [0.4, 0.5, 0.2]],
        name="skew",
    )


@pytest.fixture(scope="module")
def expected(skew) -> ExpectedPatterns:
    return simulate_expected(skew, SMALL)


def modelled(
    specimen: PhaseVolume, experiment: Experiment, *, defocus_A: float | None = None
) -> np.ndarray:
    """The patterns of our own forward model, (scan_y, scan_x, ky, kx), centred."""
    pixels, pixel = experiment.detector_pixels, specimen.voxel_size_A[1]
    window = 3 * pixels
    probe = probe_fourier(
        (window, window),
        pixel,
        experiment.energy_keV,
        experiment.semiangle_mrad,
        Aberrations.from_defocus(
            experiment.defocus_A if defocus_A is None else defocus_A,
            experiment.spherical_aberration_A,
        ),
    )
    model = MultisliceModel(
        probe,
        pixel_size_A=pixel,
        slice_thickness_A=specimen.voxel_size_A[0],
        energy_keV=experiment.energy_keV,
        detector_shape=(pixels, pixels),
        oversampling=3,
    )
    world = raster_positions_A(
        experiment.scan_shape, experiment.scan_step_A, experiment.scan_rotation_deg
    )
    positions = (world - np.array(specimen.origin_A[1:])) / pixel
    intensities = model.intensities(torch.from_numpy(specimen.data), positions).numpy()
    return np.fft.fftshift(intensities, axes=(1, 2)).reshape(*experiment.scan_shape, pixels, pixels)


def amplitude_residual(model: np.ndarray, data: np.ndarray) -> float:
    """Relative difference of the amplitudes in the inner half of the detector.

    Further out the band limits of the two simulations differ, by construction.
    """
    quarter = data.shape[-1] // 4
    inner = slice(quarter, -quarter)
    model, data = model[..., inner, inner], data[..., inner, inner]
    return float(np.linalg.norm(np.sqrt(model) - np.sqrt(data)) / np.linalg.norm(np.sqrt(data)))


def test_truth_explains_the_patterns_and_no_mirror_of_it_does(expected):
    specimen = expected.specimen
    right = amplitude_residual(modelled(specimen, SMALL), expected.patterns)
    assert right < 0.003

    def wrong(data: np.ndarray, origin=specimen.origin_A) -> float:
        volume = PhaseVolume(data, specimen.voxel_size_A, origin)
        return amplitude_residual(modelled(volume, SMALL), expected.patterns)

    oz, oy, ox = specimen.origin_A
    assert wrong(specimen.data.swapaxes(1, 2), (oz, ox, oy)) > 5 * right
    assert wrong(specimen.data[:, ::-1]) > 5 * right
    assert wrong(specimen.data[:, :, ::-1]) > 5 * right
    assert wrong(specimen.data[::-1]) > 2 * right
    assert wrong(np.roll(specimen.data, 1, axis=1)) > 2 * right
    assert wrong(np.roll(specimen.data, 1, axis=2)) > 2 * right
    assert wrong(-specimen.data) > 5 * right


def test_sign_of_defocus_is_that_of_the_calibration(expected):
    assert expected.calibration.defocus_A == SMALL.defocus_A
    right = amplitude_residual(modelled(expected.specimen, SMALL), expected.patterns)
    flipped = modelled(expected.specimen, SMALL, defocus_A=-SMALL.defocus_A)
    assert amplitude_residual(flipped, expected.patterns) > 5 * right


def test_truth_is_the_scanned_part_of_the_specimen(expected):
    truth = expected.truth
    # 2 and 3 steps of 0.7 A on pixels of 0.25 A: centres below 1.4 A and 2.1 A.
    assert truth.data.shape == (4, 6, 9)
    assert truth.voxel_size_A == pytest.approx((2.0, 0.25, 0.25))
    assert truth.origin_A == pytest.approx((1.0, 0.0, 0.0))
    start = [round(-origin / 0.25) for origin in expected.specimen.origin_A[1:]]
    np.testing.assert_array_equal(
        truth.data,
        expected.specimen.data[:, start[0] : start[0] + 6, start[1] : start[1] + 9],
    )


def test_paper_conditions_give_the_paper_volume():
    paper = Experiment()
    volume = PhaseVolume(np.zeros((8, 192, 192)), (1.6, 0.2, 0.2), (0.8, -12.8, -12.8))
    patterns = np.zeros((26, 26, 64, 64), np.float32)
    truth = ExpectedPatterns(patterns, volume, paper.calibration(), "paper").truth
    assert truth.data.shape == (8, 64, 64)
    assert truth.origin_A == pytest.approx((0.8, 0.0, 0.0))


def test_atoms_of_the_truth_lie_where_the_crystal_has_them():
    # One heavy atom in an empty box: the truth peaks at its place and depth.
    place = np.array([[3.1, 0.0, 0.0]])

    def fill(crystal, size, zone_axis, rng):
        place[0, 1:] = np.array(size[1:]) / 2
        return AtomBox(np.array([79]), place.copy(), size)

    lonely = Sample("atom", "one atom", sample("si").crystal, fill)
    expected = simulate_expected(lonely, replace(SMALL, scan_shape=(1, 1)))
    volume = expected.specimen
    z, y, x = np.unravel_index(np.argmax(volume.data), volume.data.shape)
    assert z == 1  # 2 to 4 A
    # The box is centred on the scan to within one pixel.
    assert abs(volume.origin_A[1] + y * 0.25) <= 0.25
    assert abs(volume.origin_A[2] + x * 0.25) <= 0.25


def test_truth_is_what_the_renderer_of_the_training_data_makes_of_the_same_atoms(skew, expected):
    volume = expected.specimen
    shape, voxel = volume.data.shape, volume.voxel_size_A
    size = tuple(n * d for n, d in zip(shape, voxel, strict=True))
    atoms = sample_from_crystal(skew).box(size)
    rendered = SliceRenderer(shape, voxel, margin=0)([atoms]).numpy()[0]
    difference = np.linalg.norm(volume.data - rendered) / np.linalg.norm(rendered)
    # abTEM interpolates the places of atoms; without oversampling this would be 0.04.
    assert difference < 0.01


def test_vacuum_is_a_flat_disk_of_the_right_radius():
    def fill(crystal, size, zone_axis, rng):
        return AtomBox(np.array([1]), np.array([[0.1, 0.1, 0.1]]), size)

    corner = Sample("vacuum", "hydrogen far away", sample("si").crystal, fill)
    pattern = simulate_expected(corner, replace(SMALL, scan_shape=(1, 1))).patterns[0, 0]
    k = (np.arange(32) - 16) * SMALL.detector_step_invA
    angle = 1e3 * wavelength_A(SMALL.energy_keV) * np.hypot(k[:, None], k[None])
    step = 1e3 * wavelength_A(SMALL.energy_keV) * SMALL.detector_step_invA
    inside = pattern[angle < SMALL.semiangle_mrad - step]
    # The hydrogen's faint fringes and abTEM's soft edge are all that disturbs it.
    assert np.ptp(inside) / inside.mean() < 0.02
    assert pattern[angle > SMALL.semiangle_mrad + step].max() < 1e-3 * inside.mean()
    area = pattern.sum() / inside.mean() * step**2
    assert np.sqrt(area / np.pi) == pytest.approx(SMALL.semiangle_mrad, rel=0.01)
    assert pattern.sum() == pytest.approx(1.0, abs=1e-3)


def test_scan_axes_follow_the_specimen(skew):
    # A single step along y or x shows the pattern of the neighbour in the longer scan.
    whole = simulate_expected(skew, replace(SMALL, scan_shape=(2, 2)))
    specimen = modelled(whole.specimen, replace(SMALL, scan_shape=(2, 2)))
    same = amplitude_residual(specimen, whole.patterns)
    swapped = amplitude_residual(specimen.swapaxes(0, 1), whole.patterns)
    assert swapped > 2 * same


def test_counts_are_integers_with_the_dose_asked_for(expected):
    dose = 2e4
    dataset = apply_dose(expected, dose, seed=5)
    assert dataset.patterns.dtype == np.uint16
    assert dataset.calibration.dose_e_per_A2 is None  # electrons already
    electrons = dose * SMALL.scan_step_A**2
    sums = dataset.patterns.sum(axis=(2, 3), dtype=float)
    kept = expected.patterns.sum(axis=(2, 3), dtype=float)
    assert (kept > 0.98).all()
    assert (kept <= 1.0 + 1e-5).all()
    # Five standard deviations of a Poisson sum.
    assert (np.abs(sums - electrons * kept) < 5 * np.sqrt(electrons)).all()
    assert np.abs(sums - electrons).max() < 0.02 * electrons + 5 * np.sqrt(electrons)
    assert dataset.validate() == dataset.n_patterns


def test_seed_decides_the_noise_and_nothing_else(expected):
    first, again, other = (apply_dose(expected, 1e4, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.patterns, again.patterns)
    assert first.fingerprint() == again.fingerprint()
    assert (first.patterns != other.patterns).mean() > 0.05
    np.testing.assert_array_equal(first.truth.data, other.truth.data)


@pytest.mark.parametrize("workers", [1, 2])
def test_same_simulation_is_the_same_to_the_last_bit(skew, expected, workers, monkeypatch):
    monkeypatch.setattr("napari_mep.data._abtem_multislice._BATCH", 5)
    again = simulate_expected(skew, SMALL, workers=workers)
    np.testing.assert_array_equal(again.patterns, expected.patterns)
    np.testing.assert_array_equal(again.specimen.data, expected.specimen.data)


def test_progress_can_end_a_simulation(skew, monkeypatch):
    monkeypatch.setattr("napari_mep.data._abtem_multislice._BATCH", 2)
    seen = []

    def stop_after_two(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_expected(skew, SMALL, progress=stop_after_two)
    assert seen == [(2, 12), (4, 12)]


def test_no_dose_means_no_noise(expected):
    dataset = apply_dose(expected, None)
    np.testing.assert_allclose(
        dataset.patterns, expected.patterns * NOISE_FREE_DOSE * SMALL.scan_step_A**2, rtol=1e-6
    )
    assert dataset.provenance["counting_noise"] is False


def test_strong_doses_need_wider_integers(expected):
    dataset = apply_dose(expected, 1e8)
    assert dataset.patterns.dtype == np.uint32
    assert dataset.patterns.max() > 2**16


def test_dataset_carries_everything(skew):
    seen = []
    dataset = simulate_dataset(
        skew,
        dose_e_per_A2=1e4,
        seed=3,
        progress=lambda done, total: seen.append((done, total)),
        **{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__},
    )
    assert dataset.name == "skew"
    assert dataset.scan_shape == (3, 4)
    assert dataset.detector_shape == (32, 32)
    assert dataset.pixel_size_A == pytest.approx((0.25, 0.25))
    assert dataset.truth is not None
    assert dataset.calibration.specimen_thickness_A == 8.0
    assert seen[-1] == (12, 12)
    assert dataset.provenance["experiment"]["scan_shape"] == (3, 4)
    assert dataset.provenance["simulated_with"].startswith("abtem ")


def test_a_scan_wider_than_a_window_is_simulated_in_blocks(skew):
    strip = replace(SMALL, scan_shape=(1, 34))
    expected = simulate_expected(skew, strip)
    # 24 A are one window; the region that holds the windows of all blocks is wider.
    assert expected.specimen.data.shape[1:] == (96, 144)
    assert expected.truth.data.shape == (4, 1, 93)
    assert amplitude_residual(modelled(expected.specimen, strip), expected.patterns) < 0.003


@pytest.mark.parametrize("pixels", [32, 48, 64, 65, 100])
@pytest.mark.parametrize("scan", [(1, 1), (26, 26), (7, 90)])
def test_grids_fit_together(pixels, scan):
    grid = plan_grid(scan, 0.4, detector_pixels=pixels, detector_step_invA=5 / pixels, margin_A=9.0)
    assert grid.windows % 2 == 1
    assert grid.pixel_A == pytest.approx(0.2)
    for size, coarse, first in zip(grid.size_px, grid.coarse_px, grid.first_A, strict=True):
        assert size * grid.fine_A == pytest.approx(coarse * grid.pixel_A)
        assert first / grid.pixel_A == pytest.approx(round(first / grid.pixel_A))
    # abTEM's aperture, taper included, reaches beyond the corners of the detector.
    assert (1 / 3 - 0.01) / grid.fine_A >= np.sqrt(2) * pixels / 2 * (5 / pixels)
    width = grid.window_px * grid.fine_A
    for block in grid.blocks:
        raster = np.stack(np.divmod(block.indices, scan[1]), -1)
        inside = raster * 0.4 + grid.first_A - np.array(block.corner_px) * grid.fine_A
        assert inside.min() >= 9.0 - grid.pixel_A
        assert inside.max() <= width - 9.0 + grid.pixel_A
        assert max(block.corner_px) + grid.window_px <= max(grid.size_px)


def test_fourier_crop_keeps_band_limited_functions():
    y, x = np.meshgrid(np.arange(60) / 60, np.arange(90) / 90, indexing="ij")
    fine = 1.5 + np.cos(2 * np.pi * (3 * x + 5 * y)) + np.sin(2 * np.pi * 7 * x)
    y, x = np.meshgrid(np.arange(20) / 20, np.arange(30) / 30, indexing="ij")
    coarse = 1.5 + np.cos(2 * np.pi * (3 * x + 5 * y)) + np.sin(2 * np.pi * 7 * x)
    np.testing.assert_allclose(fourier_crop(fine[None], (20, 30))[0], coarse, atol=1e-12)


@pytest.mark.parametrize(("axis", "period_y_A"), [("a", 6.0), ("b", 6.0), ("c", 4.0)])
def test_zone_axis_of_a_tetragonal_cell(axis, period_y_A):
    """Seen along a or b, the long axis of the cell lies along y; seen along c, nowhere."""
    tetragonal = Crystal(np.diag([4.0, 4.0, 6.0]), [38, 8], [[0, 0, 0], [0.3, 0.4, 0.25]])
    experiment = replace(SMALL, scan_shape=(1, 1), thickness_A=12.0, zone_axis=axis)
    volume = simulate_expected(tetragonal, experiment).specimen.data
    assert volume.shape[1:] == (96, 96)  # 24 A, whole cells of 4 and of 6 A

    def repeats(period_A: float, axis: int) -> bool:
        step = round(period_A / (2.0 if axis == 0 else 0.25))
        return np.abs(np.roll(volume, step, axis) - volume).max() < 0.02 * volume.max()

    assert repeats(4.0, 2)
    assert not repeats(6.0, 2)
    for period in (4.0, 6.0):
        assert repeats(period, 1) == (period == period_y_A)
        assert repeats(period, 0) == (period != period_y_A)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"energy_keV": 3e5}, CalibrationError, "looks like eV"),
        ({"semiangle_mrad": 0.02}, CalibrationError, "looks like rad"),
        ({"scan_step_A": 0.0}, CalibrationError, "scan_step_A"),
        ({"semiangle_mrad": 90.0}, CalibrationError, "bright-field disk"),
        ({"thickness_A": -1.0}, CrystalError, "thickness_A"),
        ({"slice_thickness_A": 0.0}, CrystalError, "slice_thickness_A"),
        ({"scan_shape": (0, 4)}, DataError, "scan_shape"),
        ({"zone_axis": "q"}, CrystalError, "zone axis"),
        ({"detector_pixels": 1}, DataError, "detector_pixels"),
    ],
)
def test_impossible_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        Experiment(**settings)


def test_other_mistakes_are_named(expected):
    with pytest.raises(DeviceError, match="use cpu"):
        simulate_expected("si", SMALL, device="cuda:7")
    with pytest.raises(CrystalError, match="srtio3, batio3"):
        simulate_dataset("unobtainium")
    for dose in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="dose"):
            apply_dose(expected, dose)


@pytest.mark.parametrize("scan", [(2, 3), (1, 34)])
def test_a_turned_scan_is_the_one_that_the_calibration_says(skew, scan):
    """34 positions do not fit one window, so this one is simulated in blocks."""
    turned = replace(SMALL, scan_shape=scan, scan_rotation_deg=35.0)
    expected = simulate_expected(skew, turned)
    calibration = expected.calibration
    assert calibration.scan_rotation_deg == 35.0
    right = amplitude_residual(modelled(expected.specimen, turned), expected.patterns)
    assert right < 0.003
    other = replace(turned, scan_rotation_deg=-35.0)
    assert amplitude_residual(modelled(expected.specimen, other), expected.patterns) > 5 * right
    # The truth is the box around the positions, where it lies in the world.
    positions, truth = turned.positions_A(), expected.truth
    low, high = positions.min(axis=0), positions.max(axis=0)
    first = np.array(truth.origin_A[1:])
    last = first + (np.array(truth.data.shape[1:]) - 1) * 0.25
    assert (first >= low - 1e-9).all()
    assert (first < low + 0.25).all()
    assert (last < np.maximum(high, first + 1e-9) + 1e-9).all()


def test_a_recording_is_undone_by_its_calibration(expected):
    """Transposed, flipped and off centre: oriented by the calibration it is the simulation."""
    wrong = Imperfections(transpose=True, flip_x=True, dead_share=0.02, hot_share=0.01)
    recording = record(expected, wrong, 1e6, seed=2)
    calibration = expected.calibration.model_copy(
        update={"detector_transpose": True, "detector_flip_x": True}
    )
    mask = orient_detector(~recording.bad, True, False, True)
    data = DiffractionDataset(recording.patterns, calibration, "recorded", mask=mask)
    mean = expected.patterns.reshape(-1, 32, 32) * 1e6 * SMALL.scan_step_A**2
    error = (data.counts() - mean)[:, mask] / np.sqrt(mean[:, mask] + 1)
    assert np.abs(error).max() < 6
    assert 0 < recording.bad.sum() < 60
    assert (recording.patterns[..., recording.bad].astype(float).mean((0, 1)) == 0).any()
    with pytest.raises(DataError, match="dose = 0"):
        record(expected, wrong, 0)
