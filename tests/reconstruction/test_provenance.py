"""What a result remembers suffices to make it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from napari_mep.errors import WeightsError
from napari_mep.prior.catalogue import load_card
from napari_mep.reconstruction import ReconstructionPlan, Snapshot
from napari_mep.reconstruction.provenance import outcome, provenance

SETTLED = ReconstructionPlan(steps=3).settled(sees_estimate=True, knows_depth=True)
LAST = Snapshot(SETTLED, 3, 9, "sampling", None, 0.034, 0.031, 1.0, -1.2, 3.6, 7.2)


def test_the_record_is_json_and_names_everything(dataset, mep_plan, prior):
    record = json.loads(json.dumps(provenance(dataset, mep_plan, LAST)))
    assert ReconstructionPlan.parse(record["plan"]) == SETTLED  # what was done, nothing left open
    assert record["data"]["fingerprint"] == dataset.fingerprint()
    assert record["data"]["calibration"]["beam_energy_keV"] == 300.0
    assert record["prior"] == {"name": "white", "sha256": load_card(prior).sha256}
    assert {"napari-mep", "python", "torch", "numpy"} <= set(record["versions"])
    assert (record["method"], record["step"], record["total"]) == ("mep", 3, 9)
    assert (record["residual"], record["residual_floor"]) == (0.034, 0.031)
    assert record["created"].endswith("+00:00")


def test_the_record_says_where_the_scan_lies(dataset, plan, tmp_path, monkeypatch):
    assert "dataset_path" not in provenance(dataset, plan, fingerprint="known")  # made in memory
    monkeypatch.chdir(tmp_path)
    opened = dataclasses.replace(dataset, path=Path("scans/a.zarr"))
    record = json.loads(json.dumps(provenance(opened, plan, fingerprint="known")))
    assert record["dataset_path"] == str(tmp_path / "scans" / "a.zarr")


def test_the_record_holds_only_what_was_used(dataset):
    """Another package's wave window is its preset's, whatever the plan says."""
    plan = ReconstructionPlan(method="lsq-ml", object={"wave_oversampling": 2})
    record = provenance(dataset, plan, fingerprint="known")
    assert record["baseline"]["window"] == 1
    assert "wave_oversampling" not in record["plan"]["object"]
    assert not {"gradient", "guidance", "prior"} & set(record["plan"])


def test_before_the_first_step_there_is_no_outcome(dataset, plan):
    record = provenance(dataset, plan, fingerprint="known")
    assert record["data"]["fingerprint"] == "known"
    assert record["method"] == "gradient"
    assert "prior" not in record
    assert ReconstructionPlan.parse(record["plan"]) == plan
    assert not set(outcome(LAST)) - {"method", "plan"} & set(record)


def test_a_prior_that_is_not_there_is_an_error(dataset, mep_plan, prior):
    prior.unlink()
    with pytest.raises(WeightsError, match="no such weights file"):
        provenance(dataset, mep_plan)
