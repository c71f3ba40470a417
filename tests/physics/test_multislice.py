"""The forward model: what must hold for any specimen, and agreement with abTEM."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from napari_mep.physics.detector import bin_intensities
from napari_mep.physics.multislice import MultisliceModel
from napari_mep.physics.optics import interaction_constant
from napari_mep.physics.probe import Aberrations, probe_fourier, probe_from_array
from napari_mep.physics.scan import raster_positions_A

ENERGY_KEV = 300.0
PIXEL_A = 0.2


def _model(
    detector=(24, 20),
    s=1,
    defocus_A=20.0,
    pixel_size_A=PIXEL_A,
    dtype=torch.complex128,
    semiangle_mrad=21.4,
    **settings,
) -> MultisliceModel:
    window = (s * detector[0], s * detector[1])
    probe = probe_fourier(
        window,
        pixel_size_A,
        ENERGY_KEV,
        semiangle_mrad,
        Aberrations.from_defocus(defocus_A),
        dtype=dtype,
    )
    options = {"slice_thickness_A": 4.0, "electrons": 100.0, **settings}
    return MultisliceModel(
        probe,
        pixel_size_A=pixel_size_A,
        energy_keV=ENERGY_KEV,
        detector_shape=detector,
        oversampling=s,
        **options,
    )


def _phase(shape=(4, 40, 44), seed=0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=dtype, generator=generator)


POSITIONS = torch.tensor([(20.0, 22.0), (14.3, 18.7), (25.5, 30.25)], dtype=torch.float64)


@pytest.mark.parametrize("s", [1, 2, 3])
def test_every_electron_arrives(s):
    patterns = _model(s=s).intensities(_phase(), POSITIONS)
    torch.testing.assert_close(patterns.sum((1, 2)), torch.full((3,), 100.0, dtype=torch.float64))
    assert float(patterns.min()) >= 0


def test_vacuum_shows_the_aperture():
    model = _model()
    patterns = model.intensities(torch.zeros(3, 40, 40, dtype=torch.float64), POSITIONS)
    expected = 100.0 * model.probe_k.abs().square()
    torch.testing.assert_close(patterns, expected.expand_as(patterns))


def test_single_slice_pattern_is_the_transform_of_the_exit_wave():
    model = _model(detector=(24, 24))
    phase = _phase((1, 40, 40))
    wave = torch.fft.fftshift(torch.fft.ifft2(model.probe_k))
    exit_wave = wave * torch.exp(1j * phase[0, 8:32, 6:30])
    expected = 100.0 * torch.fft.fft2(exit_wave).abs().square()
    patterns = model.intensities(phase, [(20, 18)])
    torch.testing.assert_close(patterns[0], expected)


def test_slice_0_is_the_entrance_face():
    # A grating behind a thick stack of vacuum sees the probe further along than one in front.
    model = _model(detector=(32, 32), slice_thickness_A=40.0, defocus_A=80.0)
    front = torch.zeros(3, 40, 40, dtype=torch.float64)
    front[0] = _phase((1, 40, 40))[0]
    back = front.flip(0)
    centre = [(20.0, 20.0)]
    # 80 A underfocus: in focus at the third slice, so equal to the in-focus probe on a single one
    in_focus = _model(detector=(32, 32), defocus_A=0.0).intensities(front[:1], centre)
    torch.testing.assert_close(model.intensities(back, centre), in_focus)
    assert float((model.intensities(front, centre) - in_focus).abs().max()) > 1e-2


def test_sub_pixel_positions_shift_the_probe_exactly():
    # Half a pixel with pixels of 0.2 A is one pixel of 0.1 A: the same physics on a finer grid.
    # Specimen with few Fourier components, so that both grids hold it and its exit waves.
    def grating(n, pixel):
        y, x = torch.meshgrid(*(2 * [pixel * torch.arange(n, dtype=torch.float64)]), indexing="ij")
        extent = n * pixel
        wave = torch.cos(2 * math.pi * (2 * y + x) / extent) + torch.sin(2 * math.pi * y / extent)
        return 0.05 * torch.stack((wave, wave.mT.clone()))

    coarse = _model(detector=(64, 64), pixel_size_A=0.2)
    fine = _model(detector=(128, 128), pixel_size_A=0.1)
    shifted = coarse.intensities(_tiled(grating(64, 0.2)), [(64.0 + 0.5, 64.0 - 0.5)])
    reference = fine.intensities(_tiled(grating(128, 0.1)), [(128.0 + 1.0, 128.0 - 1.0)])
    low = [*range(32), *range(96, 128)]
    torch.testing.assert_close(
        shifted[0], reference[0][low][:, low], atol=1e-7 * float(reference.max()), rtol=0
    )


def test_shifted_patterns_are_the_far_field_moved_before_it_is_collected():
    # On a window three times as wide a third of a detector pixel is one sample of the far field.
    model = _model(s=3)
    fine = dataclasses.replace(model, detector_shape=(72, 60), oversampling=1)
    far = fine.intensities(_phase(), POSITIONS)
    shifts = np.array([(1.0, -2.0), (0.0, 1.0), (-1.0, 3.0)])
    moved = torch.stack(
        [p.roll(tuple(int(n) for n in s), (0, 1)) for p, s in zip(far, shifts, strict=True)]
    )
    seen = model.intensities(_phase(), POSITIONS, shifts_px=shifts / 3)
    torch.testing.assert_close(seen, bin_intensities(moved, 3))


def _tiled(phase: torch.Tensor) -> torch.Tensor:
    return phase.repeat(1, 2, 2)


@pytest.mark.parametrize("shift", [(3, -5), (-14, 17)])
def test_moving_specimen_and_probe_together_changes_nothing(shift):
    model = _model()
    island = torch.zeros(3, 60, 60, dtype=torch.float64)
    island[:, 25:35, 25:35] = _phase((3, 10, 10))
    moved = island.roll(shift, (1, 2))
    positions = torch.tensor([(30.2, 29.1), (24.0, 33.5)], dtype=torch.float64)
    torch.testing.assert_close(
        model.intensities(island, positions),
        model.intensities(moved, positions + torch.tensor(shift)),
    )


def test_beyond_the_canvas_is_vacuum_and_never_the_other_side():
    model = _model()
    canvas = _phase((3, 30, 26))
    padded = torch.nn.functional.pad(canvas, (40, 40, 40, 40))
    positions = torch.tensor(
        [(0.0, 0.0), (29.4, -6.2), (15.0, 31.7), (-200.0, 5.3)], dtype=torch.float64
    )
    torch.testing.assert_close(
        model.intensities(canvas, positions), model.intensities(padded, positions + 40.0)
    )


def test_windows_far_off_the_canvas_cost_no_memory_and_see_vacuum():
    model = _model()
    patterns = model.intensities(_phase(), [(1e7 + 0.25, 3.0), (-1e12, 1e12)])
    vacuum = 100.0 * model.probe_k.abs().square()
    torch.testing.assert_close(patterns, vacuum.expand_as(patterns))


def test_wider_windows_agree_for_a_compact_probe():
    # A Gaussian beam of 0.6 A stays far from the borders of the 9.6 A window, so its pattern is
    # smooth on the scale of a detector pixel and all samplings must collect nearly the same. (An
    # aperture's sharp edge would not be smooth on any.)
    y, x = torch.meshgrid(*(2 * [torch.arange(64, dtype=torch.float64) - 32]), indexing="ij")
    phase = torch.stack([1.5 * torch.exp(-((y - 2) ** 2 + (x + c) ** 2) / 18) for c in (1, 3)])
    patterns = {}
    for s in (1, 2, 3, 4):
        y, x = np.mgrid[-24 * s : 24 * s, -24 * s : 24 * s] * PIXEL_A
        beam = probe_from_array(np.exp(-(y**2 + x**2) / (2 * 0.6**2)), dtype=torch.complex128)
        model = MultisliceModel(
            beam,
            pixel_size_A=PIXEL_A,
            slice_thickness_A=4.0,
            energy_keV=ENERGY_KEV,
            detector_shape=(48, 48),
            oversampling=s,
        )
        patterns[s] = model.intensities(phase, [(32.0, 32.0)])
        assert float(patterns[s].sum()) == pytest.approx(1.0)
    peak = float(patterns[4].max())
    # Binning blurs, with a variance of 0, 1/8, 2/27, 3/32 pixels^2 for s samples across a pixel.
    for s, tolerance in ((1, 0.03), (2, 0.01), (3, 0.01)):
        assert float((patterns[s] - patterns[4]).abs().max()) < tolerance * peak
    displaced = patterns[4].roll(1, 1)
    assert float((displaced - patterns[4]).abs().max()) > 0.1 * peak


def test_chunks_and_precision_do_not_matter():
    model, phase = _model(s=2), _phase()
    positions = torch.rand(11, 2, dtype=torch.float64) * 40
    whole = model.intensities(phase, positions)
    for chunk in (1, 4, 11, 50):
        torch.testing.assert_close(model.intensities(phase, positions, chunk=chunk), whole)
    frugal = dataclasses.replace(model, memory_budget_bytes=1)
    torch.testing.assert_close(frugal.intensities(phase, positions), whole)
    single = model.intensities(phase.float(), positions)
    assert single.dtype == torch.float32
    assert float((single - whole).abs().max()) < 3e-6 * float(whole.max())


@pytest.mark.parametrize("defocus_A", [200.0, -200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_patterns_are_abtems(defocus_A, dtype):
    """Same potential array, same grid: a potential with no symmetry, and a scan off the pixels."""
    abtem = pytest.importorskip("abtem")
    ny, nx, nz, dz, pixel = 72, 60, 6, 1.6, 0.2
    rng = np.random.default_rng(4)
    spots = rng.uniform(0, 1, (40, 3)) * (nz, ny, nx)
    y, x = np.mgrid[:ny, :nx]
    potential = np.zeros((nz, ny, nx))
    for z, cy, cx in spots:
        dy, dx = (y - cy + ny / 2) % ny - ny / 2, (x - cx + nx / 2) % nx - nx / 2
        potential[int(z)] += 400 * np.exp(-(dy**2 + dx**2) / (2 * 1.5**2))  # V A, 0.26 rad

    positions_A = raster_positions_A((3, 4), 0.53) + np.array((5.13, 4.71))
    # Their 2/3 band limit, which they apply to transmission and propagation, is switched off.
    config = {
        "precision": "float64" if dtype == torch.float64 else "float32",
        "antialias.cutoff": 10.0,
        "device": "cpu",
    }
    with abtem.config.set(config):
        array = abtem.PotentialArray(
            np.ascontiguousarray(potential.transpose(0, 2, 1)).astype(
                np.float64 if dtype == torch.float64 else np.float32
            ),
            slice_thickness=dz,
            sampling=(pixel, pixel),
        )
        waves = abtem.Probe(
            energy=1e3 * ENERGY_KEV,
            semiangle_cutoff=21.4,
            defocus=defocus_A,
            Cs=5e3,
            extent=array.extent,
            gpts=array.gpts,
        )
        scan = abtem.CustomScan(positions_A[:, ::-1].copy())
        exit_waves = waves.multislice(array, scan=scan, lazy=False).array
    theirs = np.abs(np.fft.fft2(exit_waves)).transpose(0, 2, 1) ** 2
    theirs /= theirs.sum((1, 2)).mean()

    phase = torch.as_tensor(interaction_constant(ENERGY_KEV) * potential).to(dtype)
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    probe = probe_fourier(
        (ny, nx),
        pixel,
        ENERGY_KEV,
        21.4,
        Aberrations.from_defocus(defocus_A, 5e3),
        dtype=complex_dtype,
    )
    model = MultisliceModel(
        probe,
        pixel_size_A=pixel,
        slice_thickness_A=dz,
        energy_keV=ENERGY_KEV,
        detector_shape=(ny, nx),
    )
    # abTEM's supercell is periodic, our canvas is not: three cells side by side stand in for it.
    positions_px = positions_A / pixel + np.array((ny, nx))
    ours = model.intensities(phase.repeat(1, 3, 3), positions_px).numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.max()
    # The test can tell: the other sign of the phase is not within a hundred times of that.
    conjugate = model.intensities(-phase.repeat(1, 3, 3), positions_px).numpy()
    assert np.abs(conjugate - theirs).max() > 1e-2 * theirs.max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s": 0}, "oversampling"),
        ({"electrons": 0.0}, "electrons"),
        ({"slice_thickness_A": math.nan}, "slice_thickness_A"),
        ({"mask": torch.ones(3, 3, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(24, 20)}, "mask"),
    ],
)
def test_contradictions_are_refused(changes, message):
    if changes.get("s") == 0:
        probe = probe_fourier((24, 20), PIXEL_A, ENERGY_KEV, 21.4, Aberrations())
        with pytest.raises(ValueError, match=message):
            MultisliceModel(
                probe,
                pixel_size_A=PIXEL_A,
                slice_thickness_A=1.0,
                energy_keV=300.0,
                detector_shape=(24, 20),
                oversampling=0,
            )
    else:
        with pytest.raises(ValueError, match=message):
            _model(**changes)


def test_arguments_of_the_wrong_shape_are_refused():
    model, phase = _model(), _phase()
    with pytest.raises(ValueError, match="phase"):
        model.intensities(phase[0], POSITIONS)
    with pytest.raises(ValueError, match=r"phase: .* not empty"):
        model.intensities(phase[:0], POSITIONS)
    with pytest.raises(ValueError, match="positions_px: shape"):
        model.intensities(phase, POSITIONS[0])
    with pytest.raises(ValueError, match="positions_px: not finite"):
        model.intensities(phase, POSITIONS * math.nan)
    with pytest.raises(ValueError, match="counts: shape"):
        model.likelihood(phase, POSITIONS, torch.ones(3, 20, 24))
    with pytest.raises(ValueError, match="probe_k: squared modulus"):
        MultisliceModel(
            2 * model.probe_k,
            pixel_size_A=PIXEL_A,
            slice_thickness_A=1.0,
            energy_keV=300.0,
            detector_shape=(24, 20),
        )
    with pytest.raises(ValueError, match=r"probe_k: .* shape"):
        MultisliceModel(
            model.probe_k,
            pixel_size_A=PIXEL_A,
            slice_thickness_A=1.0,
            energy_keV=300.0,
            detector_shape=(24, 20),
            oversampling=2,
        )
