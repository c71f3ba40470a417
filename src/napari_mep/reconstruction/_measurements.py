"""What each calibration helper does: composition of the estimates, one function a helper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._preprocessed import PreprocessedPatterns
from napari_mep.data.dataset import DiffractionDataset, PatternArray
from napari_mep.data.estimate import (
    Estimate,
    canonical_orientation,
    check_scan_step,
    find_disk,
    find_drift,
    find_rotation,
    measure_dose,
)
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.data.virtual import (
    Progress,
    VirtualDetector,
    integrate_centre_of_mass,
    read_part,
    scan_images,
)
from napari_mep.errors import DataError
from napari_mep.reconstruction._corrections import (
    at_scan_middle,
    clean_patterns,
    corrections,
    find_all_bad_pixels,
    known_bad_pixels,
)

if TYPE_CHECKING:
    from napari_mep.reconstruction.calibrate import Trials

__all__ = [
    "Proposal",
    "Request",
    "bad_pixels",
    "defocus",
    "disk",
    "dose",
    "drift",
    "fine_rotation",
    "orientation",
    "rotation",
    "step",
    "thickness",
    "vacuum",
]

_LOOK = 4096  # patterns that show disk and bad pixels
MOST_POSITIONS = 1 << 18  # of an image of the whole scan

TOO_LARGE = (
    f"scan rotation: the curl needs every position, and {MOST_POSITIONS} at most; keep a part of "
    "the scan with scan_rows and scan_columns of preprocessing"
)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a helper works on.

    Parameters
    ----------
    opened : OpenedPatterns
        Patterns with the calibration and the preprocessing that count now.
    lattice_A : sequence of floats
        Spacings to check the scan step against, angstrom.
    vacuum : (ky, kx) ndarray or None
        A pattern without specimen, oriented as stored.
    counts_per_electron : float or None
        What one electron counts, where the patterns are not in electrons.
    device : str
        Where quick reconstructions run.
    stop : threading.Event
        Ends it with `napari_mep.data.virtual.Stopped`.
    progress : callable or None
        Told what is done, and of how much.
    """

    opened: OpenedPatterns
    lattice_A: Sequence[float] = ()
    vacuum: NDArray[np.floating] | None = None
    counts_per_electron: float | None = None
    device: str = "cpu"
    stop: Event = field(default_factory=Event)
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a helper would change.

    Parameters
    ----------
    estimate : Estimate
        Summary and proof.
    calibration : mapping
        Values by key of the calibration file; empty where the helper is not sure.
    preprocessing : mapping
        Fields of `PreprocessingPlan`.
    bad : (ky, kx) bool ndarray or None
        Bad pixels as stored, which need a file before they can be part of a plan.
    """

    estimate: Estimate
    calibration: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    bad: NDArray[np.bool_] | None = None


def _plan(request: Request) -> PreprocessingPlan:
    return corrections(request.opened.calibration.preprocessing)


def _clean(request: Request) -> PatternArray:
    opened = request.opened
    return clean_patterns(opened.patterns, opened.calibration.preprocessing, opened.name)


def _known_bad(request: Request) -> NDArray[np.bool_] | None:
    ky, kx = (int(n) for n in request.opened.patterns.shape[2:])
    return known_bad_pixels(request.opened.calibration.preprocessing, (ky, kx))


def _bad(request: Request) -> NDArray[np.bool_] | None:
    """Pixels that no measurement should see: those of the plan, or else those that stand out."""
    if _plan(request).bad_pixels_file is not None:
        return _known_bad(request)
    images = scan_images(_clean(request), max_patterns=_LOOK, stop=request.stop)
    return find_all_bad_pixels(images, None)[1]


def _corrected(request: Request) -> PreprocessedPatterns:
    return PreprocessedPatterns(
        request.opened.patterns, _plan(request), request.opened.name, also_bad=_bad(request)
    )


def bad_pixels(request: Request) -> Proposal:
    """Hot and dead pixels of the mean pattern, together with those that are known."""
    images = scan_images(
        _clean(request), max_patterns=_LOOK, stop=request.stop, progress=request.progress
    )
    found, bad = find_all_bad_pixels(images, _known_bad(request))
    return Proposal(found, bad=bad)


def disk(request: Request) -> Proposal:
    """The bright-field disk of the corrected patterns, or of a vacuum pattern."""
    values = request.opened.calibration.values
    semiangle = values.get("convergence_semiangle_mrad")
    shape = np.array([int(n) for n in request.opened.patterns.shape[2:]])
    if request.vacuum is not None:
        found = find_disk(request.vacuum, bad=_bad(request), semiangle_mrad=semiangle)
        centre = found.centre_px
    else:
        plan = _plan(request)
        images = scan_images(
            _corrected(request), max_patterns=_LOOK, stop=request.stop, progress=request.progress
        )
        found = find_disk(images.mean_pattern, semiangle_mrad=semiangle)
        # The corrected patterns have been moved already; what is found is what is left.
        home = shape // 2
        before = home if plan.centre_px is None else np.array(plan.centre_px)
        y, x = before + np.array(found.centre_px) - home
        centre = (float(y), float(x))
    calibration = dict(found.calibration)
    step_mrad = values.get("detector_step_mrad")
    energy = values.get("beam_energy_keV")
    if semiangle is None and step_mrad is None and energy and "detector_step_invA" in values:
        from napari_mep.physics.optics import wavelength_A

        step_mrad = values["detector_step_invA"] * float(wavelength_A(energy)) * 1e3
    if semiangle is None and step_mrad is not None:
        calibration["convergence_semiangle_mrad"] = step_mrad * found.radius_px
    return Proposal(found, calibration, {"centre_px": centre})


def vacuum(request: Request) -> Proposal:
    """The disk of a pattern without specimen."""
    if request.vacuum is None:
        raise DataError("vacuum pattern: choose a pattern or scan without specimen")
    shape = tuple(int(n) for n in request.opened.patterns.shape[2:])
    if request.vacuum.shape != shape:
        raise DataError(
            f"vacuum pattern: shape {request.vacuum.shape}, expected that of the patterns, {shape}"
        )
    proposal = disk(request)
    return replace(proposal, estimate=replace(proposal.estimate, title="Disk of the vacuum probe"))


def drift(request: Request) -> Proposal:
    """How the disk wanders during the scan."""
    patterns, bad = _clean(request), _bad(request)
    mean = scan_images(patterns, max_patterns=_LOOK, stop=request.stop).mean_pattern
    found = find_drift(
        patterns,
        radius_px=find_disk(mean, bad=bad).radius_px,
        bad=bad,
        stop=request.stop,
        progress=request.progress,
    )
    rows, columns = (int(n) for n in request.opened.patterns.shape[:2])
    centre = at_scan_middle(found.centre_px, found.descan_px, _plan(request), (rows, columns))
    return Proposal(found, preprocessing={"descan_px": found.descan_px, "centre_px": centre})


def rotation(request: Request) -> Proposal:
    """Rotation and transposition from the curl, up to a half turn."""
    images = scan_images(
        _corrected(request),
        max_patterns=MOST_POSITIONS,
        stop=request.stop,
        progress=request.progress,
    )
    if images.every != (1, 1):
        raise DataError(TOO_LARGE)
    found = find_rotation(images.centre_of_mass)
    turned, (transpose, flip_y, flip_x) = canonical_orientation(
        found.rotation_deg, (found.transpose, False, False)
    )
    return Proposal(
        replace(found, uncertainty={"scan_rotation_deg": found.error_deg}),
        {
            "scan_rotation_deg": turned,
            "detector_transpose": transpose,
            "detector_flip_y": flip_y,
            "detector_flip_x": flip_x,
        },
    )


def step(request: Request) -> Proposal:
    """Scan step against known spacings."""
    view, step = _corrected(request), request.opened.calibration.values["scan_step_A"]
    mean = scan_images(view, max_patterns=_LOOK, stop=request.stop).mean_pattern
    ring = VirtualDetector("ADF", inner_px=1.1 * find_disk(mean).radius_px)
    images = scan_images(
        view, [ring], max_patterns=MOST_POSITIONS, stop=request.stop, progress=request.progress
    )
    step_yx = step if isinstance(step, tuple) else (step, step)
    read = tuple(s * e for s, e in zip(step_yx, images.every, strict=True))
    reasons = []
    for image in (images.virtual["ADF"], integrate_centre_of_mass(images.centre_of_mass)):
        try:
            found = check_scan_step(image, (read[0], read[1]), request.lattice_A)
        except DataError as err:
            reasons.append(str(err))
            continue
        # By one factor: what was read every n-th row is n steps apart.
        corrected: Any = tuple(s * found.ratio for s in step_yx)
        if not isinstance(step, tuple):
            corrected = corrected[0]
        return Proposal(found, {"scan_step_A": corrected} if found.calibration else {})
    raise DataError(reasons[0])


def dose(request: Request) -> Proposal:
    """Electrons, from the counts."""
    raw = _clean(request)
    images = scan_images(
        raw, bad=_bad(request), max_patterns=_LOOK, stop=request.stop, progress=request.progress
    )
    sample = read_part(raw, int(raw.shape[0]) // 2, np.arange(min(8, int(raw.shape[1]))))
    found = measure_dose(
        images.sums,
        sample,
        scan_step_A=request.opened.calibration.values.get("scan_step_A"),
        counts_per_electron=request.counts_per_electron,
    )
    return Proposal(found, found.calibration)


def _trials(request: Request, positions: int, slice_A: float, oversampling: int = 2) -> Trials:
    from napari_mep.prior.device import resolve_device
    from napari_mep.reconstruction.calibrate import Trials

    dataset = DiffractionDataset(
        patterns=_corrected(request),
        calibration=request.opened.calibration.complete(),
        name=request.opened.name,
    )
    return Trials.of(
        dataset,
        positions=positions,
        slice_A=slice_A,
        oversampling=oversampling,
        device=resolve_device(request.device),
        stop=request.stop,
    )


def orientation(request: Request) -> Proposal:
    """Orientation at a known rotation, or both."""
    from napari_mep.reconstruction.calibrate import find_orientation, find_turn

    known = "scan_rotation_deg" in request.opened.calibration.values
    trials = _trials(request, 12, 16.0, oversampling=1)
    find: Callable[[Trials, Progress | None], Estimate] = find_orientation if known else find_turn
    found = find(trials, request.progress)
    return Proposal(found, found.calibration)


def fine_rotation(request: Request) -> Proposal:
    """Rotation within six degrees."""
    from napari_mep.reconstruction.calibrate import refine_rotation

    found = refine_rotation(_trials(request, 16, 6.5), 6.0, request.progress)
    return Proposal(found, found.calibration)


def defocus(request: Request) -> Proposal:
    """Defocus within 30 %."""
    from napari_mep.reconstruction.calibrate import find_defocus

    found = find_defocus(_trials(request, 12, 8.0), progress=request.progress)
    return Proposal(found, found.calibration)


def thickness(request: Request) -> Proposal:
    """Thickness, a hint."""
    from napari_mep.reconstruction.calibrate import find_thickness

    found = find_thickness(_trials(request, 12, 3.0), progress=request.progress)
    return Proposal(found, found.calibration)
