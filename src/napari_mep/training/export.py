"""From a checkpoint to weights that can be shipped: the EMA, and a card filled in by the run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safetensors import SafetensorError

from napari_mep.errors import ExportError
from napari_mep.prior.files import ModelCard, save_prior
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.settings import TrainingSettings

__all__ = ["export_prior"]


def export_prior(
    run_dir: str | Path, target: str | Path, *, licence: str = "GPL-3.0-or-later"
) -> ModelCard:
    """Write the EMA weights of a run as `target` (.safetensors) with its card; both or none.

    Raises
    ------
    ExportError
        If they cannot be written.
    WeightsError
        If the run has no readable checkpoint.
    """
    tensors, state = read_checkpoint(Path(run_dir))
    settings = TrainingSettings.from_dict(state["settings"])
    weights = {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
    card = ModelCard(
        name=Path(target).stem,
        architecture=settings.architecture.to_dict(),
        scale_per_rad=state["scale"],
        voxel_size_A=settings.voxel_size_A,
        tile_shape=settings.tile_shape,
        logsnr_range=(settings.logsnr_low, settings.logsnr_high),
        energy_keV=settings.energy_keV,
        trained_volumes=state["volumes"],
        loss_curve={"edges": state["loss_curve_edges"], "v_loss": state["loss_curve"]},
        training_data=state["sources"],
        settings=settings.to_dict() | {"precision": state.get("precision", settings.precision)},
        licence=licence,
    )
    target = Path(target)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".prior-") as folder:
            new = Path(folder) / target.name
            card = save_prior(new, weights, card)
            new.replace(target)
            new.with_suffix(".json").replace(target.with_suffix(".json"))
    except (OSError, SafetensorError) as err:
        reason = getattr(err, "strerror", None) or " ".join(str(err).split())
        raise ExportError(f"output {target}: cannot be written ({reason})") from None
    return card
