"""Each calibration helper on its own: from what is known by now to a proposal with its proof.

The chain in `napari_mep.reconstruction.calibrate.fix` runs them in the order in which they build
on each other; here somebody looks at each result before it counts. Importing this loads no torch:
only a helper that reconstructs does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from napari_mep.data.opened import OpenedPatterns
from napari_mep.errors import CalibrationError
from napari_mep.reconstruction import _measurements as measurements
from napari_mep.reconstruction._measurements import Proposal, Request

__all__ = ["HELPERS", "Helper", "Proposal", "Request", "measure"]

_TRIAL_NEEDS = (
    "beam_energy_keV",
    "convergence_semiangle_mrad",
    "scan_step_A",
    "detector_step_invA",
    "defocus_A",
)


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper, as it is offered.

    Parameters
    ----------
    title : str
        For a button.
    help : str
        What it does, one or two sentences.
    needs : tuple of str
        Calibration keys without which it cannot work.
    run : callable
        Makes the proposal.
    """

    title: str
    help: str
    needs: tuple[str, ...]
    run: Callable[[Request], Proposal]

    def lacks(self, opened: OpenedPatterns) -> str:
        """Why it cannot work yet, one line; empty if it can."""
        known = set(opened.calibration.values)
        if "detector_step_mrad" in known:
            known.add("detector_step_invA")
        missing = [name for name in self.needs if name not in known]
        return f"give {', '.join(missing)} first" if missing else ""


def measure(name: str, request: Request) -> Proposal:
    """Run one helper.

    Parameters
    ----------
    name : str
        A key of `HELPERS`.
    request : Request
        What it works on.

    Raises
    ------
    Stopped
        The stop event was set.
    CalibrationError
        Values are missing that the helper needs.
    DataError
        The patterns cannot be read, or do not show what is looked for.
    DeviceError
        There is no such device.
    """
    helper = HELPERS[name]
    lacks = helper.lacks(request.opened)
    if lacks:
        raise CalibrationError(f"{helper.title}: {lacks}")
    return helper.run(request)


HELPERS: Mapping[str, Helper] = MappingProxyType(
    {
        "bad_pixels": Helper(
            "Bad pixels",
            "Hot and dead pixels of the detector, from the mean pattern.",
            (),
            measurements.bad_pixels,
        ),
        "disk": Helper(
            "Bright-field disk",
            "Centre and radius of the disk; with the semi-angle mrad per pixel, with the detector "
            "step the semi-angle.",
            (),
            measurements.disk,
        ),
        "vacuum": Helper(
            "Vacuum probe…",
            "The same from a pattern or scan without specimen.",
            (),
            measurements.vacuum,
        ),
        "drift": Helper(
            "Descan drift",
            "How the disk wanders over the detector during the scan.",
            (),
            measurements.drift,
        ),
        "rotation": Helper(
            "Rotation (curl)",
            "Scan rotation and transposition that take the curl out of the centre of mass; up to a "
            "half turn, which Orientation settles.",
            (),
            measurements.rotation,
        ),
        "step": Helper(
            "Scan step",
            "Lattice peaks of a virtual image against the spacings entered.",
            ("scan_step_A",),
            measurements.step,
        ),
        "dose": Helper(
            "Dose", "Electrons per pattern and per Å², from the counts.", (), measurements.dose
        ),
        "orientation": Helper(
            "Orientation",
            "Eight orientations of the detector in quick reconstructions; all rotations where none "
            "is known.",
            _TRIAL_NEEDS,
            measurements.orientation,
        ),
        "fine_rotation": Helper(
            "Rotation (fine)",
            "Quick reconstructions within 6 degrees of the rotation.",
            (*_TRIAL_NEEDS, "scan_rotation_deg"),
            measurements.fine_rotation,
        ),
        "defocus": Helper(
            "Defocus",
            "Quick reconstructions within 30 % of the defocus; its sign is taken as given.",
            _TRIAL_NEEDS,
            measurements.defocus,
        ),
        "thickness": Helper(
            "Thickness",
            "Quick reconstructions from 4 to 50 Å. A hint: thin specimens cannot be told apart.",
            _TRIAL_NEEDS,
            measurements.thickness,
        ),
    }
)
"""All helpers by name, in the order in which they are best used."""
