"""A small training run in a process of its own, for tests that kill it: `python train_once.py RUN_DIR [STEP [SIGNAL]]`."""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from common import device, stopping
from common.runs.fitting import fit
from common.runs.folder import Run


class _Order(keras.utils.PyDataset):
    """Batches whose order and noise depend on the epoch, as the project's pipeline does it."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__()
        self.x, self.y, self.epoch = x, y, 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.random.default_rng([7, self.epoch]).permutation(len(self.x))[index * 8 : index * 8 + 8]
        noise = np.random.default_rng([8, self.epoch, index]).normal(0, 0.1, self.x[rows].shape).astype("float32")
        return self.x[rows] + noise, self.y[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1


class _Kill(keras.callbacks.Callback):
    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self.left, self.number = [step], number  # a list: the numbers of a callback are saved and restored

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.left[0] -= 1
        if self.left[0] == 0:
            os.kill(os.getpid(), self.number)


def main(folder: Path, kill_after: int | None, number: int = signal.SIGKILL) -> None:
    device.configure(3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    y = rng.integers(0, 3, 32)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=device.jit_compile())
    run = Run.open("test", "train", {"seed": 3}, run_dir=folder)
    fit(
        model,
        _Order(x, y),
        run=run,
        stage="only",
        epochs=6,
        validation=(x, y),
        select="best",
        patience=5,
        reduce_lr={"monitor": "val_loss", "patience": 1, "factor": 0.5},
        extra_callbacks=[] if kill_after is None else [_Kill(kill_after, number)],
    )
    np.savez(folder / "weights.npz", *[np.asarray(v) for v in model.weights], predictions=model.predict(x, verbose=0))


if __name__ == "__main__":
    try:
        with stopping.handled():
            main(Path(sys.argv[1]), *map(int, sys.argv[2:4])) if len(sys.argv) > 2 else main(Path(sys.argv[1]), None)
    except (KeyboardInterrupt, stopping.Terminated) as stop:
        sys.exit(stopping.exit_code(stop))
