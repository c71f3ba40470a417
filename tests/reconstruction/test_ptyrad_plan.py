from __future__ import annotations

import numpy as np
import pytest
import yaml

from napari_mep.data import preprocess
from napari_mep.errors import DataError, PlanError
from napari_mep.reconstruction.ptyrad_plan import is_ptyrad_file, open_plan

REFINED = {f"model_params.update_params.{name}" for name in ("obja", "probe", "probe_pos_shifts")}


@pytest.fixture
def write(tmp_path):
    def params(**sections):
        path = tmp_path / "params.yaml"
        np.save(tmp_path / "scan.npy", np.ones((2, 3, 16, 16), np.float32))
        init = {
            "probe_kv": 80, "probe_conv_angle": 24.9, "meas_Npix": 16, "pos_N_scan_slow": 2,
            "pos_N_scan_fast": 3, "pos_scan_step_size": 0.43, "obj_Nlayer": 6,
            "obj_slice_thickness": 2, "probe_pmode_max": 6, "random_seed": 7,
            "meas_calibration": {"mode": "da", "value": 5},
            "meas_params": {"path": "scan.npy"},
        }  # fmt: skip
        path.write_text(yaml.safe_dump({"init_params": init, **sections}))
        return path

    return params


def test_a_parameter_file_is_a_dataset_and_a_plan(write):
    found = open_plan(
        write(
            recon_params={"NITER": 50, "BATCH_SIZE": {"size": 16}},
            model_params={
                "update_params": {
                    "objp": {"start_iter": 1, "lr": 5e-4},
                    "probe": {"start_iter": 1, "lr": 1e-4},
                    "obj_tilts": {"start_iter": None, "lr": 1e-4},
                }
            },
        ),
        {"scan_step_A": 0.5},
    )
    plan = found.plan
    assert plan.method == "gradient"
    assert plan.gradient.iterations == plan.baseline.iterations == 50
    assert plan.baseline.batch == 16
    assert plan.baseline.learning_rate == 5e-4
    assert plan.object.thickness_A == 12
    assert plan.object.slice_thickness_A == 2
    assert plan.seed == 7
    assert plan.likelihood == "amplitude"
    assert [line.split(":")[0].split(" ")[0] for line in found.unsupported] == [
        "init_params.probe_pmode_max",
        "model_params.update_params.obja",
        "model_params.update_params.probe",
        "model_params.update_params.probe_pos_shifts",
    ]
    dataset = found.open().calibrated()
    assert dataset.scan_shape == (2, 3)
    assert dataset.calibration.scan_step_A == 0.5, "the caller's calibration wins"
    assert found.open(scan_shape=(2, 3)).patterns.shape == (2, 3, 16, 16)


def test_poisson_loss_is_a_likelihood(write):
    losses = {"loss_single": {"state": False}, "loss_poissn": {"state": True}}
    assert open_plan(write(loss_params=losses)).plan.likelihood == "poisson"


def test_what_cannot_be_a_plan(write, tmp_path):
    with pytest.raises(PlanError, match=r"iterations = 100000"):
        open_plan(write(recon_params={"NITER": 100_000}))
    with pytest.raises(PlanError, match=r"the phase is not reconstructed"):
        open_plan(write(model_params={"update_params": {"objp": {"lr": 0}}}))
    with pytest.raises(DataError, match=r"NITER = 1.5: not whole"):
        open_plan(write(recon_params={"NITER": 1.5}))
    (tmp_path / "plan.toml").write_text("method = 'mep'")
    with pytest.raises(DataError, match="no PtyRAD parameter file"):
        open_plan(tmp_path / "plan.toml")
    assert is_ptyrad_file("a.YML")
    assert not is_ptyrad_file("a.zarr")


def test_ptyrads_own_demo_file(tmp_path):
    """The parameter file that PtyRAD ships for its demo, if PtyRAD is installed."""
    from importlib.metadata import files

    (shipped,) = (f for f in files("ptyrad") or () if f.name == "tBL_WSe2.yaml")
    found = open_plan(shipped.locate())
    assert found.plan.object.thickness_A == 12
    assert found.plan.gradient.iterations == 200
    assert found.plan.baseline.batch == 32
    names = {line.split(" ")[0].rstrip(":") for line in found.unsupported}
    assert names == {
        "init_params.probe_pmode_max",
        "loss_params.loss_sparse",
        "constraint_params.obj_zblur",
        "constraint_params.objp_postiv",
        *REFINED,
    }
    with pytest.raises(DataError, match=r"scan_x128_y128\.raw is not there"):
        found.open()


def _update(lr: float, start: int | None = 1) -> dict:
    return {"start_iter": start, "lr": lr, "end_iter": None}


def beta_settings(path: str) -> dict:
    """All keys of the file that PtyRAD 0.1.0b13 published for its demo of tBL-WSe2, in small."""
    off = {"start_iter": None, "step": 1, "end_iter": None}
    on = {**off, "start_iter": 1}
    return {
        "init_params": {
            "probe_illum_type": "electron", "probe_kv": 80, "probe_conv_angle": 24.9,
            "probe_aberrations": {"defocus": 0}, "meas_Npix": 16, "pos_N_scans": 12,
            "pos_N_scan_slow": 3, "pos_N_scan_fast": 4, "pos_scan_step_size": 0.429,
            "meas_calibration": {"mode": "fitRBF", "value": None}, "probe_pmode_max": 6,
            "probe_pmode_init_pows": [0.02], "obj_omode_max": 1,
            "obj_omode_init_occu": {"occu_type": "uniform", "init_occu": None}, "obj_Nlayer": 6,
            "obj_slice_thickness": 2, "meas_permute": None, "meas_reshape": None,
            "meas_flipT": [1, 0, 0], "meas_crop": None,
            "meas_pad": {"mode": None, "padding_type": "power", "target_Npix": 256, "value": 0},
            "meas_resample": {"mode": None, "scale_factors": [2, 2]},
            "meas_add_source_size": None, "meas_add_detector_blur": None,
            "meas_remove_neg_values": {"mode": "clip_neg", "value": None, "force": False},
            "meas_normalization": {"mode": "max_at_one"}, "meas_add_poisson_noise": None,
            "meas_export": None, "probe_permute": None, "probe_z_shift": None,
            "probe_normalization": {"mode": "mean_total_ints"}, "pos_scan_flipT": None,
            "pos_scan_affine": None, "pos_scan_rand_std": 0.15, "obj_z_crop": None,
            "obj_z_pad": None, "obj_z_resample": None, "meas_source": "file",
            "meas_params": {"path": path}, "probe_source": "simu", "probe_params": None,
            "pos_source": "simu", "pos_params": None, "obj_source": "simu", "obj_params": None,
            "tilt_source": "simu", "tilt_params": {"tilt_type": "all", "init_tilts": [[0, 0]]},
        },
        "model_params": {
            "obj_preblur_std": None, "detector_blur_std": None, "preload_data": True,
            "optimizer_params": {"name": "Adam", "configs": {}, "load_state": None},
            "update_params": {
                "obja": _update(5e-4), "objp": _update(5e-4), "obj_tilts": _update(0, None),
                "slice_thickness": _update(0, None), "probe": _update(1e-4),
                "probe_pos_shifts": _update(5e-4),
            },
        },
        "loss_params": {
            "loss_single": {"state": True, "weight": 1.0, "dp_pow": 0.5},
            "loss_poissn": {"state": False, "weight": 1.0, "dp_pow": 1.0, "eps": 1e-6},
            "loss_pacbed": {"state": False, "weight": 0.5, "dp_pow": 0.2},
            "loss_sparse": {"state": True, "weight": 0.1, "ln_order": 1},
            "loss_simlar": {"state": False, "weight": 0.1, "obj_type": "both"},
        },
        "constraint_params": {
            "ortho_pmode": on, "probe_mask_k": off, "fix_probe_int": on, "obj_rblur": on,
            "obj_zblur": on, "kr_filter": off, "kz_filter": off, "kr_thresh": off,
            "complex_ratio": off, "mirrored_amp": {**on, "scale": 0.03}, "obj_z_recenter": off,
            "obja_thresh": {**on, "thresh": [0.96, 1.04]}, "objp_postiv": on,
            "pos_recenter": off, "tilt_smooth": off,
        },
        "recon_params": {
            "NITER": 200, "INDICES_MODE": {"mode": "full", "subscan_slow": None},
            "BATCH_SIZE": {"size": 32, "grad_accumulation": 1}, "GROUP_MODE": "random",
            "SAVE_ITERS": 10, "output_dir": "output/", "recon_dir_affixes": ["default"],
            "prefix_time": "date", "prefix": "", "postfix": "", "save_result": ["model", "objp"],
            "result_modes": {"obj_dim": [2, 3, 4], "FOV": ["crop"], "bit": ["8"]},
            "selected_figs": ["loss"], "copy_params": True,
            "compiler_configs": {"enable": False}, "if_quiet": False,
        },
    }  # fmt: skip


UNSUPPORTED = REFINED | {
    "init_params.probe_pmode_max",
    "loss_params.loss_sparse",
    *(
        f"constraint_params.{name}"
        for name in (
            "ortho_pmode", "fix_probe_int", "obj_rblur", "obj_zblur", "mirrored_amp",
            "obja_thresh", "objp_postiv",
        )
    ),
}  # fmt: skip


def named(found) -> set[str]:
    return {line.split(" ")[0].rstrip(":") for line in found.unsupported}


@pytest.mark.parametrize("version", ["0.1.0b13", "0.1.0b12"])
def test_the_layout_of_the_demo_file_of_the_beta_versions(tmp_path, version):
    """What is off or at its default is not complained about; everything else is, by name."""
    k = np.arange(16) - 8
    disk = (np.hypot(k[:, None], k[None, :]) < 5) * 100.0 - 1.0  # dark noise is below zero
    frames = np.broadcast_to(disk, (12, 16, 16)).astype("<f4")
    gap = np.zeros((12, 256), "<f4")
    raw = tmp_path / "scan_x4_y3.raw"
    raw.write_bytes(np.concatenate([frames.reshape(12, 256), gap], axis=1).tobytes())
    settings = beta_settings(raw.name)
    if version == "0.1.0b12":
        del settings["init_params"]["probe_aberrations"]
        settings["init_params"] |= {"probe_defocus": 0, "probe_c3": 0, "probe_c5": 0}
        settings["hypertune_params"] = {"if_hypertune": False, "n_trials": 5}
    path = tmp_path / "tBL_WSe2.yml"
    path.write_text(yaml.safe_dump(settings))
    found = open_plan(path)
    assert named(found) == UNSUPPORTED
    plan = found.plan
    assert (plan.method, plan.gradient.iterations, plan.baseline.batch) == ("gradient", 200, 32)
    assert (plan.object.thickness_A, plan.object.slice_thickness_A) == (12, 2)
    assert plan.baseline.learning_rate == 5e-4
    calibration = found.open().calibration
    assert calibration.values["defocus_A"] == 0
    assert calibration.values["detector_flip_y"] is True
    preprocess(found.open().calibrated(), plan.preprocessing).validate()


def test_settings_that_change_the_measurement_are_named(tmp_path):
    settings = beta_settings("scan.raw")
    settings["recon_params"]["INDICES_MODE"] = {"mode": "center", "subscan_slow": 2}
    settings["init_params"]["meas_pad"]["mode"] = "on_the_fly"
    settings["init_params"]["tilt_params"]["init_tilts"] = [[2.0, 0]]
    path = tmp_path / "params.yml"
    path.write_text(yaml.safe_dump(settings))
    assert named(open_plan(path)) - UNSUPPORTED == {
        "recon_params.INDICES_MODE",
        "init_params.meas_pad",
        "init_params.tilt_params",
    }
