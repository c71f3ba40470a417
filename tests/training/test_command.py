"""`napari-mep train` as a process of its own: on a bare node, killed, and with bad input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from napari_mep.cli import main
from napari_mep.prior.unet import PRESETS
from napari_mep.training.checkpoint import read_checkpoint
from napari_mep.training.run_directory import (
    CHECKPOINT_NAME,
    is_running,
    read_metrics,
    request_stop,
)

# A node that trains has torch, numpy and safetensors; for several processes accelerate, which needs
# some more.
_ABSENT = (
    "abtem ase h5py magicgui matplotlib napari pint platformdirs pydantic pymatgen qtpy scipy "
    "skimage superqt tensorboard zarr"
)
_ABSENT_ALONE = "accelerate tqdm"
_PROGRAM = f"""
import json, os, sys
absent = {_ABSENT!r} if "WORLD_SIZE" in os.environ else {f"{_ABSENT} {_ABSENT_ALONE}"!r}
for name in absent.split():
    sys.modules[name] = None  # importing it fails
import torch
from napari_mep.cli import main
from napari_mep.prior.unet import PRESETS, UNetConfig
torch.set_num_threads(1)
PRESETS["tiny"] = UNetConfig.from_dict(json.loads(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def library_file(library, tmp_path):
    path = tmp_path / "library.npz"
    library.save(path)
    return path


@pytest.fixture
def start(library_file, small_network, tmp_path, repository):
    """Starts ``napari-mep train`` with the small network; at the end nothing is left running."""
    network = json.dumps(PRESETS["tiny"].to_dict())
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    started = []

    def run(*options, launcher=()):
        command = [sys.executable, *launcher, str(program), network, "train", str(library_file)]
        command += ["-o", str(tmp_path / "run"), "--device", "cpu", "--batch", "2", *options]
        environment = os.environ | {"PYTHONPATH": str(repository / "src")}
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # torchrun's workers as well
        process.communicate()


def _wait(condition, process, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_kill_9_loses_one_interval_at_most_and_a_bare_node_is_enough(start, tmp_path):
    run = tmp_path / "run"
    long = ("--volumes", "100000", "--checkpoint-minutes", "0.005")
    process = start(*long)
    _wait(lambda: (run / CHECKPOINT_NAME).exists() and len(read_metrics(run)[0]) > 1, process)
    assert is_running(run)
    process.kill()  # SIGKILL
    process.wait()
    assert not is_running(run)
    _, state = read_checkpoint(run)
    reached = read_metrics(run)[0][-1]
    assert reached["seconds"] - state["seconds"] < 2.0  # the interval, a step and a save

    process = start(*long, "--resume")
    _wait(lambda: read_metrics(run)[0][-1]["volumes"] > reached["volumes"] + 40, process)
    request_stop(run)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "prior.safetensors after" in output
    volumes = [record["volumes"] for record in read_metrics(run)[0]]
    assert volumes == sorted(set(volumes))
    assert read_checkpoint(run)[1]["volumes"] >= volumes[-1]


def test_a_piece_ends_by_itself_and_sigterm_ends_it_sooner(start, tmp_path):
    process = start("--minutes", "100", "--piece-minutes", "0.02")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "after" in output
    seen = read_checkpoint(tmp_path / "run")[1]["volumes"]
    process = start("--resume")
    _wait(lambda: is_running(tmp_path / "run"), process)
    before = len(read_metrics(tmp_path / "run")[0])
    _wait(lambda: len(read_metrics(tmp_path / "run")[0]) > before, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    _, state = read_checkpoint(tmp_path / "run")
    assert state["volumes"] > seen
    assert state["settings"]["minutes"] == 100  # kept, though not given again


def test_torchrun_passes_sigterm_on_and_the_run_resumes(start, tmp_path):
    run = tmp_path / "run"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start("--volumes", "100000", launcher=torchrun)
    _wait(lambda: len(read_metrics(run)[0]) > 0, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "SignalException" in errors  # torchrun's own; its workers ended well
    assert not is_running(run)
    seen = read_checkpoint(run)[1]["volumes"]
    assert seen >= read_metrics(run)[0][-1]["volumes"]
    assert (run / "prior.safetensors").exists()

    process = start("--volumes", str(seen + 2), "--resume", launcher=torchrun)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert read_checkpoint(run)[1]["volumes"] == seen + 2


@pytest.mark.usefixtures("small_network")
def test_a_full_disk_is_told_and_spares_the_checkpoint(library_file, tmp_path, monkeypatch, capsys):
    from safetensors import SafetensorError

    run = tmp_path / "run"
    arguments = ["train", str(library_file), "-o", str(run), "--batch", "2", "--device", "cpu"]
    assert main([*arguments, "--volumes", "2"]) == 0
    before = (run / CHECKPOINT_NAME).read_bytes()

    assert main([*arguments, "--volumes", "4", "--resume", "--initial", "crystals"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "initial = crystals: a resumed run goes on with its own weights" in line

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("napari_mep.training.checkpoint.save_file", full)
    capsys.readouterr()
    assert main([*arguments, "--volumes", "4", "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert "the last checkpoint is intact" in line
    assert (run / CHECKPOINT_NAME).read_bytes() == before
    assert not list(run.glob("*.partial"))


_FULL = """
import json, os, sys
from pathlib import Path
import torch
from napari_mep.cli import main
from napari_mep.prior.unet import PRESETS, UNetConfig
from napari_mep.training.run_directory import CHECKPOINT_NAME
torch.set_num_threads(1)
network, library, disk = sys.argv[1:]
PRESETS["tiny"] = UNetConfig.from_dict(json.loads(network))
run = Path(disk) / "run"
train = ["train", library, "-o", str(run), "--device", "cpu", "--batch", "2"]
assert main([*train, "--volumes", "2"]) == 0

def kept():
    return [p.read_bytes() for p in (run / CHECKPOINT_NAME, *sorted(run.glob("prior.*")))]

before = kept()
size = (run / CHECKPOINT_NAME).stat().st_size
for room in (size // 2, 0):  # full when the checkpoint is written, and from the beginning
    with open(Path(disk) / "other", "wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(4096))
        except OSError:
            os.ftruncate(other.fileno(), max(0, other.tell() - room))
    assert main([*train, "--volumes", "4", "--resume"]) == 2
    assert kept() == before
    assert not list(run.glob("*.partial"))
    for name in ("settings.json", "process.json"):
        json.loads((run / name).read_text())
(Path(disk) / "other").unlink()
assert main([*train, "--volumes", "4", "--resume"]) == 0
"""


@pytest.mark.usefixtures("small_network")
def test_a_disk_that_is_really_full(library_file, tmp_path, repository):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size=4m tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*mount, small], check=False).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    network = json.dumps(PRESETS["tiny"].to_dict())
    program = shlex.join([sys.executable, "-c", _FULL, network, str(library_file), str(disk)])
    told = subprocess.run(
        [*mount, f"{small} && exec {program}"],
        env=os.environ | {"PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("napari-mep: ")]
    assert len(lines) == 2
    for line in lines:
        assert "No space left on device" in line
        assert "the last checkpoint is intact, make room and give --resume" in line


@pytest.mark.usefixtures("small_network")
def test_a_loss_that_really_diverges_is_told_and_spares_the_checkpoint(
    library_file, tmp_path, capsys
):
    run = tmp_path / "run"
    arguments = ["train", str(library_file), "-o", str(run), "--batch", "2", "--device", "cpu"]
    assert main([*arguments, "--volumes", "2"]) == 0
    before = (run / CHECKPOINT_NAME).read_bytes()
    capsys.readouterr()
    assert main([*arguments, "--volumes", "400", "--resume", "--learning-rate", "1e30"]) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "napari-mep:" in text]
    assert "loss is not finite after" in line
    assert "lower learning_rate (1e+30) and resume from the checkpoint" in line
    assert (run / CHECKPOINT_NAME).read_bytes() == before


def test_a_library_that_is_none_and_a_missing_gpu_are_told(library_file, tmp_path, capsys):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(library_file.read_bytes()[:100])
    run = tmp_path / "run"
    assert main(["train", str(broken), "-o", str(run)]) == 2
    assert "not readable" in capsys.readouterr().err
    assert main(["train", str(library_file), "-o", str(run), "--device", "cuda:7"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not there" in line
    assert not run.exists()
