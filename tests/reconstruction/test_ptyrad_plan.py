from __future__ import annotations

import numpy as np
import pytest
import yaml

from napari_mep.errors import DataError, PlanError
from napari_mep.reconstruction.ptyrad_plan import is_ptyrad_file, open_plan


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
        "model_params.update_params.probe",
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
    names = {line.split(" ")[0] for line in found.unsupported}
    assert names == {
        "init_params.probe_pmode_max",
        "loss_params.loss_sparse",
        "constraint_params.obj_zblur",
        "constraint_params.objp_postiv",
    }
    with pytest.raises(DataError, match=r"scan_x128_y128\.raw is not there"):
        found.open()
