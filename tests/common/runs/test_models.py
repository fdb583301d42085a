"""Hostile and damaged model files: one line each, nothing run, nothing unpacked without a bound, nothing read from elsewhere."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from common.errors import UsageError
from common.runs.models import read_model


def small() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.RandomFlip("horizontal")(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="predictions")(x))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    small().save(path)
    return path


def rewritten(source: Path, target: Path, name: str, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", compression) as changed:
        for entry in archive.namelist():
            changed.writestr(entry, change(archive.read(entry)) if entry == name else archive.read(entry))
    return target


def weights(change: Callable[[h5py.File], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        buffer = io.BytesIO(content)
        with h5py.File(buffer, "r+") as file:
            change(file)
        return buffer.getvalue()

    return apply


def dataset(file: h5py.File) -> h5py.Dataset:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" else None)
    return file[found[0]]


def test_an_honest_model_is_what_was_saved(whole: Path) -> None:
    again = read_model(whole)
    for saved, read in zip(keras.saving.load_model(whole, compile=False).get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, read)


def test_weights_that_are_no_numbers_are_refused(whole: Path, tmp_path: Path) -> None:
    def spoil(file: h5py.File) -> None:
        dataset(file)[...] = np.nan

    with pytest.raises(UsageError, match="are not finite"):
        read_model(rewritten(whole, tmp_path / "m.keras", "model.weights.h5", weights(spoil)))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("units", [3, 2**20, 2**31, 2**62])
def test_layers_larger_than_the_weights_are_refused_before_they_take_memory(
    whole: Path, tmp_path: Path, units: int, compiled: bool
) -> None:
    if compiled:  # its optimizer is in the file too
        model, whole = small(), tmp_path / "compiled.keras"
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        model.save(whole)
        read_model(whole)

    def grow(content: bytes) -> bytes:
        return content.replace(b'"units": 2', b'"units": %d' % units)

    began = time.monotonic()
    # Keras itself refuses what no machine can hold.
    with pytest.raises(UsageError, match=r"its layers have [0-9,]+ weights, the file" if units < 2**31 else "its layers|cannot be loaded"):
        read_model(rewritten(whole, tmp_path / "m.keras", "config.json", grow))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("module", ["os", "received.layers", "keras_hub.layers", "kerasx", "builtins.os", ["keras"]])
def test_layers_of_unknown_packages_are_refused(whole: Path, tmp_path: Path, module: object) -> None:
    def foreign(content: bytes) -> bytes:
        config = json.loads(content)
        config["config"]["layers"][1] |= {"module": module, "class_name": "system", "registered_name": None}
        return json.dumps(config).encode()

    with pytest.raises(UsageError, match="has a layer 'system' of .* none of Keras or this project"):
        read_model(rewritten(whole, tmp_path / "m.keras", "config.json", foreign))


def test_links_out_of_the_weights_are_refused(whole: Path, tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        name = dataset(file).name
        del file[name]
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")

    def outside(file: h5py.File) -> None:
        name, shape = dataset(file).name, dataset(file).shape
        del file[name]
        (tmp_path / "secret").write_bytes(b"s" * 10_000)
        file.create_dataset(name, shape, "float32", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])

    def huge(file: h5py.File) -> None:
        name = dataset(file).name
        del file[name]
        file.create_dataset(name, (2**40,), "float32", chunks=(2**10,))

    for change in (link, outside, huge):
        with pytest.raises(UsageError, match="are a link|not in the file itself"):
            read_model(rewritten(whole, tmp_path / "m.keras", "model.weights.h5", weights(change)))


def test_a_zip_bomb_is_not_unpacked(whole: Path, tmp_path: Path) -> None:
    bomb = rewritten(whole, tmp_path / "m.keras", "model.weights.h5", lambda _: bytes(300 * 2**20), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**20
    with pytest.raises(UsageError, match=r"model.weights.h5 unpacks to 300 MiB; at most \d+ are read"):
        read_model(bomb)


def test_damaged_and_foreign_files_are_one_line(whole: Path, tmp_path: Path) -> None:
    content, path = whole.read_bytes(), tmp_path / "m.keras"
    middle = len(content) // 2
    for bad in (b"", b"no zip", content[:middle], content[:middle] + b"\xff" * 200 + content[middle + 200 :], content[:-20]):
        path.write_bytes(bad)
        with pytest.raises(UsageError, match=r"m\.keras") as error:
            read_model(path)
        assert "\n" not in str(error.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", b"x")
    with pytest.raises(UsageError, match="no Keras model"):
        read_model(path)
    encrypted = bytearray(content)
    for place in range(len(encrypted) - 4):  # the flag of every entry in the central directory
        if encrypted[place : place + 4] == b"PK\x01\x02":
            encrypted[place + 8] |= 1
    path.write_bytes(bytes(encrypted))
    with pytest.raises(UsageError, match="is encrypted"):
        read_model(path)
    with pytest.raises(UsageError, match="is missing"):
        read_model(tmp_path / "none.keras")
