"""Layers as volumes, corrections, scores: what Compare computes before anything is drawn."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_mep.evaluation.alignment import Adjusted
from napari_mep.volume import PhaseVolume
from napari_mep.widgets._compare_figure import cell, table_csv, write_csv, write_figure
from napari_mep.widgets._compare_layers import (
    MARK,
    ScanSource,
    fingerprint,
    is_running,
    is_volume,
    obstacle,
    placement,
    scan_source,
    unit_problem,
    volume_of,
)
from napari_mep.widgets._compare_prepare import (
    Candidate,
    Prepared,
    Settings,
    prepare,
    score,
    short_names,
)
from napari_mep.widgets._compare_scene import Scene, image_of

VOXEL = (1.6, 0.2, 0.2)


def lattice(shape=(4, 32, 30), moved=0.0, origin=(0.8, 0.0, 0.0), voxel=VOXEL) -> PhaseVolume:
    """Atoms that are not quite periodic, so that registration has one answer."""
    z, y, x = (o + d * np.arange(n) for n, d, o in zip(shape, voxel, origin, strict=True))
    y, x = y - moved, x + moved
    image = 1 + np.cos(2 * np.pi * y / 1.9)[:, None] * np.cos(2 * np.pi * x / 1.7)[None, :]
    image = image * np.exp(-((y[:, None] - 2.5) ** 2 + (x[None, :] - 3.5) ** 2) / 4)
    return PhaseVolume(voxel[0] * (1 + 0.1 * z)[:, None, None] * image, voxel, origin)


def candidates(*volumes: PhaseVolume) -> list[Candidate]:
    return [Candidate(f"k{i}", f"v{i}", v, {"seconds": 2.5}) for i, v in enumerate(volumes)]


def image(**settings) -> Image:
    data = settings.pop("data", np.ones((4, 8, 8), np.float32))
    return Image(data, **({"scale": VOXEL, "units": ("angstrom",) * 3} | settings))


def test_layers_in_any_unit_of_length_become_angstrom():
    layer = image(scale=(0.16, 0.02, 0.02), translate=(0.08, 1, 2), units=("nm",) * 3)
    volume = volume_of(layer)
    assert volume.voxel_size_A == pytest.approx(VOXEL)
    assert volume.origin_A == pytest.approx((0.8, 10, 20))
    assert volume.data is layer.data or np.shares_memory(volume.data, layer.data)
    assert unit_problem(layer) == ""
    back = placement(volume, layer)
    assert back["scale"] == pytest.approx((0.16, 0.02, 0.02))
    assert back["translate"] == pytest.approx((0.08, 1, 2))
    assert "pixel, taken as angstrom" in unit_problem(image(units=("pixel",) * 3))


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (image(), True),
        (Image(np.ones((4, 4))), False),
        (Image(np.ones((4, 4, 3)), rgb=True), False),
        (Labels(np.ones((3, 4, 4), int)), False),
        (image(metadata={MARK: "difference"}), False),
        (Image(np.ones((3, 4, 4), np.uint8)), True),
    ],
)
def test_what_can_be_compared(layer, fits):
    assert is_volume(layer) is fits


def test_a_volume_lies_where_napari_draws_it():
    """The affine of a layer moves and mirrors what is compared, too."""
    data = np.arange(4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    affine = np.diag([1, -2.0, 1, 1])
    affine[:3, 3] = (0, 3.0, 0.07)
    layer = image(
        data=data,
        scale=(0.16, 0.02, 0.02),
        translate=(0.08, 1, 2),
        units=("nm",) * 3,
        affine=affine,
    )
    volume = volume_of(layer)
    assert volume.voxel_size_A == pytest.approx((1.6, 0.4, 0.2))
    assert volume.origin_A == pytest.approx((0.8, 30 - 20 - 7 * 0.4, 20.7))
    np.testing.assert_array_equal(volume.data, data[:, ::-1])
    assert is_volume(image(scale=(1.6, -0.2, 0.2)))
    # What a link has moved for a while is where it was before.
    layer.affine = np.diag([1, 5, 5, 1.0]) @ affine
    assert volume_of(layer, affine).origin_A == pytest.approx(volume.origin_A)
    assert fingerprint(layer, affine) != fingerprint(layer)


@pytest.mark.parametrize(
    "turned", [{"rotate": 10}, {"shear": (0, 0, 0.1)}, {"affine": np.eye(4)[[0, 2, 1, 3]]}]
)
def test_what_is_rotated_or_sheared_is_not_compared(turned):
    assert obstacle(image(**turned)) == "rotated or sheared"
    assert obstacle(image(rotate=360)) == ""


def test_a_running_layer_is_copied_a_finished_one_is_not():
    running = image(metadata={"napari_mep": {"plan": {}}})
    assert is_running(running)
    assert not np.shares_memory(volume_of(running).data, running.data)
    assert not is_running(image(metadata={"napari_mep": {"plan": {}, "step": 8}}))
    assert not is_running(image())


def test_a_fingerprint_tells_changes():
    layer = image()
    before = fingerprint(layer)
    assert fingerprint(layer) == before
    layer.data[2] += 0.5
    changed = fingerprint(layer)
    layer.translate = (0, 0, 1)
    assert len({before, changed, fingerprint(layer)}) == 3


def test_the_scan_of_a_layer_with_the_array_inside_the_file():
    data = {"name": "s.h5::/patterns", "calibration": {"beam_energy_keV": 300}}
    layer = image(metadata={"napari_mep": {"dataset_path": "a/s.h5", "data": data}})
    assert scan_source(layer) == ScanSource("a/s.h5::/patterns", {"beam_energy_keV": 300})
    assert scan_source(image(metadata={"napari_mep": {"dataset_path": "a"}})) == ScanSource("a")
    assert scan_source(image()) is None


def test_without_corrections_nothing_is_touched():
    a, b = lattice(), lattice(moved=0.3)
    prepared = prepare(candidates(a, b), Settings())
    assert [v.key for v in prepared.volumes] == ["k0", "k1"]
    assert prepared.reference.volume is a
    assert prepared.results[0].volume is b
    assert not any(v.changed for v in prepared.volumes)
    expected = (b.data - a.data) / 1.6  # per thickness, as all pictures
    np.testing.assert_allclose(prepared.results[0].difference().data, expected, rtol=1e-5)
    assert prepared.reference.difference().data.max() == 0


def test_crop_means_the_field_of_all():
    wide, narrow = lattice((4, 40, 40)), lattice((4, 16, 20), origin=(0.8, 1.0, 1.0))
    cropped = prepare(candidates(lattice(), wide, narrow), Settings(crop=True))
    assert [v.on_grid.data.shape for v in cropped.volumes] == [(4, 16, 20)] * 3
    loose = prepare(candidates(lattice(), wide, narrow), Settings(crop=False))
    assert [v.on_grid.data.shape for v in loose.results] == [(4, 32, 30), (4, 16, 20)]


def test_other_slices_line_up_by_depth_and_lose_no_phase():
    """Slices of 3.2 A over slices of 1.6 A: an atom plane is at the same depth in both."""
    thin, thick = np.zeros((8, 12, 12)), np.zeros((4, 12, 12))
    thin[4:6, 5, 5] = 0.5  # from 6.4 to 9.6 A
    thick[2, 5, 5] = 1.0
    prepared = prepare(
        candidates(
            PhaseVolume(thin, VOXEL, (0.8, 0, 0)),
            PhaseVolume(thick, (3.2, 0.2, 0.2), (1.6, 0, 0)),
        ),
        Settings(),
    )
    for depth_A in (5.0, 6.0, 6.8, 8.0, 9.2, 10.0):
        scene = Scene(prepared, depth_A=depth_A)
        first, second = (image_of(volume.volume, scene) for volume in prepared.volumes)
        np.testing.assert_allclose(first, second)
        assert (first[5, 5] > 0) is np.bool_(6.4 < depth_A < 9.6)
    np.testing.assert_allclose(prepared.results[0].difference().data, 0, atol=1e-6)


def test_a_stranger_does_not_spoil_the_others():
    far = lattice(origin=(0.8, 90.0, 0.0))
    prepared = prepare(candidates(lattice(), far, lattice()), Settings(register=True))
    assert "along y" in prepared.results[0].problem
    assert prepared.results[0].difference() is None
    assert prepared.results[1].problem == ""
    rows = score(prepared)
    assert "along y" in rows[0].problem
    assert math.isnan(rows[0].ssim)
    assert rows[1].ssim == pytest.approx(1)


def test_corrections_apply_to_results_and_flips_to_each():
    a, b = lattice((4, 40, 40)), lattice((4, 40, 40), moved=0.26)
    flipped = PhaseVolume(b.data[:, ::-1], b.voxel_size_A, b.origin_A)
    settings = Settings(register=True, offset=True, flips={"k1": (False, True, False)})
    prepared = prepare(candidates(a, flipped), settings)
    done = prepared.results[0].adjusted
    assert done.shift_A == pytest.approx((-0.26, 0.26), abs=0.02)
    assert prepared.results[0].changed
    (row,) = score(prepared)
    assert row.corrections.startswith("flipped y, moved -0.26, +0.26 Å, offset ")
    assert prepared.reference.adjusted.shift_A == Adjusted(a).shift_A
    assert not prepared.reference.changed
    residue = np.abs(prepared.results[0].difference().data).max()
    assert residue < 0.05 * np.abs(a.data).max()


def test_no_volumes():
    assert prepare([], Settings()).volumes == ()
    assert Prepared().results == ()


def test_the_table_and_its_file(tmp_path):
    noisy = lattice().data + np.random.default_rng(0).normal(0, 0.1, (4, 32, 30))
    record = {"residual": 0.12345, "residual_floor": 0.1, "seconds": 7.6}
    volumes = candidates(lattice())
    volumes.append(Candidate("k1", "noisy, loud", PhaseVolume(noisy, VOXEL, (0.8, 0, 0)), record))
    prepared = prepare(volumes, Settings())
    (row,) = rows = score(prepared)
    assert 0 < row.ssim < 1
    assert 10 < row.psnr_dB < 60
    assert 0 < row.frc_invA <= 2.5
    assert (row.residual, row.residual_floor, row.seconds) == (0.12345, 0.1, 7.6)
    assert cell(row, "residual") == "0.123"
    assert cell(row, "seconds") == "8"
    parsed = list(csv.DictReader(io.StringIO(table_csv(rows))))
    assert parsed[0]["name"] == "noisy, loud"
    assert float(parsed[0]["psnr_dB"]) == row.psnr_dB
    assert parsed[0]["reference"] == "v0"
    assert (float(parsed[0]["depth_from_A"]), float(parsed[0]["depth_to_A"])) == (0.0, 6.4)
    assert (parsed[0]["crop"], parsed[0]["corrections"], parsed[0]["scan"]) == ("True", "", "")
    assert write_csv(tmp_path / "a.csv", rows).read_text() == table_csv(rows)

    from napari_mep.errors import ExportError

    figure = write_figure(tmp_path / "a.png", Scene(prepared, depth_A=2.0), rows)
    assert figure.stat().st_size > 10_000
    assert write_figure(tmp_path / "a.pdf", Scene(prepared), ()).read_bytes()[:4] == b"%PDF"
    with pytest.raises(ExportError, match="unknown kind"):
        write_figure(tmp_path / "a.doc", Scene(prepared), rows)
    with pytest.raises(ExportError, match="cannot be written"):
        write_csv(tmp_path / "no" / "a.csv", rows)


def test_curves_that_never_cross_are_at_least_as_good_as_what_was_compared():
    noise = np.random.default_rng(0).normal(size=(4, 32, 30))
    same, other = (PhaseVolume(lattice().data + k * noise, VOXEL, (0.8, 0, 0)) for k in (0, 5))
    equal, noisy = score(prepare(candidates(lattice(), same, other), Settings()))
    assert cell(equal, "frc_invA") == f"≥ {equal.frc_limit_invA:.2f}"
    assert cell(equal, "fsc_invA") == f"≥ {equal.fsc_limit_invA:.2f}"
    assert cell(noisy, "frc_invA") == f"{noisy.frc_invA:.2f}"
    assert noisy.frc_invA < noisy.frc_limit_invA == equal.frc_limit_invA


def test_names_are_cut_to_what_tells_them_apart():
    names = ["truth", "srtio3 [mep]", "srtio3 [lsq-ml:tuned]"]
    assert short_names(names) == ["truth", "mep", "lsq-ml:tuned"]
    assert short_names([*names, "gaas [mep]"]) == [*names, "gaas [mep]"]


def test_missing_values_are_dashes_and_empty_cells():
    rows = score(prepare(candidates(lattice((1, 20, 20)), lattice((1, 20, 20))), Settings()))
    assert cell(rows[0], "fsc_invA") == "–"
    assert next(csv.DictReader(io.StringIO(table_csv(rows))))["residual"] == ""


def test_layers_of_a_viewer_are_found():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 4, 4)))
    viewer.add_points(np.zeros((1, 3)))
    assert [is_volume(layer) for layer in viewer.layers] == [True, False]
