"""PtyRAD's parameter files, with the keys of its demo of twisted bilayer WSe2 in small."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import yaml

from napari_mep.data.formats.ptyrad_settings import read_settings
from napari_mep.data.readers import open_dataset, open_patterns
from napari_mep.errors import DataError

DEMO = {
    "init_params": {
        "probe_kv": 80, "probe_conv_angle": 24.9, "probe_aberrations": {"C10": 0},
        "meas_Npix": 16, "pos_N_scan_slow": 3, "pos_N_scan_fast": 4, "pos_scan_step_size": 0.429,
        "probe_pmode_max": 6, "obj_Nlayer": 6, "obj_slice_thickness": 2,
        "meas_permute": None, "meas_reshape": None, "meas_flipT": [1, 0, 0],
        "pos_scan_affine": None,
        "meas_params": {"path": "data/demo/scan_x4_y3.raw", "key": None},
    },
    "loss_params": {
        "loss_single": {"state": True, "weight": 1.0, "dp_pow": 0.5},
        "loss_sparse": {"state": True, "weight": 0.1, "ln_order": 1},
    },
    "constraint_params": {
        "obj_zblur": {"start_iter": 1, "step": 1, "end_iter": None, "kernel_size": 5, "std": 1},
        "objp_postiv": {"start_iter": 1, "step": 1, "end_iter": None, "relax": 0},
        "obj_rblur": {"start_iter": None, "step": 1, "std": 0.4},
    },
    "recon_params": {
        "NITER": 200, "BATCH_SIZE": {"size": 32, "grad_accumulation": 1}, "SAVE_ITERS": 10,
        "output_dir": "output/demo/", "recon_dir_affixes": ["minimal", "constraint", "loss"],
    },
}  # fmt: skip


@pytest.fixture
def demo(tmp_path):
    """Parameters in a folder beside that of the data, as PtyRAD's demo has them."""
    k = np.arange(16) - 8
    disk = (np.hypot(k[:, None], k[None, :]) < 5) * 100.0
    frames = np.random.default_rng(0).poisson(disk, (3, 4, 16, 16)).astype("<f4")
    raw = tmp_path / "data" / "demo" / "scan_x4_y3.raw"
    raw.parent.mkdir(parents=True)
    gap = np.zeros((12, 256), "<f4")
    raw.write_bytes(np.concatenate([frames.reshape(12, 256), gap], axis=1).tobytes())
    (tmp_path / "params").mkdir()

    def write(name: str = "demo.yaml", **init):
        values = copy.deepcopy(DEMO)
        values["init_params"].update(init)
        path = tmp_path / "params" / name
        text = json.dumps(values) if name.endswith("json") else yaml.safe_dump(values)
        path.write_text(text)
        return path

    write.frames, write.raw = frames, raw
    return write


@pytest.mark.parametrize("name", ["demo.yaml", "demo.yml", "demo.json"])
def test_the_measurement_opens_with_the_calibration_of_the_file(demo, name, h):
    opened = open_patterns(demo(name))
    np.testing.assert_array_equal(h.all_of(opened), demo.frames)
    assert isinstance(opened.patterns, np.memmap)
    values = dict(opened.calibration.values)
    # No detector step is given: PtyRAD fits the disk, and so do we, as a guess.
    assert opened.calibration.sources["detector_step_mrad"] == "guessed"
    assert values.pop("detector_step_mrad") == pytest.approx(24.9 / 5, rel=0.08)
    assert values == {
        "beam_energy_keV": 80, "convergence_semiangle_mrad": 24.9, "defocus_A": 0,
        "scan_step_A": 0.429, "specimen_thickness_A": 12, "detector_transpose": False,
        "detector_flip_y": True, "detector_flip_x": False,
    }  # fmt: skip
    assert open_dataset(demo(name)).scan_shape == (3, 4)


def test_toml(tmp_path, demo):
    demo()
    path = tmp_path / "params" / "demo.toml"
    path.write_text(
        "[init_params]\nprobe_kv = 80\nprobe_conv_angle = 24.9\npos_N_scan_slow = 3\n"
        "pos_N_scan_fast = 4\nmeas_Npix = 16\n[init_params.meas_params]\n"
        'path = "../data/demo/scan_x4_y3.raw"\n'
    )
    assert open_patterns(path).patterns.shape == (3, 4, 16, 16)


@pytest.mark.parametrize(
    ("mode", "value", "name", "expected"),
    [
        ("dx", 0.2, "detector_step_invA", 1 / (16 * 0.2)),
        ("dk", 0.05, "detector_step_invA", 0.05),
        ("kMax", 0.8, "detector_step_invA", 0.1),
        ("da", 1.5, "detector_step_mrad", 1.5),
        ("angleMax", 40, "detector_step_mrad", 5),
        ("n_alpha", 2, "detector_step_mrad", 2 * 24.9 / 8),
        ("RBF", 5, "detector_step_mrad", 24.9 / 5),
    ],
)
def test_all_ways_to_give_the_detector_step(demo, mode, value, name, expected):
    calibration = open_patterns(demo(meas_calibration={"mode": mode, "value": value})).calibration
    assert calibration.values[name] == pytest.approx(expected)
    assert calibration.sources[name] == "file"


def test_signs_and_orders(demo):
    values = open_patterns(
        demo(
            probe_aberrations={"C10": -200, "C30": "1e4"},
            meas_flipT=[1, 0, 1],
            pos_scan_affine=[1.1, 0.2, 3, 0],
        )
    ).calibration.values
    assert values["defocus_A"] == 200
    assert values["spherical_aberration_A"] == 1e4
    assert values["scan_step_A"] == pytest.approx((0.429 * 1.1 * 1.1, 0.429 * 1.1 * 0.9))
    assert values["scan_rotation_deg"] == 3
    alias = open_patterns(demo(probe_aberrations={"defocus": 50})).calibration.values
    assert alias["defocus_A"] == 50


@pytest.mark.parametrize("flips", [(y, x, t) for y in (0, 1) for x in (0, 1) for t in (0, 1)])
def test_flips_mean_the_same_as_in_ptyrad(demo, flips):
    """For patterns with an odd number of pixels, where a flip moves no centre."""
    frames = np.random.default_rng(1).random((2, 2, 15, 15)).astype("<f4")
    demo.raw.write_bytes(frames.tobytes())
    path = demo(
        meas_flipT=list(flips), meas_Npix=15, pos_N_scan_slow=2, pos_N_scan_fast=2,
        meas_calibration={"mode": "da", "value": 5.0},
        meas_params={"path": str(demo.raw), "gap": 0},
    )  # fmt: skip
    theirs = frames.reshape(4, 15, 15)
    theirs = np.flip(theirs, [axis for axis in (1, 2) if flips[axis - 1]])
    theirs = theirs.transpose(0, 2, 1) if flips[2] else theirs
    np.testing.assert_array_equal(open_dataset(path).counts(), theirs)


def test_what_has_no_counterpart_is_named(demo):
    lines = open_patterns(demo(meas_pad={"mode": "on_the_fly"})).provenance["unsupported"]
    assert lines == read_settings(demo(meas_pad={"mode": "on_the_fly"})).unsupported()
    names = [line.split(" ")[0].rstrip(":") for line in lines]
    assert names == [
        "init_params.meas_pad",
        "init_params.probe_pmode_max",
        "loss_params.loss_sparse",
        "constraint_params.obj_zblur",
        "constraint_params.objp_postiv",
        *(f"model_params.update_params.{name}" for name in ("obja", "probe", "probe_pos_shifts")),
    ]
    assert "= 6: mixed probe modes are not modelled, one mode is used" in lines[1]
    more = read_settings(
        demo(probe_aberrations={"C12": 5, "phi12": 30}, pos_scan_affine=[1, 0, 0, 2], novel=1)
    ).unsupported()
    assert any("C12 = 5: only defocus and Cs" in line for line in more)
    assert any("shear of 2 deg" in line for line in more)
    assert "init_params.novel = 1: not supported, ignored" in more


def test_measurements_of_other_formats(demo, tmp_path, h):
    import h5py

    stack = demo.frames.reshape(12, 16, 16)
    with h5py.File(tmp_path / "data" / "meas.h5", "w") as file:
        file["dp"] = stack
        file["other"] = stack
    np.save(tmp_path / "data" / "meas.npy", demo.frames)
    for source in ({"path": "data/meas.h5", "key": "dp"}, {"path": "data/meas.npy", "key": None}):
        np.testing.assert_array_equal(
            h.all_of(open_patterns(demo(meas_params=source))), demo.frames
        )
    (tmp_path / "data" / "meas.mat").touch()
    h.refused(demo(meas_params={"path": "data/meas.mat"}), "measurements in .mat files cannot")
    h.refused(demo(meas_params={"path": "data/meas.h5"}), "scan.*|several|no arrays")


def test_broken_parameter_files(demo, tmp_path, h):
    h.refused(demo(meas_params={"path": "gone.raw"}), "its measurement gone.raw is not there")
    h.refused(demo(meas_params={}), "meas_params.path is missing")
    h.refused(demo(pos_N_scan_slow=None), "must be whole numbers above 0")
    h.refused(demo(pos_N_scan_slow=5), r"5 x 4 patterns of 16 x 16 pixels with gaps of 1024")
    h.refused(demo(probe_kv="high"), "init_params.probe_kv = 'high': must be a number")
    h.refused(demo(meas_flipT=[1]), "expected 3 numbers 0 or 1")
    h.refused(demo(exp_params={"kv": 80}), "before 0.1.0b11")
    path = demo()
    h.cut(demo.raw, 0.9)
    h.refused(path, r"scan_x4_y3.raw has \d+ bytes")
    for text, words in (("a: [", "not readable as parameters"), ("- 1", "no PtyRAD parameter")):
        path.write_text(text)
        h.refused(path, words)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not readable as parameters"):
        read_settings(path)
