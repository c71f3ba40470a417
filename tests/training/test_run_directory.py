"""The run directory: who holds it, what its files say, how a run is asked to end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from napari_mep.errors import ExportError
from napari_mep.training import run_directory
from napari_mep.training.run_directory import (
    METRICS_NAME,
    claim,
    is_running,
    read_metrics,
    read_process,
    request_stop,
    stop_requested,
)


def test_a_directory_has_one_trainer(tmp_path):
    assert not is_running(tmp_path / "none")
    with claim(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(ExportError, match=r"process \d+ on .* is training there"):
            claim(tmp_path).__enter__()
    assert not is_running(tmp_path)
    with claim(tmp_path):
        pass


def test_a_killed_trainer_no_longer_holds_it(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from napari_mep.training.run_directory import claim\n"
        "with claim(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert held.stdout.readline() == "held\n"
        assert is_running(tmp_path)
        assert read_process(tmp_path).pid == held.pid
    finally:
        held.kill()
        held.communicate()
    assert not is_running(tmp_path)
    # what is left says who it was, and does not take a new process of that number for the old one
    assert read_process(tmp_path).pid == held.pid


def test_a_request_to_stop_is_seen_and_not_kept(tmp_path):
    request_stop(tmp_path)
    with claim(tmp_path):  # an old request does not end a new piece
        assert not stop_requested(tmp_path)
        request_stop(tmp_path)
        assert stop_requested(tmp_path)
    assert not stop_requested(tmp_path)


def test_metrics_are_read_as_they_come(tmp_path):
    assert read_metrics(tmp_path) == ([], 0)
    path = tmp_path / METRICS_NAME
    path.write_text('{"volumes": 1}\n{"volu')
    records, offset = read_metrics(tmp_path)
    assert records == [{"volumes": 1}]
    with path.open("a") as file:
        file.write('mes": 2}\n')
    records, offset = read_metrics(tmp_path, offset)
    assert records == [{"volumes": 2}]
    assert read_metrics(tmp_path, offset) == ([], offset)
    path.write_text('{"volumes": 1}\n')  # resumed from an earlier checkpoint
    assert read_metrics(tmp_path, offset) == ([{"volumes": 1}], 15)


@pytest.mark.parametrize("text", ["", "{", json.dumps({"pid": "x"})])
def test_a_broken_process_file_is_nobody(tmp_path, text):
    (tmp_path / "process.json").write_text(text)
    assert read_process(tmp_path) is None
    assert run_directory.sample_files(tmp_path) == []
