from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_mep.errors import ExportError
from napari_mep.export import check_target, read_reconstruction, write_reconstruction
from napari_mep.export.ome_zarr import is_reconstruction
from napari_mep.volume import PhaseVolume

VOXEL = (1.6, 0.2, 0.25)
ORIGIN = (0.8, -1.0, 2.5)


@pytest.fixture
def volume() -> PhaseVolume:
    """Large enough for three resolution levels, odd in y."""
    data = np.random.default_rng(0).normal(0.1, 0.05, (3, 261, 280))
    return PhaseVolume(data, VOXEL, ORIGIN)


@pytest.fixture
def store(tmp_path: Path, volume: PhaseVolume) -> Path:
    provenance = {"plan": {"method": "mep"}, "seed": np.int64(7), "residual": np.float32(0.5)}
    return write_reconstruction(tmp_path / "r.ome.zarr", volume, provenance, name="SrTiO3")


def test_comes_back(store, volume):
    again, provenance = read_reconstruction(store)
    np.testing.assert_array_equal(again.data, volume.data)
    assert again.voxel_size_A == VOXEL
    assert again.origin_A == ORIGIN
    assert provenance == {"plan": {"method": "mep"}, "seed": 7, "residual": 0.5}


def test_the_scan_is_found_when_both_have_moved(tmp_path, volume):
    here = tmp_path / "here"
    scan = here / "scans" / "a.zarr"
    store = here / "out" / "r.ome.zarr"
    write_reconstruction(store, volume, {"dataset_path": str(scan)}, name="r")
    assert str(tmp_path) not in (store / "zarr.json").read_text()  # nobody's business
    assert read_reconstruction(store)[1] == {"dataset_path": str(scan)}
    here.rename(tmp_path / "there")
    moved = tmp_path / "there" / "out" / "r.ome.zarr"
    found = read_reconstruction(moved)[1]["dataset_path"]
    assert found == str(tmp_path / "there" / "scans" / "a.zarr")


def test_layout(store):
    metadata = json.loads((store / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert "napari-mep" in metadata["attributes"]
    ome = metadata["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in image["axes"]} == {"angstrom"}
    for dataset in image["datasets"]:
        kinds = [t["type"] for t in dataset["coordinateTransformations"]]
        assert kinds == ["scale", "translation"]


def test_coarse_levels_lie_on_the_fine_one(store, volume):
    """Each level is a 2 x 2 mean of the one before, at the mean of their world coordinates."""
    root = zarr.open_group(store, mode="r")
    datasets = root.attrs["ome"]["multiscales"][0]["datasets"]
    assert [root[d["path"]].shape for d in datasets] == [(3, 261, 280), (3, 130, 140), (3, 65, 70)]
    fine = root["0"][:]
    for level, factor in (("1", 2), ("2", 4)):
        scale, translation = datasets[int(level)]["coordinateTransformations"]
        assert scale["scale"] == pytest.approx([1.6, 0.2 * factor, 0.25 * factor])
        index = np.array([2, 5, 6])
        world = np.array(translation["translation"]) + np.array(scale["scale"]) * index
        first = np.array(ORIGIN) + np.array(VOXEL) * index * (1, factor, factor)
        last = first + np.array(VOXEL) * (0, factor - 1, factor - 1)
        np.testing.assert_allclose(world, (first + last) / 2)
        block = fine[2, 5 * factor : 6 * factor, 6 * factor : 7 * factor]
        assert root[level][2, 5, 6] == pytest.approx(block.mean(), rel=1e-5)


def test_small_volumes_have_one_level(tmp_path):
    path = write_reconstruction(
        tmp_path / "a.ome.zarr", PhaseVolume(np.zeros((2, 127, 300)), VOXEL), {}, name="a"
    )
    assert len(zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"]) == 1


def test_contrast_window(tmp_path, store, volume):
    def window(path):
        root = zarr.open_group(path, mode="r")
        return root.attrs["ome"]["omero"]["channels"][0]["window"]

    shown = window(store)
    assert shown["start"] == pytest.approx(np.percentile(volume.data, 0.5))
    assert shown["end"] == pytest.approx(np.percentile(volume.data, 99.8))
    assert shown["min"] == pytest.approx(volume.data.min())
    assert shown["max"] == pytest.approx(volume.data.max())
    for name, data in (("flat", np.zeros((1, 4, 4))), ("nan", np.full((1, 4, 4), np.nan))):
        flat = PhaseVolume(data, VOXEL)
        shown = window(write_reconstruction(tmp_path / f"{name}.ome.zarr", flat, {}, name=name))
        assert (shown["start"], shown["end"]) == (0, 1)


def test_both_validators_accept_it(store):
    import yaozarrs
    from ome_zarr_models.v05.image import Image

    image = Image.from_zarr(zarr.open_group(store, mode="r"))
    assert image.attributes.ome.multiscales[0].name == "SrTiO3"
    yaozarrs.validate_zarr_store(store)
    scale, translation = image.attributes.ome.multiscales[0].datasets[0].coordinateTransformations
    assert scale.scale == pytest.approx(VOXEL)
    assert translation.translation == pytest.approx(ORIGIN)


def test_napari_ome_zarr_opens_it_with_scale_unit_and_contrast(store, volume):
    """Version 0.10 of that plugin reads only the scale of a level, so no translation here."""
    from napari_ome_zarr._reader import napari_get_reader

    ((levels, metadata, kind),) = napari_get_reader(str(store))(str(store))
    assert kind == "image"
    np.testing.assert_array_equal(np.asarray(levels[0]), volume.data)
    np.testing.assert_allclose(metadata["scale"], VOXEL)
    assert tuple(metadata["units"]) == ("angstrom",) * 3
    assert tuple(metadata["axis_labels"]) == ("z", "y", "x")
    assert metadata["contrast_limits"] == pytest.approx(np.percentile(volume.data, (0.5, 99.8)))
    assert metadata["colormap"].name == "gray"
    assert metadata["name"] == "SrTiO3: phase (rad)"


def test_refuses_to_overwrite_unasked(store, volume, tmp_path):
    with pytest.raises(ExportError, match=r"exists already"):
        write_reconstruction(store, volume, {}, name="b")
    with pytest.raises(ExportError, match=r"exists already"):
        check_target(store)
    assert read_reconstruction(store)[1]["seed"] == 7
    write_reconstruction(store, volume, {"seed": 8}, name="b", overwrite=True)
    assert read_reconstruction(store)[1] == {"seed": 8}
    assert [p.name for p in tmp_path.iterdir()] == ["r.ome.zarr"]


def test_never_replaces_what_is_no_zarr(tmp_path, volume):
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.tex").write_text("years of work")
    (tmp_path / "file.zarr").write_text("text")
    for name in ("folder.zarr", "file.zarr"):
        with pytest.raises(ExportError, match=r"is no Zarr store"):
            write_reconstruction(tmp_path / name, volume, {}, name="a", overwrite=True)
    assert (tmp_path / "folder.zarr" / "thesis.tex").read_text() == "years of work"


def test_target_that_cannot_be_written(tmp_path, volume, monkeypatch):
    (tmp_path / "file").write_text("text")
    for target in (tmp_path / "file" / "r.ome.zarr", tmp_path / "file" / "deeper" / "r.ome.zarr"):
        with pytest.raises(ExportError, match=r"file, not a folder|cannot be written") as caught:
            write_reconstruction(target, volume, {}, name="a")
        assert "\n" not in str(caught.value)

    def full_disk(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full_disk)
    with pytest.raises(ExportError, match=r"cannot be written .No space left on device"):
        write_reconstruction(tmp_path / "r.ome.zarr", volume, {}, name="a")


def test_missing_folders_are_made(tmp_path, volume):
    path = tmp_path / "a" / "b" / "r.ome.zarr"
    assert check_target(path) == path
    assert not path.parent.exists(), "checking touches nothing"
    write_reconstruction(path, volume, {}, name="a")
    assert is_reconstruction(path)


def test_interrupted_write_leaves_nothing(tmp_path, volume):
    class Interrupting(dict):
        def get(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_reconstruction(tmp_path / "r.ome.zarr", volume, Interrupting(a=1), name="a")
    assert list(tmp_path.iterdir()) == []


def _remove_chunk(store):
    next(p for p in (store / "0" / "c").rglob("*") if p.is_file()).unlink()


def _cut_chunk(store):
    path = next(p for p in (store / "0" / "c").rglob("*") if p.is_file())
    path.write_bytes(path.read_bytes()[:100])


def _remove_array(store):
    shutil.rmtree(store / "0")


def _cut_metadata(store):
    (store / "zarr.json").write_text('{"zarr_for')


def _no_image(store):
    root = zarr.open_group(store, mode="r+")
    del root.attrs["ome"]


def _pixels(store):
    root = zarr.open_group(store, mode="r+")
    ome = json.loads(json.dumps(root.attrs["ome"]))
    for axis in ome["multiscales"][0]["axes"]:
        del axis["unit"]
    root.attrs["ome"] = ome


def _time_axis(store):
    root = zarr.open_group(store, mode="r+")
    ome = json.loads(json.dumps(root.attrs["ome"]))
    ome["multiscales"][0]["axes"][0]["name"] = "t"
    root.attrs["ome"] = ome


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_remove_chunk, "1 of 3 chunks are missing"),
        (_cut_chunk, "not a readable OME-Zarr"),
        (_remove_array, "not a readable OME-Zarr"),
        (_cut_metadata, "not an OME-Zarr"),
        (_no_image, "not an OME-Zarr"),
        (_pixels, "not a readable OME-Zarr image .*unit"),
        (_time_axis, "axes t y x, expected z y x"),
        (shutil.rmtree, "no such file"),
    ],
)
def test_broken_stores(store, damage, words):
    damage(store)
    with pytest.raises(ExportError, match=words) as caught:
        read_reconstruction(store)
    assert "\n" not in str(caught.value)


def test_foreign_images_in_nanometre(tmp_path):
    """As another program writes them: 0.4 without `ome`, nanometre, no translation."""
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.create_array("s0", shape=(2, 3, 4), dtype="f4")[...] = 1
    root.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"],
            "datasets": [
                {
                    "path": "s0",
                    "coordinateTransformations": [{"type": "scale", "scale": [0.16, 0.02, 0.02]}],
                }
            ],
        }
    ]
    volume, provenance = read_reconstruction(tmp_path / "a.zarr")
    assert volume.voxel_size_A == pytest.approx((1.6, 0.2, 0.2))
    assert volume.origin_A == (0, 0, 0)
    assert provenance == {}
    assert (volume.data == 1).all()


def test_a_folder_without_permission_is_found_out_before_the_work(tmp_path, monkeypatch):
    # root may write anywhere, so the system's answer is stood in for
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ExportError, match="no permission to write in"):
        check_target(tmp_path / "out.ome.zarr")
