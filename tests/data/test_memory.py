"""Memory to plan with: the machine's, or what its control group leaves."""

import os

import pytest

from napari_mep.data import _memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A made-up tree of control groups; writes the limits that it is given."""
    monkeypatch.setattr(_memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(_memory, "_MINE", tmp_path / "mine")

    def write(mine: str, limits: dict[str, str]) -> None:
        (tmp_path / "mine").write_text(mine)
        for name, limit in limits.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(limit)

    return write


MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("mine", "limits", "expected"),
    [
        ("0::/job/step\n", {"job/memory.max": "4096\n", "job/step/memory.max": "max\n"}, 4096),
        # A container sees its own group as the root.
        ("0::/docker/0a1b\n", {"memory.max": "8192\n"}, 8192),
        ("5:cpu:/\n4:memory:/slurm\n", {"memory/slurm/memory.limit_in_bytes": "2048\n"}, 2048),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    ],
)
def test_the_tightest_limit_counts(groups, mine, limits, expected):
    groups(mine, limits)
    assert _memory.usable_memory() == expected


def test_without_control_groups_it_is_the_machine(groups):
    assert _memory.usable_memory() == MACHINE
