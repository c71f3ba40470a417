from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from napari_mep.benchmark.records import Records, Result, dose_text
from napari_mep.errors import ExportError


def make_result(key: str, **changes: object) -> Result:
    values = {
        "key": key,
        "crystal": "MgO",
        "group": "Crystals",
        "zone_axis": "c",
        "dose_e_per_A2": 1e5,
        "noise_seed": 1,
        "label": "mep",
        "ssim": 0.5,
        "psnr": 20.0,
        "ssim_sum": 0.6,
        "psnr_sum": 22.0,
        "residual": 0.1,
        "residual_floor": None,
        "seconds": 3.0,
        "plan": {"method": "mep"},
        "prior_sha256": None,
        "machine": {"cpu": "one"},
    }
    return Result(**(values | changes))  # type: ignore[arg-type]


def test_results_come_back(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    first, second = make_result("a"), make_result("b", ssim=0.7)
    records = Records(path)
    records.append(first)
    records.append(second)
    again = Records(path)
    assert again.get("a") == first == records.get("a")
    assert again.get("b") == second
    assert again.get("c") is None


def test_results_of_others_are_added_once_and_ours_stand(tmp_path):
    path = tmp_path / "results.jsonl"
    records = Records(path)
    records.append(make_result("a"))
    theirs = [make_result("a", ssim=0.9), make_result("b"), make_result("b", ssim=0.8)]
    assert records.merge(theirs) == 1
    assert records.merge(theirs) == 0
    again = Records(path)
    assert again.get("a").ssim == 0.5
    assert again.get("b") is not None
    assert len(path.read_text().splitlines()) == 2


def test_half_a_line_costs_one_result_only(tmp_path):
    path = tmp_path / "results.jsonl"
    records = Records(path)
    for key in "ab":
        records.append(make_result(key))
    whole = path.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 30, len(whole) // 2 + 1):
        path.write_bytes(whole[:kept])
        records = Records(path)
        records.append(make_result("c"))
        again = Records(path)
        assert again.get("a") is not None
        assert again.get("c") is not None
        assert (again.get("b") is not None) == (kept == len(whole) - 1)


def test_lines_of_another_kind_are_left_out(tmp_path):
    path = tmp_path / "results.jsonl"
    known = asdict(make_result("a"))
    lines = [
        "no json",
        "[1, 2]",
        json.dumps({"key": "b"}),
        json.dumps({**known, "key": "c", "more": 1}),
        json.dumps(known),
    ]
    path.write_text("\n".join(lines))
    records = Records(path)
    assert [records.get(key) is not None for key in "abc"] == [True, False, False]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="not readable"):
        Records(tmp_path / "file" / "results.jsonl")
    records = Records(tmp_path / "folder" / "results.jsonl")
    (tmp_path / "folder").write_text("")
    with pytest.raises(ExportError, match="not written"):
        records.append(make_result("a"))


@pytest.mark.parametrize(
    ("dose", "text"),
    [(1e5, "1e5"), (2.5e6, "2.5e6"), (300.0, "300"), (1234.0, "1234"), (1e4, "1e4"), (0.5, "0.5")],
)
def test_doses_as_people_write_them(dose, text):
    assert dose_text(dose) == text
