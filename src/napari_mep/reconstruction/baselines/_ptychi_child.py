# LSQ-ML by Pty-Chi; run as a module in a process of its own.
# Odstrcil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108 (2018).
# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from napari_mep.reconstruction.baselines._child import (
    Report,
    Residual,
    main,
    mend_torchvision,
)
from napari_mep.reconstruction.baselines.job import Job

_METRE = 1e-10  # per angstrom


def run(job: Job, report: Report) -> None:
    """Reconstruct, one report an epoch."""
    mend_torchvision()
    if job.device != "cpu":
        import torch

        torch.cuda.set_device(job.device)  # Pty-Chi asks for "the GPU", without a number
    task = make_task(job)
    residual = Residual(task.dataset.valid_pixel_mask)
    tracker = task.reconstructor.loss_tracker
    loss = tracker.metric_function
    batches = count()

    def watched(model: Any, measured: Any) -> Any:
        residual.add(next(batches), model, measured)
        return loss(model, measured)

    tracker.metric_function = watched
    for iteration in range(1, job.iterations + 1):
        task.run(1)
        report(iteration, residual.take(), _phase(task))


def make_task(job: Job) -> Any:
    """Pty-Chi's task: metres, window centres relative to a point of the object, Nz - 1 spacings."""
    import ptychi.api as api
    from ptychi.api.task import PtychographyTask

    nz, ny, nx = job.object_shape
    window = job.probe.shape[0]
    options = api.LSQMLOptions()
    options.data_options.wavelength_m = job.wavelength_A * _METRE
    options.data_options.fft_shift = True  # zero frequency at K // 2

    specimen = options.object_options
    specimen.pixel_size_m = job.pixel_size_A * _METRE
    specimen.slice_spacings_m = [job.slice_thickness_A * _METRE] * (nz - 1) if nz > 1 else None
    specimen.step_size = job.learning_rate
    scheduler = job.options.get("scheduler")
    if scheduler is not None:
        specimen.optimization_plan.step_size_scheduler_class = scheduler["name"]
        specimen.optimization_plan.step_size_scheduler_options = scheduler["configs"]
    # Positions are centres of windows relative to a point of the object. With the centre of the
    # first window as that point they are corners, and are rounded to whole pixels as such.
    specimen.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    specimen.position_origin_coords = [(window - 1) / 2, (window - 1) / 2]
    # The probe is known, so nothing is to be shared out between probe and object.
    specimen.remove_object_probe_ambiguity.enabled = False
    limits = job.options.get("hard_limits")
    if limits is not None:
        specimen.hard_limits_magnitude_phase.enabled = True
        specimen.hard_limits_magnitude_phase.abs_lim = limits["abs_lim"]
        specimen.hard_limits_magnitude_phase.phase_lim = limits["phase_lim"]
    weight = job.options.get("multislice_regularization", 0.0)
    if weight and nz > 1:
        specimen.multislice_regularization.enabled = True
        specimen.multislice_regularization.weight = weight
        specimen.multislice_regularization.unwrap_phase = False

    options.probe_options.optimizable = False
    options.probe_options.orthogonalize_incoherent_modes.enabled = False
    options.probe_position_options.optimizable = False
    options.opr_mode_weight_options.optimizable = False

    solver = options.reconstructor_options
    solver.default_device = api.Devices.CPU if job.device == "cpu" else api.Devices.GPU
    solver.num_epochs = job.iterations
    if job.likelihood == "poisson":
        solver.noise_model = api.NoiseModels.POISSON
    solver.batch_size = job.batch
    solver.batching_mode = api.BatchingModes(job.options.get("batching_mode", "random"))
    solver.momentum_acceleration_gain = job.options.get("momentum", 0.0)
    solver.rescale_probe_intensity_in_first_epoch = False
    solver.allow_nondeterministic_algorithms = False
    solver.random_seed = job.seed

    # Its far field is an FFT without a factor: the sum over K x K pixels is K^2 too large.
    scale = 1.0 / window
    return PtychographyTask(
        options,
        diffraction_data=np.asarray(job.counts),
        object_data=np.ones((nz, ny, nx), np.complex64),
        probe_data=(np.asarray(job.probe) * scale)[None, None].astype(np.complex64),
        probe_position_x_px=np.array(job.corners_px[:, 1]),
        probe_position_y_px=np.array(job.corners_px[:, 0]),
        valid_pixel_mask=np.array(job.mask),
    )


def _phase(task: Any) -> np.ndarray:
    """Phase (z, y, x) in radians, between -pi and pi: Pty-Chi's object is a complex number."""
    return np.angle(task.get_data_to_cpu("object", as_numpy=True))


if __name__ == "__main__":
    main(run)
