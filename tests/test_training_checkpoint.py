"""Checkpoints: what is saved comes back, and no bad file gets anywhere near a model."""

import io
import json
import zipfile

import numpy as np
import pytest
from training_helpers import adamw, assert_same_state, sgd, small_data, small_model

from numbabn import nn
from numbabn.training import CheckpointError, History, Place, Record, checkpoint, fit, load_checkpoint, save_checkpoint

ARRAY = "model/1.weight"


@pytest.fixture
def trained():
    """A model and an optimiser with nothing left at its first value."""
    model = small_model()
    optimizer = sgd(model)
    fit(model, small_data(), optimizer, epochs=1, batch_size=16, progress=False)
    return model, optimizer


@pytest.fixture
def saved(tmp_path, trained):
    path = tmp_path / "last.npz"
    save_checkpoint(path, *trained, place())
    return path


def place():
    record = Record(1, 0.1, 0.5, 0.75, 1 / 3, 0.7, 1e4, 0.25)
    return Place({"seed": 3}, History([record]), epoch=1, batch=2, images=32, correct=11, loss=0.1 + 0.2, seconds=0.125)


def rewritten(path, **changes):
    """The file with arrays replaced, added, or (None) left out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(path, **arrays)


def metadata(path, **changes):
    """The file's metadata with some entries changed."""
    with np.load(path) as file:
        return np.array(json.dumps({**json.loads(str(file["metadata"])), **changes}))


def with_header(path, name, header, data=b""):
    """The file with one member made of a header as told and these bytes."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, header)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members[f"{name}.npy"] = text.getvalue() + data
    with zipfile.ZipFile(path, "w") as archive:
        for filename, content in members.items():
            archive.writestr(filename, content)


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
def test_what_is_saved_comes_back(tmp_path, make_optimizer):
    model = small_model()
    optimizer = make_optimizer(model)
    fit(model, small_data(), optimizer, epochs=1, batch_size=16, progress=False)
    save_checkpoint(tmp_path / "a.npz", model, optimizer, place())
    other = small_model()
    other_optimizer = make_optimizer(other)
    assert load_checkpoint(tmp_path / "a.npz", other, other_optimizer) == place()
    assert checkpoint.load_place(tmp_path / "a.npz") == place()
    assert_same_state(other, model)
    assert_same_state(other_optimizer, optimizer)


def test_a_model_can_be_loaded_alone(saved, trained):
    other = small_model()
    load_checkpoint(saved, other)
    assert_same_state(other, trained[0])


def test_numpy_opens_it_without_pickle(saved, trained):
    with np.load(saved, allow_pickle=False) as file:
        np.testing.assert_array_equal(file[ARRAY], trained[0].state_dict()["1.weight"])
        assert json.loads(str(file["metadata"]))["version"] == 1


def test_a_save_that_fails_leaves_the_old_file(saved, trained, monkeypatch):
    before = saved.read_bytes()

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, *trained, Place({}))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.npz"]


(ROW,) = place().history.rows()

BAD = {
    "text": (lambda path: path.write_text("hello"), "is not a checkpoint: it is no npz file"),
    "empty": (lambda path: path.write_bytes(b""), "is not a checkpoint: it is no npz file"),
    "other npz": (lambda path: np.savez(path, x=np.arange(3)), "is not a checkpoint: it has no metadata"),
    "compressed": (lambda path: np.savez_compressed(path, metadata=np.array("x" * 99)), "metadata.npy is compressed"),
    "metadata numbers": (lambda path: rewritten(path, metadata=np.arange(3)), "its metadata are int64"),
    "metadata pickled": (
        lambda path: rewritten(path, metadata=np.array({"format": 1}, dtype=object)),
        "metadata holds Python objects",
    ),
    "metadata no json": (lambda path: rewritten(path, metadata=np.array("{")), "truncated or damaged"),
    "metadata nested": (lambda path: rewritten(path, metadata=np.array("[" * 99_999)), "truncated or damaged"),
    "metadata a list": (lambda path: rewritten(path, metadata=np.array("[1]")), "is not a checkpoint: its metadata"),
    "other format": (lambda path: rewritten(path, metadata=metadata(path, format="x")), "its metadata do not say"),
    "other version": (
        lambda path: rewritten(path, metadata=metadata(path, version=2)),
        "has format version 2; this numbabn reads version 1",
    ),
    "more entries": (lambda path: rewritten(path, metadata=metadata(path, more=1)), "truncated or damaged"),
    "epoch": (lambda path: rewritten(path, metadata=metadata(path, epoch=2)), "truncated or damaged: its place"),
    "batch": (lambda path: rewritten(path, metadata=metadata(path, batch=-1)), "truncated or damaged: its place"),
    "loss": (lambda path: rewritten(path, metadata=metadata(path, loss=float("nan"))), "its metadata hold NaN"),
    "huge": (lambda path: rewritten(path, metadata=metadata(path, loss=10**400)), "damaged: its loss and seconds"),
    "huge in history": (
        lambda path: rewritten(
            path, metadata=metadata(path, history=[{**place().history.rows()[0], "seconds": 10**400}])
        ),
        "truncated or damaged",
    ),
    "config": (lambda path: rewritten(path, metadata=metadata(path, config=[])), "its config is"),
    "history": (lambda path: rewritten(path, metadata=metadata(path, history=[{}])), "row 1 of the history"),
    "missing array": (lambda path: rewritten(path, **{ARRAY: None}), f"another model or optimiser: it lacks {ARRAY}"),
    "extra array": (lambda path: rewritten(path, more=np.arange(3)), "optimiser: it has unexpected more"),
    "shape": (lambda path: rewritten(path, **{ARRAY: np.zeros((8, 15), np.float32)}), r"shape \(8, 15\); expected"),
    "dtype": (lambda path: rewritten(path, **{ARRAY: np.zeros((8, 16))}), f"{ARRAY} is float64 .* expected float32"),
    "pickled": (
        lambda path: rewritten(path, **{ARRAY: np.zeros((8, 16), dtype=object)}),
        f"{ARRAY} holds Python objects",
    ),
    "huge shape": (
        lambda path: with_header(path, ARRAY, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}),
        "truncated or damaged: .* has not the size",
    ),
    "short data": (
        lambda path: with_header(path, ARRAY, {"descr": "<f4", "fortran_order": False, "shape": (8, 16)}, b"1234"),
        "truncated or damaged: .* has not the size",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_and_change_nothing(saved, kind):
    spoil, message = BAD[kind]
    spoil(saved)
    model, untouched = small_model(), small_model()
    optimizer, untouched_optimizer = sgd(model), sgd(untouched)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved, model, optimizer)
    assert_same_state(model, untouched)
    assert_same_state(optimizer, untouched_optimizer)


def test_a_checkpoint_of_another_optimiser_is_refused(saved):
    model, untouched = small_model(), small_model()
    with pytest.raises(CheckpointError, match="another model or optimiser"):
        load_checkpoint(saved, model, nn.AdamW(model))
    assert_same_state(model, untouched)


def test_a_checkpoint_of_a_wider_model_is_refused(saved):
    model = small_model(width=9)
    with pytest.raises(CheckpointError, match=r"shape \(8, 16\); expected float32 of shape \(9, 16\)"):
        load_checkpoint(saved, model, sgd(model))


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    model, untouched = small_model(), small_model()
    for length in range(0, len(whole), 37):
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"truncated or damaged|is not a checkpoint"):
            load_checkpoint(saved, model, sgd(model))
    assert_same_state(model, untouched)


def test_flipped_bits_are_refused_or_harmless(saved, trained):
    """Bits of data are covered by checksums; some bits of a zip file's directory (dates, say) mean nothing."""
    whole = np.frombuffer(saved.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 300):
        spoilt = whole.copy()
        spoilt[position] ^= 1 << rng.integers(8)
        saved.write_bytes(spoilt.tobytes())
        model, untouched = small_model(), small_model()
        try:
            assert load_checkpoint(saved, model) == place()
            assert_same_state(model, trained[0])
        except CheckpointError:
            refused += 1
            assert_same_state(model, untouched)
    assert refused > 100


def test_a_missing_file_is_an_os_error(tmp_path):
    model = small_model()
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.npz", model)
