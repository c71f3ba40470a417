# Adam and L-BFGS by PtyRAD; run as a module in a process of its own.
# Lee et al., "PtyRAD", arXiv 2505.07814.
# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import importlib.util
import logging
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from napari_mep.reconstruction.baselines._child import (
    Report,
    Residual,
    main,
    mend_torchvision,
)
from napari_mep.reconstruction.baselines.job import Job

_OPTIMIZERS = {"ptyrad-adam": "Adam", "ptyrad-lbfgs": "LBFGS"}
_FIXED = {"start_iter": None, "lr": 0.0}


def run(job: Job, report: Report) -> None:
    """Reconstruct, one report an iteration.

    PtyRAD's own loop has no place for a callback and draws figures, so its steps are called here
    in the order in which that loop calls them.
    """
    mend_torchvision()
    mend_plotting()
    logging.getLogger("ptyrad").setLevel(logging.WARNING)

    import torch
    from ptyrad.solver.reconstruction import (
        compute_loss,
        create_optimizer,
        create_scheduler,
        make_batches,
        recon_step,
        toggle_grad_requires,
    )

    solver, model = make_model(job)
    optimizer = create_optimizer(model.optimizer_params, model.optimizable_params)
    scheduler = create_scheduler(job.options.get("scheduler"), optimizer)
    positions = (model.crop_pos + model.opt_probe_pos_shifts).detach().cpu().numpy()
    batches = [
        torch.from_numpy(batch).to(job.device)
        for batch in make_batches(
            np.arange(len(positions)), positions, job.batch, mode="random", seed=job.seed
        )
    ]
    mask = torch.from_numpy(np.array(job.mask)).to(job.device)
    whole = bool(mask.all())
    residual = Residual(mask)

    def watched_loss(batch: Any, net: Any, instance: Any, measured: Any, loss: Any) -> Any:
        def masked(patterns: Any, data: Any, *others: Any) -> Any:
            residual.add(int(batch[0]), patterns, data)
            if not whole:
                # Pixels that were not measured are made equal, where the loss has no slope.
                dark = torch.full_like(patterns, 1e-10)
                patterns, data = (torch.where(mask, x, dark) for x in (patterns, data))
            return loss(patterns, data, *others)

        return compute_loss(batch, net, instance, measured, masked)

    for iteration in range(1, job.iterations + 1):
        toggle_grad_requires(model, iteration)
        recon_step(
            batches,
            _accumulated(job),
            model,
            optimizer,
            scheduler,
            solver.loss_fn,
            solver.constraint_fn,
            iteration,
            compute_loss_fn=watched_loss,
        )
        phase = model.opt_objp.detach().cpu().numpy()[0]
        report(iteration, residual.take(), phase)


def make_model(job: Job) -> tuple[Any, Any]:
    """PtyRAD's solver (loss, constraints) and model, the object vacuum."""
    from ptyrad.core import PtychoModel
    from ptyrad.params.ptyrad_params import PtyRADParams
    from ptyrad.solver import PtyRADSolver

    # PtyRAD normalises patterns to a mean maximum of about one; its small constants expect that.
    unit = float(np.mean(job.counts, axis=0, dtype=np.float64).max()) or 1.0
    probe = _onto_resampled_detector(np.asarray(job.probe), job.counts.shape[-1]) / np.sqrt(unit)
    params = PtyRADParams(**_params(job, unit, probe)).model_dump()
    solver = PtyRADSolver(params, device=job.device, seed=job.seed)
    # PtyRAD scales any probe to the mean sum of the patterns, which a mask makes too small.
    solver.init.init_variables["probe"] = probe[None].astype(np.complex64)
    model = PtychoModel(solver.init.init_variables, params["model_params"], device=job.device)
    return solver, model


def _onto_resampled_detector(probe: np.ndarray, detector: int) -> np.ndarray:
    """Tilt a probe of twice the detector's window so that its pattern lies on PtyRAD's pixels.

    PtyRAD resamples a pattern by adding samples 2 j and 2 j + 1, whose middle lies half a sample
    beside the zero frequency of pixel j. A tilt of that half sample, a quarter of a detector pixel,
    puts it back; within the specimen it moves the beam by wavelength * detector step / 4, which is
    0.0004 A per A for 300 keV and 0.078 1/A.
    """
    window = probe.shape[0]
    if window == detector:
        return probe
    ramp = np.exp(1j * np.pi / window * (np.arange(window) - window // 2))
    return probe * ramp[:, None] * ramp[None, :]


def _params(job: Job, unit: float, probe: np.ndarray) -> dict[str, Any]:
    """PtyRAD's own settings: angstrom, mrad, keV, corners of windows, everything in memory."""
    name = _OPTIMIZERS[job.method]
    window, detector, n = probe.shape[0], job.counts.shape[-1], len(job.counts)
    geometry = {"simu_Npix": window, "simu_match_mode": "resample"} if window != detector else {}
    return {
        "init_params": {
            "probe_kv": job.energy_keV,
            "probe_conv_angle": job.semiangle_mrad,
            "probe_aberrations": {},
            "probe_pmode_max": 1,
            "meas_Npix": detector,
            "pos_N_scan_slow": n,
            "pos_N_scan_fast": 1,
            "pos_N_scans": n,
            "pos_scan_step_size": job.pixel_size_A,  # positions are given, this is not used
            "meas_calibration": {"mode": "dx", "value": job.pixel_size_A},
            "obj_Nlayer": job.object_shape[0],
            "obj_slice_thickness": job.slice_thickness_A,
            "meas_normalization": {"mode": "divide_const", "value": unit},
            "pos_scan_rand_std": None,  # positions are jittered unless told otherwise
            "meas_source": "custom",
            "meas_params": np.array(job.counts),
            "pos_source": "custom",
            "pos_params": np.array(job.corners_px),
            "probe_source": "custom",
            "probe_params": probe[None].astype(np.complex64),
            "obj_source": "custom",
            "obj_params": np.ones((1, *job.object_shape), np.complex64),
            **geometry,
        },
        "model_params": {
            "optimizer_params": {
                "name": name,
                "configs": dict(job.options.get("optimizer", {})),
                "load_state": None,
            },
            "update_params": {
                "obja": _FIXED,  # a pure phase object, as everywhere in this project
                "objp": {"start_iter": 1, "lr": job.learning_rate},
                "obj_tilts": _FIXED,
                "slice_thickness": _FIXED,
                "probe": _FIXED,
                "probe_pos_shifts": _FIXED,
            },
        },
        "loss_params": {
            "loss_single": {"state": job.likelihood == "amplitude", "weight": 1.0, "dp_pow": 0.5},
            "loss_poissn": {"state": job.likelihood == "poisson", "weight": 1.0},
            **job.options.get("loss", {}),
        },
        "constraint_params": {
            # There is one probe and it is known; positions too.
            "ortho_pmode": {"start_iter": None},
            "fix_probe_int": {"start_iter": None},
            "pos_recenter": {"start_iter": None},
            **job.options.get("constraints", {}),
        },
        "recon_params": {
            "NITER": job.iterations,
            "SAVE_ITERS": None,
            "GROUP_MODE": "random",
            "BATCH_SIZE": {"size": job.batch, "grad_accumulation": _accumulated(job)},
        },
    }


def _accumulated(job: Job) -> int:
    """Mini-batches whose gradients are added up for one step; "all" stands for the whole scan."""
    wanted = job.options.get("grad_accumulation", 1)
    return math.ceil(len(job.counts) / job.batch) if wanted == "all" else int(wanted)


def mend_plotting() -> None:
    """Let PtyRAD 1.0.0 be imported by Python 3.11.

    One of its files has an f-string that only Python 3.12 understands. The file is compiled from
    mended text, in this process; on disk nothing changes.
    """
    import ptyrad

    if sys.version_info >= (3, 12) or ptyrad.__version__ != "1.0.0":
        return
    path = Path(ptyrad.__file__).parent / "plotting" / "basic.py"
    text = path.read_text(encoding="utf-8")
    mended = text.replace("lr_iters['niter'][-1]}'", 'lr_iters["niter"][-1]}\'')
    package = types.ModuleType("ptyrad.plotting")
    package.__path__ = [str(path.parent)]
    sys.modules["ptyrad.plotting"] = package  # its own __init__ would import the file as it is
    spec = importlib.util.spec_from_loader("ptyrad.plotting.basic", loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    exec(compile(mended, str(path), "exec"), module.__dict__)
    sys.modules["ptyrad.plotting.basic"] = module


if __name__ == "__main__":
    main(run)
