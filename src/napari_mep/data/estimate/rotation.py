"""Scan rotation and handedness of the detector from the curl of the centre of mass.

The centre of mass is the gradient of a potential, so in the right axes it has no curl. Two things
it cannot tell: a turn by 180 degrees, which changes the sign of the field (and a defocused probe
reverses the contrast, so the sign means nothing), and, for a specimen whose lattice is mirrored
onto itself, whether the detector is mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_mep.data.estimate._estimate import Curve, Estimate, Picture
from napari_mep.data.estimate.orientation import canonical_orientation, describe_orientation
from napari_mep.data.virtual import integrate_centre_of_mass
from napari_mep.errors import DataError

__all__ = ["RotationEstimate", "find_rotation"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RotationEstimate(Estimate):
    """The turn of the scan, known up to 180 degrees.

    Parameters
    ----------
    rotation_deg : float
        Scan rotation in (-90, 90] for the better handedness; sign as in `physics.scan`.
    transpose : bool
        Whether the detector must be transposed.
    coherence : tuple of 2 floats
        How much of the field is a gradient, 0 to 1, without and with transposition.
    rotations_deg : tuple of 2 floats
        Best rotation without and with transposition.
    error_deg : float
        One standard deviation of `rotation_deg`.
    """

    rotation_deg: float
    transpose: bool
    coherence: tuple[float, float]
    rotations_deg: tuple[float, float]
    error_deg: float


def find_rotation(centre_of_mass: NDArray[np.floating]) -> RotationEstimate:
    """The rotation that takes the curl out of the centre of mass, with and without transposition.

    In Fourier space, with a the part of the field along q and b the one across it, a turn by r
    makes (a, b) = (cos r, sin r) g, so r = arg(sum (a + i b)(a* + i b*)) / 2 in closed form.
    Frequencies count by how much they stand out of the noise.

    Parameters
    ----------
    centre_of_mass : (rows, columns, 2) ndarray
        (ky, kx) as stored, from `scan_images`; a plane (descan drift) is taken out.

    Raises
    ------
    DataError
        Fewer than 8 x 8 positions, or no field at all.
    """
    rows, columns, _ = centre_of_mass.shape
    if min(rows, columns) < 8:
        raise DataError(
            f"scan rotation: {rows} x {columns} positions are too few for the centre of mass; "
            "8 x 8 are needed"
        )
    moved = _without_plane(np.asarray(centre_of_mass, dtype=np.float64))
    if not np.abs(moved).max() > 0:
        raise DataError("scan rotation: the centre of mass does not move; is there a specimen?")
    found = [_best_turn(moved if not swap else moved[..., ::-1]) for swap in (False, True)]
    transpose = bool(found[1][1] > found[0][1])
    rotation, _, error, _ = found[transpose]
    angles = np.arange(-90.0, 90.5, 1.0)
    curls = [_curl(angles, powers) for *_, powers in found]
    field = moved[..., ::-1] if transpose else moved
    turned, flags = canonical_orientation(rotation, (transpose, False, False))
    sure = "" if abs(found[0][1] - found[1][1]) > 0.15 else "; handedness not certain from this"
    straight = turn_back(field, rotation)
    return RotationEstimate(
        title="Scan rotation (curl)",
        summary=(
            f"{turned:.1f} ± {error:.1f} deg, {describe_orientation(flags)}, "
            f"up to a half turn{sure}"
        ),
        proof=(
            Curve(
                angles,
                curls[0],
                "scan rotation (deg)",
                "curl, relative to the whole field",
                "curl of the centre of mass",
                best=rotation,
                others={"transposed": curls[1]},
                name="as stored",
            ),
            Picture(integrate_centre_of_mass(straight), "integrated centre of mass (iCoM)"),
        ),
        rotation_deg=rotation,
        transpose=transpose,
        coherence=(found[0][1], found[1][1]),
        rotations_deg=(found[0][0], found[1][0]),
        error_deg=error,
    )


def turn_back(field_yx: NDArray[np.float64], rotation_deg: float) -> NDArray[np.float64]:
    """A field on detector axes in the axes of the scan: components (slow, fast)."""
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    y, x = field_yx[..., 0], field_yx[..., 1]
    return np.stack((cos * y + sin * x, cos * x - sin * y), axis=-1)


def _without_plane(field_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns, _ = field_yx.shape
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    design = np.column_stack((np.ones(y.size), y.ravel(), x.ravel()))
    flat = field_yx.reshape(-1, 2)
    plane, *_ = np.linalg.lstsq(design, flat, rcond=None)
    return np.asarray((flat - design @ plane).reshape(field_yx.shape))


_Powers = tuple[float, float, float]


def _best_turn(field_yx: NDArray[np.float64]) -> tuple[float, float, float, _Powers]:
    """Rotation in degrees, coherence, its standard error, and the sums |a|^2, |b|^2, Re a b*."""
    rows, columns, _ = field_yx.shape
    window = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[None, 1:-1]
    spectrum = np.fft.fft2(field_yx * window[..., None], axes=(0, 1))
    qy, qx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    q = np.hypot(qy, qx)
    q[0, 0] = 1.0
    along = (qy * spectrum[..., 0] + qx * spectrum[..., 1]) / q
    across = (qy * spectrum[..., 1] - qx * spectrum[..., 0]) / q
    power = np.abs(along) ** 2 + np.abs(across) ** 2
    power[0, 0] = 0.0
    noise = float(np.median(power[q > 0.3]))
    weight = np.clip(1 - 2 * noise / np.maximum(power, 1e-300), 0, None)
    aa = float((weight * np.abs(along) ** 2).sum())
    bb = float((weight * np.abs(across) ** 2).sum())
    ab = float((weight * (along * across.conj()).real).sum())
    turn = math.atan2(2 * ab, aa - bb) / 2
    strength = math.hypot(aa - bb, 2 * ab)
    whole = max(aa + bb, 1e-300)
    # What is across after turning back is noise; it moves the angle as far as it meets the field.
    rest = across * math.cos(turn) - along * math.sin(turn)
    main = along * math.cos(turn) + across * math.sin(turn)
    wobble = float((weight**2 * np.abs(rest) ** 2 * np.abs(main) ** 2).sum())
    error = math.sqrt(2 * wobble) / max(strength, 1e-300)
    return math.degrees(turn), strength / whole, math.degrees(error), (aa, bb, ab)


def _curl(angles_deg: NDArray[np.float64], powers: _Powers) -> NDArray[np.float64]:
    aa, bb, ab = powers
    cos, sin = np.cos(np.radians(angles_deg)), np.sin(np.radians(angles_deg))
    curl = bb * cos**2 + aa * sin**2 - 2 * ab * sin * cos
    return np.asarray(np.sqrt(np.clip(curl, 0, None) / max(aa + bb, 1e-300)))
