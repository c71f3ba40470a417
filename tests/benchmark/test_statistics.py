"""What is said about known numbers: averages, intervals, wins, sweeps, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from napari_mep.benchmark.figure import write_figures
from napari_mep.benchmark.methods import Method, parse_methods
from napari_mep.benchmark.records import Failure, Records, Result
from napari_mep.benchmark.report import Report, read_results, report_values
from napari_mep.benchmark.statistics import averages, comparisons, reference_method
from napari_mep.benchmark.table import markdown
from napari_mep.errors import ExportError

MACHINE = {
    "cpu": "One | Two",
    "cores": 2,
    "memory_GiB": 8.0,
    "device": "cpu",
    "threads": 1,
    "processes": 2,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "versions": {"napari-mep": "0.1.0"},
}
METHODS = parse_methods(["gradient", "mep"], steps=[4, 8])
NAMES = ("A", "B", "C", "D", "E")


def _result(label: str, crystal: str, ssim: float, **changes: object) -> Result:
    values = {
        "key": f"{label}{crystal}",
        "crystal": crystal,
        "group": "Crystals",
        "zone_axis": "c",
        "dose_e_per_A2": 1e5,
        "noise_seed": 1,
        "label": label,
        "ssim": ssim,
        "psnr": 20.0 + 10 * ssim,
        "ssim_sum": 0.9,
        "psnr_sum": 30.0,
        "residual": 0.1,
        "residual_floor": 0.09,
        "seconds": 60.0,
        "plan": {},
        "prior_sha256": None,
        "machine": MACHINE,
    }
    return Result(**(values | changes))  # type: ignore[arg-type]


def _report(results: list[Result], methods: tuple[Method, ...] = METHODS, **changes) -> Report:
    reference = reference_method(methods).label
    values = {
        "methods": methods,
        "reference": reference,
        "experiment": {},
        "results": tuple(results),
        "averages": tuple(averages(results)),
        "comparisons": tuple(comparisons(results, reference)),
        "failures": (),
        "asked": len(results),
    }
    return Report(**(values | changes))


@pytest.fixture
def report() -> Report:
    """Five crystals at two doses; at the lower one the gradient is better by 0.1 everywhere."""
    results = [
        _result(label, name, 0.5 + 0.01 * i + gain, dose_e_per_A2=dose)
        for i, name in enumerate(NAMES)
        for dose, gains in ((1e5, (0.1, 0.0, 0.02)), (1e6, (0.0, 0.2, 0.3)))
        for label, gain in zip(("gradient", "mep/4", "mep/8"), gains, strict=True)
    ]
    return _report(results)


def test_axes_of_a_crystal_are_averaged_first():
    results = [
        _result("gradient", "A", 0.2, zone_axis="a"),
        _result("gradient", "A", 0.4, zone_axis="c"),
        _result("gradient", "B", 0.7),
    ]
    (average,) = averages(results)
    assert average.crystals == 2
    assert average.mean["ssim"] == pytest.approx((0.3 + 0.7) / 2)
    assert average.deviation["ssim"] == pytest.approx(np.std([0.3, 0.7], ddof=1))
    assert (average.residual, average.residual_floor) == pytest.approx((0.1, 0.09))


def test_only_cases_that_both_have_done_are_compared():
    results = [
        _result("mep", "A", 0.5, zone_axis="a"),
        _result("mep", "A", 0.9, zone_axis="c"),
        _result("mep", "B", 0.6),
        _result("mep", "C", 0.1),
        _result("gradient", "A", 0.4, zone_axis="a"),
        _result("gradient", "B", 0.7),
    ]
    ssim = next(c for c in comparisons(results, "mep") if c.score == "ssim")
    assert ssim.crystals == 2
    assert ssim.difference.mean == pytest.approx(0.0)
    assert (ssim.difference.low, ssim.difference.high) == pytest.approx((-0.1, 0.1))
    assert (ssim.reference_mean, ssim.other_mean) == pytest.approx((0.55, 0.55))
    assert ssim.other_ahead == ("B",)


def test_the_page_says_where_a_baseline_wins(report):
    text = markdown(report, "napari-mep benchmark")
    assert "gradient is ahead of mep/4 in SSIM: 0.620 against 0.520, better on 5 of 5" in text
    assert "At 1e6 e/Å², gradient" not in text
    assert "| 1e5 | gradient | 5 | -0.100 [-0.100, -0.100] |" in text
    assert "| 1e6 | gradient | 5 | +0.200 [+0.200, +0.200] |" in text
    assert "| 1e5 | gradient | 5 | **0.620 ± 0.016** |" in text
    assert "| C | c | **0.620** / 26.20 | 0.520 / 25.20 | 0.540 / 25.40 |" in text


def test_the_page_has_machine_command_and_every_setting(report):
    text = markdown(report, "napari-mep benchmark --steps 4,8")
    assert "    napari-mep benchmark --steps 4,8\n" in text
    assert "30 results on 5 crystals, 30 min of reconstruction" in text
    assert "- cpu (30 results): One | Two, 2 cores, 8 GiB, 1 thread in each of 2 processes" in text
    for name in METHODS[1].plan.guidance.model_dump():
        assert f"| `guidance.{name}` | – |" in text
    assert "| `steps` | – | 4 | 8 |" in text
    assert "| Crystals | 1e5 | 8 | 5 | 0.540 |" in text  # the sweep over steps


def test_settings_of_other_packages_are_what_they_come_to():
    methods = parse_methods(["gradient", "lsq-ml", "ptyrad-adam:tuned"])
    text = markdown(_report([_result("gradient", "A", 0.5)], methods))
    assert "| `likelihood` | poisson | amplitude | amplitude |" in text
    assert "| `object.wave_oversampling` | 2 | 1 | 2 |" in text
    assert "| `object.waves` | auto | – | – |" in text
    assert "| `baseline.iterations` | – | 200 | 15 |" in text
    assert "| `baseline.options.constraints.obj_zblur.start_iter` | – | – | off |" in text


def test_few_crystals_prove_nothing():
    results = [_result(m, c, s) for c in "AB" for m, s in (("mep", 0.4), ("gradient", 0.5))]
    text = markdown(_report(results, parse_methods(["mep", "gradient"])))
    assert "gradient is ahead, within the uncertainty, of mep in SSIM" in text
    assert "gradient is ahead of" not in text
    alone = _report([r for r in results if r.crystal == "A"], parse_methods(["mep", "gradient"]))
    assert "| 1e5 | gradient | 1 | **0.500** |" in markdown(alone)
    assert "| 1e5 | gradient | 1 | -0.100 |" in markdown(alone)
    better = [_result(m, c, s) for c in "AB" for m, s in (("mep", 0.6), ("gradient", 0.5))]
    text = markdown(_report(better, parse_methods(["mep", "gradient"])))
    assert "No other method has a higher mean than mep" in text


def test_what_is_missing_is_said(report):
    failure = Failure("Unobtainium", "no such element", "c 1e5 e/A^2 mep")
    results = [r for r in report.results if (r.crystal, r.label) != ("B", "mep/8")]
    text = markdown(_report(results, failures=(failure,), asked=30))
    assert "- Unobtainium c 1e5 e/A^2 mep: no such element" in text
    assert "2 of 30 results are missing" in text
    assert "| B | c | **0.610** / 26.10 | 0.510 / 25.10 | – |" in text
    assert "| 1e5 | mep/8 | 4 |" in text


def test_the_reference_is_the_first_with_a_prior():
    assert reference_method(METHODS).label == "mep/4"
    assert reference_method(METHODS[:1]).label == "gradient"


def test_values_for_programs(report):
    values = json.loads(json.dumps(report_values(report), allow_nan=False))
    assert values["reference"] == "mep/4"
    assert len(values["results"]) == 30
    assert values["methods"]["mep/8"]["plan"]["steps"] == 8
    first = values["comparisons"][0]
    assert (first["score"], first["other"]) == ("ssim", "gradient")
    assert first["difference"]["mean"] == pytest.approx(-0.1)
    assert values["machines"] == [{**MACHINE, "results": 30}]
    assert "plan" not in values["results"][0]


def test_a_report_that_is_kept_gives_its_results_back(tmp_path):
    """What is committed: settings and machines once, so small; another run starts from it."""
    other = MACHINE | {"cpu": "Another"}
    plan = METHODS[0].settings()
    results = [
        _result("gradient", "A", 0.5, plan=plan),
        _result("gradient", "B", 0.6, plan=plan, machine=other, residual=None),
    ]
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(report_values(_report(results, METHODS[:1]))))
    assert read_results(path) == results
    lines = Records(tmp_path / "results.jsonl")
    lines.merge(results)
    assert read_results(tmp_path / "results.jsonl") == results


@pytest.mark.parametrize("content", ["{", "[]", '{"machines": []}', None])
def test_a_file_that_is_no_report(tmp_path, content):
    path = tmp_path / "benchmark.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExportError, match=r"benchmark\.json: no(t readable| results of a bench)"):
        read_results(path)


def test_pictures(report, tmp_path: Path):
    written = write_figures(report, tmp_path / "benchmark")
    assert [path.name for path in written] == ["benchmark.png", "benchmark-steps.png"]
    for path in written:
        pixels = imread(path)[..., :3]
        assert pixels.shape[1] == 2000
        ink = [tuple(int(c, 16) / 255 for c in parts) for parts in (("00", "72", "B2"),)]
        assert (np.abs(pixels - ink[0]).max(-1) < 0.01).sum() > 100
    again = write_figures(report, tmp_path / "again")
    assert again[0].read_bytes() == written[0].read_bytes()


def test_a_picture_of_quality_against_training(white_priors, tmp_path: Path):
    methods = parse_methods(["gradient", "mep"], priors=white_priors)
    results = [_result(m.label, name, 0.5) for m in methods for name in NAMES]
    written = write_figures(_report(results, methods), tmp_path / "benchmark")
    assert [path.name for path in written] == ["benchmark.png", "benchmark-training.png"]
    text = markdown(_report(results, methods))
    assert all(f"| 1e5 | {label} | 5 |" in text for label in ("mep@white100", "mep@white200"))


def test_presets_of_a_solver_share_its_colour(tmp_path: Path):
    """The paper's settings are hollow: less ink of the colour that no other method has."""
    methods = parse_methods(["gradient", "lsq-ml", "lsq-ml:tuned"])
    ink = []
    for label in ("lsq-ml", "lsq-ml:tuned"):
        some = _report([_result(label, name, 0.5) for name in NAMES], methods)
        pixels = imread(write_figures(some, tmp_path / label)[0])[..., :3]
        orange = np.array([0xD5, 0x5E, 0x00]) / 255
        ink.append((np.abs(pixels - orange).max(-1) < 0.01).sum())
    assert 100 < ink[0] < 0.8 * ink[1]


def test_no_sweep_no_picture_of_one(report, tmp_path: Path):
    results = [r for r in report.results if r.label != "mep/4"]
    only = _report(results, (METHODS[0], METHODS[2]))
    assert [p.name for p in write_figures(only, tmp_path / "b")] == ["b.png"]
