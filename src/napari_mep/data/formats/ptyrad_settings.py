"""PtyRAD's parameter files: what they say, and what of it has no counterpart here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_mep.data._store import one_line
from napari_mep.errors import DataError

__all__ = ["PtyradSettings", "read_settings"]

SECTIONS = (
    "init_params", "model_params", "loss_params", "constraint_params", "recon_params",
    "hypertune_params",
)  # fmt: skip

# Read by `ptyrad.open_params` and `ptyrad_plan.open_plan`.
_USED = {
    "init_params": {
        "random_seed", "probe_kv", "probe_conv_angle", "probe_aberrations", "probe_defocus",
        "probe_c3", "meas_Npix", "pos_N_scans", "pos_N_scan_slow", "pos_N_scan_fast",
        "pos_scan_step_size", "meas_calibration", "obj_Nlayer", "obj_slice_thickness",
        "meas_source", "meas_params", "meas_flipT", "pos_scan_affine",
    },
    "model_params": {"optimizer_params", "update_params"},
    "recon_params": {"NITER", "BATCH_SIZE"},
}  # fmt: skip

# They change how PtyRAD gets there or what it writes, not what is asked for. The scale of the
# patterns has no meaning for a model that is normalised to them.
_WITHOUT_EFFECT = {
    "init_params": {
        "probe_illum_type", "meas_normalization", "probe_normalization", "meas_export",
        "pos_scan_rand_std", "probe_pmode_init_pows", "obj_omode_init_occu", "pos_source",
        "probe_source", "obj_source", "tilt_source",
    },
    "model_params": {"preload_data"},
    "recon_params": {
        "SAVE_ITERS", "GROUP_MODE", "output_dir", "recon_dir_affixes", "prefix", "prefix_time",
        "postfix", "save_result", "result_modes", "selected_figs", "copy_params", "if_quiet",
        "compiler_configs", "convergence_monitor",
    },
}  # fmt: skip

# Values that ask for what is done here anyway.
_DEFAULTS = {
    "tilt_params": {"tilt_type": "all", "init_tilts": [[0, 0]]},
    "probe_illum_type": "electron", "probe_pmode_max": 1, "obj_omode_max": 1,
    "pos_source": "simu", "probe_source": "simu", "obj_source": "simu", "tilt_source": "simu",
}  # fmt: skip

# Modes of settings that ask for what is done here anyway; without a mode a setting is off.
_DEFAULT_MODES = {"INDICES_MODE": "full", "meas_remove_neg_values": "clip_neg"}

# What PtyRAD refines besides the phase unless the file says otherwise.
_REFINED = {key: {"start_iter": 1, "lr": 1e-4} for key in ("obja", "probe", "probe_pos_shifts")}

_WORDS = {
    "probe_pmode_max": "mixed probe modes are not modelled, one mode is used",
    "obj_omode_max": "mixed object modes are not modelled, one mode is used",
    "pos_scan_flipT": "the scan is not flipped; detector flips say the same",
    "meas_permute": "axes are read as scan_y, scan_x, ky, kx",
    "meas_reshape": "the scan shape is that of pos_N_scan_slow and pos_N_scan_fast",
    "meas_crop": "nothing is cut off; see scan_rows and others of preprocessing",
    "meas_pad": "patterns are not padded; see detector_pixels of preprocessing",
    "meas_remove_neg_values": "negative counts become zero",
    "INDICES_MODE": "the whole scan is used; see scan_rows, scan_columns of preprocessing",
    "tilt_params": "the specimen is not tilted",
    "meas_resample": "patterns are not resampled",
    "simu_Npix": "the wave window is set by object.wave_oversampling",
}

_SECTION_WORDS = {
    "constraint_params": "this constraint is not applied",
    "loss_params": "this term is not added to the loss",
}


@dataclass(frozen=True, slots=True)
class PtyradSettings:
    """A parameter file.

    Parameters
    ----------
    path : Path
        The file.
    sections : mapping
        Its sections (``init_params``, ...), each a mapping; missing ones are empty.
    """

    path: Path
    sections: Mapping[str, Mapping[str, Any]]

    def get(self, section: str, *keys: str, default: Any = None) -> Any:
        """A nested value, the default if it or something on the way is not there or null."""
        value: Any = self.sections[section]
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return default if value is None else value

    def number(self, section: str, *keys: str) -> float | None:
        """A nested number, None if it is not given.

        Raises
        ------
        DataError
            It is something else.
        """
        value = self.get(section, *keys)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            name = ".".join((section, *keys))
            raise DataError(f"{self.path}: {name} = {value!r}: must be a number") from None

    def whole(self, section: str, *keys: str) -> int | None:
        """A nested whole number, None if it is not given."""
        number = self.number(section, *keys)
        if number is not None and number != int(number):
            raise DataError(f"{self.path}: {'.'.join((section, *keys))} = {number:g}: not whole")
        return None if number is None else int(number)

    def unsupported(self) -> list[str]:
        """One line for each setting that is asked for and has no counterpart here."""
        lines = []
        for section in SECTIONS:
            for key, value in self.sections[section].items():
                if key in _USED.get(section, ()) or not _asked_for(section, key, value):
                    continue
                otherwise = _SECTION_WORDS.get(section, "not supported, ignored")
                words = _WORDS.get(key, otherwise)
                lines.append(f"{section}.{key} = {_shown(value)}: {words}")
        return lines + self._refinements() + self._aberrations() + self._affine()

    def _refinements(self) -> list[str]:
        """Everything but the phase stays as it is; PtyRAD optimises probe and positions too."""
        updates = _REFINED | dict(self.get("model_params", "update_params", default={}))
        return [
            f"model_params.update_params.{name}: stays as it is, only the phase is reconstructed"
            for name, update in updates.items()
            if name != "objp"
            and isinstance(update, Mapping)
            and update.get("start_iter") is not None
            and float(update.get("lr") or 0) > 0
        ]

    def _aberrations(self) -> list[str]:
        known = {"C10", "C1", "defocus", "C30", "C3", "Cs"}
        given = self.get("init_params", "probe_aberrations", default={})
        return [
            f"init_params.probe_aberrations.{name} = {value}: only defocus and Cs are modelled"
            for name, value in given.items()
            if name not in known and not str(name).startswith("phi") and float(value or 0) != 0
        ]

    def _affine(self) -> list[str]:
        affine = self.get("init_params", "pos_scan_affine", default=(1, 0, 0, 0))
        if len(affine) == 4 and float(affine[3]) != 0:
            return [f"init_params.pos_scan_affine: shear of {affine[3]} deg is not modelled"]
        return []


def read_settings(path: Path) -> PtyradSettings:
    """Read a YAML, TOML or JSON parameter file.

    Raises
    ------
    DataError
        Not readable, or no parameter file of PtyRAD 0.1.0b11 or later.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = _parsed(path.suffix.lower(), text)
    except (OSError, ValueError) as err:
        # TOML and JSON errors are ValueErrors, and so is bad UTF-8.
        raise DataError(f"{path}: not readable as parameters ({one_line(err)})") from None
    if not isinstance(values, Mapping) or not isinstance(values.get("init_params"), Mapping):
        raise DataError(f"{path}: no PtyRAD parameter file; it has no section init_params")
    if isinstance(values["init_params"].get("exp_params"), Mapping):
        raise DataError(
            f"{path}: written for a PtyRAD before 0.1.0b11; bring it up to date with PtyRAD first"
        )
    sections = {name: values.get(name) or {} for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise DataError(f"{path}: {name} is no section of keys and values")
    return PtyradSettings(path, sections)


def _parsed(suffix: str, text: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        return tomllib.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ValueError(one_line(err)) from None


def _asked_for(section: str, key: str, value: Any) -> bool:
    """Whether a setting does anything: null, zero, off and defaults do not."""
    if not value:
        return False
    if key in _DEFAULTS:
        return bool(value != _DEFAULTS[key])
    if key in _WITHOUT_EFFECT.get(section, ()):
        return False
    if isinstance(value, Mapping) and "mode" in value:
        return value["mode"] not in (None, _DEFAULT_MODES.get(key))
    if section == "constraint_params":
        return isinstance(value, Mapping) and value.get("start_iter") is not None
    if section == "loss_params":
        # The two data terms have a counterpart: amplitude and Poisson likelihood.
        if key == "loss_single":
            return isinstance(value, Mapping) and float(value.get("dp_pow", 0.5)) != 0.5
        off = not isinstance(value, Mapping) or value.get("state") is False
        return key != "loss_poissn" and not off
    if section == "hypertune_params":
        return key == "if_hypertune" and bool(value)
    return True


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
