"""The command ``napari-mep simulate``."""

from __future__ import annotations

import argparse

from napari_mep.cli._shared import Commands, new_command, output_options, pair, progress, seed

__all__ = ["add_command"]


def add_command(commands: Commands) -> None:
    """Describe the command and its options."""
    sub = new_command(
        commands, "simulate", _simulate, "Simulate a 4D-STEM scan of a crystal with abTEM."
    )
    sub.add_argument("source", metavar="CIF|NAME", help="CIF file or built-in sample")
    output_options(sub, "DATA.zarr")
    sub.add_argument("--zone-axis", default="c", metavar="a|b|c|u,v,w", help="beam direction")
    sub.add_argument("--thickness", type=float, default=12.8, metavar="A", help="thickness, A")
    sub.add_argument("--dose", type=float, default=1e5, metavar="e/A^2", help="dose, e/A^2")
    sub.add_argument("--noise-free", action="store_true", help="expected counts instead of counts")
    sub.add_argument("--scan", type=pair, default=(26, 26), metavar="YxX", help="positions")
    sub.add_argument("--scan-step", type=float, default=0.512, metavar="A", help="step, A")
    sub.add_argument("--energy", type=float, default=300.0, metavar="keV", help="beam energy, keV")
    sub.add_argument(
        "--semiangle", type=float, default=21.4, metavar="mrad", help="convergence semi-angle, mrad"
    )
    sub.add_argument(
        "--defocus", type=float, default=-200.0, metavar="A", help="A, positive is underfocus"
    )
    sub.add_argument(
        "--spherical-aberration", type=float, default=5000.0, metavar="A", help="Cs, A"
    )
    sub.add_argument("--detector-pixels", type=int, default=64, metavar="N", help="along each axis")
    sub.add_argument(
        "--detector-step", type=float, default=0.078125, metavar="1/A", help="pixel, 1/A"
    )
    sub.add_argument("--seed", type=seed, default=0, help="of the counting noise")


def _simulate(a: argparse.Namespace) -> None:
    from napari_mep.data.native import write_dataset
    from napari_mep.data.simulate import simulate_dataset
    from napari_mep.export.ome_zarr import check_target

    check_target(a.output, overwrite=a.overwrite)
    with progress("simulating", "patterns") as bar:
        dataset = simulate_dataset(
            a.source,
            dose_e_per_A2=None if a.noise_free else a.dose,
            seed=a.seed,
            progress=bar,
            zone_axis=a.zone_axis,
            thickness_A=a.thickness,
            scan_shape=a.scan,
            scan_step_A=a.scan_step,
            energy_keV=a.energy,
            semiangle_mrad=a.semiangle,
            defocus_A=a.defocus,
            spherical_aberration_A=a.spherical_aberration,
            detector_pixels=a.detector_pixels,
            detector_step_invA=a.detector_step,
        )
    write_dataset(a.output, dataset, overwrite=a.overwrite)
    print(f"wrote {a.output}")
