"""Model files, which may come from somebody else: nothing in one is run, imported, unpacked without a bound or read from elsewhere.

A .keras file is a zip of config.json (the layers) and model.weights.h5. Keras's safe mode refuses code in it (lambdas); what it takes on
trust is checked here first: sizes, links of the HDF5 file, the packages of the layers, and that the layers are as large as the weights.
"""

from __future__ import annotations

import json
import random
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import ops
from keras.src.backend.common import global_state

from common.device import stop_autotuning
from common.errors import UsageError
from common.startup import without_startup_lines

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
# The largest network of keras.applications, ConvNeXtXLarge, has 1.4 GB of weights and a config of half a megabyte.
MOST_BYTES = {CONFIG: 32 * 2**20, WEIGHTS: 4 * 2**30, METADATA: 2**20}
# Keras stores without compressing; somebody may have packed the file anew, but weights do not shrink much.
MOST_RATIO, FREE = 20, 16 * 2**20


def read_model(path: Path) -> keras.Model:
    """The model in a .keras file, without its training state.

    The packages whose layers it may hold must have been imported (`common.backbones`, the study's `models`).

    Raises:
        UsageError: missing, damaged, larger than its bounds, of unknown layers, or with weights that are not finite.
    """
    path = Path(path)
    stop_autotuning()  # who reads a model predicts with it
    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not get that far (start it again to go on)")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is damaged or cut off (no whole archive); copy it again, or train the run again")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(path, archive)
            config = json.loads(archive.read(CONFIG))
            stored = _stored_values(path, archive)
        _check_layers(path, config)
        _check_size(path, config, stored)
        with without_startup_lines():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except UsageError:
        raise
    except (Exception, RecursionError, MemoryError) as error:  # a hostile file makes zipfile, h5py and Keras fail in any way
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"{path}: cannot be loaded ({said})") from None
    for variable in model.weights:
        values = ops.convert_to_numpy(variable)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise UsageError(f"{path}: the weights {variable.path} are not finite; the model is damaged or its training diverged")
    return model


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise UsageError(f"{path}: no Keras model ({name} is missing in it)")
    for entry in entries:
        if entry.filename not in MOST_BYTES or names.count(entry.filename) > 1 or stat.S_ISLNK(entry.external_attr >> 16):
            raise UsageError(f"{path}: holds {entry.filename[:60]!r} (twice, or at all); expected {', '.join(MOST_BYTES)}")
        if entry.flag_bits & 1:
            raise UsageError(f"{path}: is encrypted; expected a .keras file as Keras writes it")
        most = min(MOST_BYTES[entry.filename], MOST_RATIO * entry.compress_size + FREE)
        if entry.file_size > most:
            raise UsageError(f"{path}: {entry.filename} unpacks to {entry.file_size / 2**20:.0f} MiB; at most {most / 2**20:.0f} are read")


def _stored_values(path: Path, archive: zipfile.ZipFile) -> int:
    """How many numbers the weights file holds, all of them in the file itself."""
    count, size = 0, archive.getinfo(WEIGHTS).file_size
    with archive.open(WEIGHTS) as file, h5py.File(file, "r") as weights:
        groups = [weights]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UsageError(f"{path}: the weights {group.name}/{name} are a link; expected the weights themselves")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif item.external or item.is_virtual or item.nbytes > size:
                    raise UsageError(f"{path}: the weights {item.name} are not in the file itself")
                else:
                    count += item.size
    return count


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a config, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_layers(path: Path, config: Any) -> None:
    """Only Keras's own layers and those that this project has registered; nothing is imported by a name in the file."""
    for layer in _layers(config):
        module, registered = layer.get("module"), layer.get("registered_name")
        ours = isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None
        known = module in (None, "builtins", "keras") or (isinstance(module, str) and module.startswith("keras."))
        if not (ours or known):
            what = f"{str(layer['class_name'])[:60]!r} of {str(module)[:60]!r}"
            raise UsageError(f"{path}: has a layer {what}, which is none of Keras or this project")


def _check_size(path: Path, config: dict[str, Any], stored: int) -> None:
    """The layers' variables must be in the file. They are counted without memory for them: a config may ask for any size."""
    # Keras notes variables without a value, to give them one later, and draws seeds for layers: as if this model had never been.
    waiting = global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before, drawn = list(waiting), random.getstate()
    try:
        with keras.StatelessScope(initialize_variables=False):
            # Without its training: an optimizer brings numbers of its own, which such a scope does not take.
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)
            wanted = sum(int(np.prod(variable.shape)) for variable in getattr(model, "weights", ()))
    finally:
        waiting[:] = before
        random.setstate(drawn)
    if not isinstance(model, keras.Model):
        raise UsageError(f"{path}: holds no model")
    if wanted > stored:
        raise UsageError(f"{path}: its layers have {wanted:,} weights, the file {stored:,}")
