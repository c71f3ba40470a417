"""The whole chain of calibration helpers, from raw patterns to a calibration file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event

import numpy as np
from numpy.typing import NDArray

from napari_mep.data._preprocessed import PreprocessedPatterns
from napari_mep.data.calibration import PartialCalibration
from napari_mep.data.dataset import DiffractionDataset, PatternArray
from napari_mep.data.estimate import (
    Estimate,
    check_scan_step,
    find_disk,
    find_drift,
    find_rotation,
    measure_dose,
)
from napari_mep.data.opened import OpenedPatterns
from napari_mep.data.preprocessing import PreprocessingPlan
from napari_mep.data.virtual import (
    VirtualDetector,
    integrate_centre_of_mass,
    read_part,
    scan_images,
)
from napari_mep.errors import DataError, MepError
from napari_mep.reconstruction._corrections import (
    at_scan_middle,
    clean_patterns,
    corrections,
    find_all_bad_pixels,
    known_bad_pixels,
    only_afterwards,
)
from napari_mep.reconstruction._measurements import MOST_POSITIONS, TOO_LARGE
from napari_mep.reconstruction.calibrate._result import Fix, Skipped
from napari_mep.reconstruction.calibrate._trials import Trials
from napari_mep.reconstruction.calibrate.focus import find_defocus, find_thickness
from napari_mep.reconstruction.calibrate.orientation import (
    find_orientation,
    find_turn,
    refine_rotation,
)

__all__ = ["fix"]

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with the steps done and in all, and what is being done."""

_STAGES = (
    "bad pixels",
    "bright-field disk",
    "descan drift",
    "virtual images",
    "scan rotation from the curl",
    "scan step",
    "orientation",
    "defocus",
    "scan rotation",
    "thickness",
    "defocus, finely",
    "scan rotation, finely",
)


def fix(
    opened: OpenedPatterns,
    *,
    lattice_A: Sequence[float] = (),
    vacuum: NDArray[np.floating] | None = None,
    counts_per_electron: float | None = None,
    device: str = "cpu",
    stop: Event | None = None,
    progress: Progress | None = None,
) -> Fix:
    """Measure on the patterns whatever can be measured, and say what cannot and why.

    Bad pixels, bright-field disk (mrad per pixel, or the semi-angle where only the detector step
    is known), descan drift, scan rotation from the curl of the centre of mass, scan step against a
    known lattice, dose; then, by quick reconstructions, orientation and rotation, defocus around
    the value given (its sign counts), and the thickness where nobody knows it. Energy, one of
    semi-angle and detector step, and the scan step must be known.

    Parameters
    ----------
    opened : OpenedPatterns
        The file; it is only read. Preprocessing that came with its calibration stays: background,
        gain, clipping, bad pixels and the part of the scan count in measuring, whatever resamples
        scan or detector only afterwards. Centre and drift are measured anew.
    lattice_A : sequence of floats
        Lattice spacings that the scan should show; without them the scan step is taken as given.
    vacuum : (ky, kx) ndarray, optional
        A pattern without specimen, from which the disk is measured instead.
    counts_per_electron : float, optional
        What one electron counts; with it the dose is measured even where one is given.
    device : str
        Where quick reconstructions run.
    stop : threading.Event, optional
        Ends it with `napari_mep.data.virtual.Stopped`.
    progress : callable, optional
        Told what is being done.

    Raises
    ------
    Stopped
        `stop` was set.
    DataError
        The patterns cannot be read or hold no bright-field disk at all.
    PlanError
        The preprocessing does not fit the patterns.
    DeviceError
        There is no such device.
    """
    chain = _Chain(
        opened, tuple(lattice_A), vacuum, counts_per_electron, device, stop or Event(), progress
    )
    return chain.run()


class _Chain:
    """The steps, each of which adds to what is known."""

    def __init__(
        self,
        opened: OpenedPatterns,
        lattice_A: tuple[float, ...],
        vacuum: NDArray[np.floating] | None,
        counts_per_electron: float | None,
        device: str,
        stop: Event,
        progress: Progress | None,
    ) -> None:
        from napari_mep.prior.device import resolve_device

        self.opened, self.lattice_A, self.vacuum = opened, lattice_A, vacuum
        self.counts_per_electron = counts_per_electron
        self.device = resolve_device(device)
        self.stop, self.progress = stop, progress
        self.known = opened.calibration
        self.given = dict(opened.calibration.values)
        self.estimates: list[Estimate] = []
        self.skipped: list[Skipped] = []
        self.bad: NDArray[np.bool_] | None = None
        self.plan = opened.calibration.preprocessing or PreprocessingPlan()

    def run(self) -> Fix:
        for name, reason in only_afterwards(self.plan).items():
            self._skip(name, reason)
        self._patterns_alone()
        self._with_physics()
        self._tell(len(_STAGES))
        return Fix(
            calibration=replace(self.known, preprocessing=None),
            estimates=tuple(self.estimates),
            skipped=tuple(self.skipped),
            # The mask holds what the plan's file marked, too.
            preprocessing=self.plan.replace(bad_pixels_file=None),
            bad=self.bad,
        )

    def _patterns_alone(self) -> None:
        opened = self.opened
        scan, ky, kx = opened.patterns.shape[:2], *(int(n) for n in opened.patterns.shape[2:])
        clean = clean_patterns(opened.patterns, self.plan, opened.name)
        self._tell(0)
        images = scan_images(clean, max_patterns=4096, stop=self.stop)
        pixels, self.bad = find_all_bad_pixels(images, known_bad_pixels(self.plan, (ky, kx)))
        self._keep(pixels)

        self._tell(1)
        semiangle = self.given.get("convergence_semiangle_mrad")
        mean = images.mean_pattern if self.vacuum is None else self.vacuum
        if mean.shape != images.mean_pattern.shape:
            raise DataError(
                f"vacuum pattern: shape {mean.shape}, expected that of the patterns, "
                f"{images.mean_pattern.shape}"
            )
        disk = find_disk(mean, bad=self.bad)

        self._tell(2)
        try:
            drift = find_drift(clean, radius_px=disk.radius_px, bad=self.bad, stop=self.stop)
        except DataError as err:
            self._skip("Descan drift", str(err))
            centre, descan = disk.centre_px, self.plan.descan_px
        else:
            self._keep(drift)
            centre, descan = drift.centre_px, drift.descan_px
        centre = at_scan_middle(centre, descan, self.plan, (int(scan[0]), int(scan[1])))
        self.plan = self.plan.replace(descan_px=descan, centre_px=centre)

        self._tell(3)
        view = self._view()
        ring = VirtualDetector("ADF", inner_px=1.1 * disk.radius_px)
        images = scan_images(view, [ring], max_patterns=MOST_POSITIONS, stop=self.stop)
        # Without the drift the edge is sharper; the centre is K // 2 now, so the index moves back.
        if self.vacuum is None:
            disk = find_disk(images.mean_pattern, semiangle_mrad=semiangle)
        else:
            disk = find_disk(mean, bad=self.bad, semiangle_mrad=semiangle)
        if semiangle is None:
            self._semiangle_from(disk.radius_px)
        self._keep(disk)

        self._tell(4)
        try:
            if images.every != (1, 1):
                raise DataError(TOO_LARGE)
            self._keep(replace(find_rotation(images.centre_of_mass), calibration={}))
        except DataError as err:
            self._skip("Scan rotation (curl)", str(err))

        self._tell(5)
        step = self.given.get("scan_step_A")
        if self.lattice_A and step is not None:
            self._check_step(images.virtual["ADF"], images.centre_of_mass, step)
        elif self.lattice_A:
            self._skip("Scan step", "give scan_step_A (A) to about 20 %")
        else:
            self._skip("Scan step", "no lattice spacings given to check it against")
        self._dose(clean, images.sums)

    def _semiangle_from(self, radius_px: float) -> None:
        """Known detector step, unknown semi-angle: the same ratio the other way round."""
        step_mrad = self.given.get("detector_step_mrad")
        energy = self.given.get("beam_energy_keV")
        if step_mrad is None and energy is not None and "detector_step_invA" in self.given:
            from napari_mep.physics.optics import wavelength_A

            step_mrad = self.given["detector_step_invA"] * float(wavelength_A(energy)) * 1e3
        if step_mrad is None:
            self._skip("mrad per pixel", "give convergence_semiangle_mrad (mrad)")
            return
        self._know({"convergence_semiangle_mrad": step_mrad * radius_px})

    def _check_step(
        self,
        dark_field: NDArray[np.float64],
        centre_of_mass: NDArray[np.float64],
        step: float | tuple[float, float],
    ) -> None:
        """The image that shows the lattice best: dark field, else the integrated deflection."""
        reasons = []
        for image in (dark_field, integrate_centre_of_mass(centre_of_mass)):
            try:
                self._keep(check_scan_step(image, step, self.lattice_A))
                return
            except DataError as err:
                reasons.append(str(err))
        self._skip("Scan step", reasons[0])

    def _dose(self, clean: PatternArray, sums: NDArray[np.float64]) -> None:
        if "dose_e_per_A2" in self.given and self.counts_per_electron is None:
            self._skip("Dose", "given")
            return
        row = int(clean.shape[0]) // 2
        sample = read_part(clean, row, np.arange(min(8, int(clean.shape[1]))))
        try:
            found = measure_dose(
                sums,
                sample,
                scan_step_A=self.known.values.get("scan_step_A"),
                counts_per_electron=self.counts_per_electron,
            )
            self._keep(found)
        except DataError as err:
            self._skip("Dose", str(err))

    def _with_physics(self) -> None:
        lacking = [*self.known.missing()]
        if "defocus_A" not in self.given:
            lacking.append("defocus_A, to about 30 % and with its sign")
        if lacking:
            for title in ("Orientation", "Defocus", "Scan rotation", "Thickness"):
                self._skip(title, f"give {', '.join(lacking)}")
            return
        try:
            dataset = self._dataset()
            self._tell(6)
            small = self._trials(dataset, 12, 16.0, oversampling=1)
            known_angle = "scan_rotation_deg" in self.given
            turn = find_orientation(small) if known_angle else find_turn(small)
            self._keep(turn)
            if not turn.calibration:
                for title in ("Defocus", "Scan rotation", "Thickness"):
                    self._skip(title, "the orientation is not known")
                return
            self._tell(7)
            self._keep(find_defocus(self._trials(dataset, 12, 8.0)))
            self._tell(8)
            self._keep(refine_rotation(self._trials(dataset, 12, 8.0), 10.0))
            self._tell(9)
            if "specimen_thickness_A" in self.given:
                self._skip("Thickness", "given")
            else:
                self._keep(find_thickness(self._trials(dataset, 12, 3.0)))
            # Both again, now that each is measured with the other one right.
            self._tell(10)
            self._keep(find_defocus(self._trials(dataset, 16, 6.5), 0.1))
            self._tell(11)
            # A larger part holds the angle better than more of anything else.
            self._keep(refine_rotation(self._trials(dataset, 20, 6.5), 2.0))
        except MepError as err:
            self._skip("Quick reconstructions", str(err))

    def _trials(
        self,
        dataset: DiffractionDataset,
        positions: int,
        slice_A: float,
        oversampling: int = 2,
    ) -> Trials:
        """Trials with what is known by now."""
        now = replace(dataset, calibration=self.known.complete(), mask=None)
        return Trials.of(
            now,
            positions=positions,
            slice_A=slice_A,
            oversampling=oversampling,
            device=self.device,
            stop=self.stop,
        )

    def _dataset(self) -> DiffractionDataset:
        """The corrected patterns; bad pixels are replaced, which quick trials can live with."""
        return DiffractionDataset(
            patterns=self._view(), calibration=self.known.complete(), name=self.opened.name
        )

    def _view(self) -> PreprocessedPatterns:
        plan = corrections(self.plan).replace(bad_pixels_file=None)
        return PreprocessedPatterns(self.opened.patterns, plan, self.opened.name, also_bad=self.bad)

    def _keep(self, estimate: Estimate) -> None:
        _log.info("%s: %s", estimate.title, estimate.summary)
        # The later estimate of the same thing replaces the earlier, rougher one.
        self.estimates = [e for e in self.estimates if e.title != estimate.title]
        self.estimates.append(estimate)
        self._know(dict(estimate.calibration))

    def _know(self, values: dict[str, object]) -> None:
        if values:
            self.known = self.known.merge(PartialCalibration.from_mapping(values, "fitted"))

    def _skip(self, title: str, reason: str) -> None:
        self.skipped.append(Skipped(title, reason))

    def _tell(self, stage: int) -> None:
        if self.progress is not None:
            what = _STAGES[stage] if stage < len(_STAGES) else "done"
            self.progress(stage, len(_STAGES), what)
