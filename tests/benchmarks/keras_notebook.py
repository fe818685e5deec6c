"""The Keras notebook's job by itself, for its time: `main_job.py --keras` runs it in an environment with TensorFlow.

    PYTHON tests/benchmarks/keras_notebook.py --images DIR/dataset2-master/dataset2-master/images [--timed 15]

Frozen MobileNetV2, global max pooling, Dense(256), Dense(4), Adam, batches of 32, an 80/20 split of TRAIN, then TEST.
The weights are random, as the time does not depend on them and Keras would download its own; so no epoch is left out by
early stopping. Prints the seconds of each epoch, and those of 15 epochs and test without imports. With `--timed N`, N
epochs run, and each of the others counts as the mean of those after the first, which also builds the graph.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import tensorflow as tf

SIZE, BATCH, SEED, EPOCHS = (224, 224), 32, 0, 15


def table(folder):
    """Return the files below a folder of class folders, with their labels."""
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    return pd.DataFrame({"path": map(str, files), "label": [file.parent.name for file in files]})


def batches(rows, shuffle):
    """Return the notebook's batches of files."""
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        preprocessing_function=tf.keras.applications.mobilenet_v2.preprocess_input
    )
    return generator.flow_from_dataframe(
        rows, x_col="path", y_col="label", target_size=SIZE, batch_size=BATCH, shuffle=shuffle, seed=SEED
    )


def network(classes):
    """Return the notebook's net."""
    backbone = tf.keras.applications.MobileNetV2(input_shape=(*SIZE, 3), include_top=False, weights=None, pooling="max")
    backbone.trainable = False
    hidden = tf.keras.layers.Dense(256, activation="relu")(backbone.output)
    outputs = tf.keras.layers.Dense(classes, activation="softmax")(hidden)
    model = tf.keras.Model(backbone.input, outputs)
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


class Clock(tf.keras.callbacks.Callback):
    """Records the seconds of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the folder with TRAIN and TEST")
    parser.add_argument("--timed", type=int, default=EPOCHS, help="epochs that run")
    options = parser.parse_args()
    rows = table(options.images / "TRAIN").sample(frac=1, random_state=SEED)
    cut, clock = round(0.8 * len(rows)), Clock()
    model, start = network(rows["label"].nunique()), time.perf_counter()
    parts = {"validation_data": batches(rows[cut:], False), "epochs": options.timed}
    model.fit(batches(rows[:cut], True), callbacks=[clock], verbose=2, **parts)
    model.evaluate(batches(table(options.images / "TEST"), False), verbose=2)
    later = clock.seconds[1:] or clock.seconds
    seconds = time.perf_counter() - start + (EPOCHS - options.timed) * sum(later) / len(later)
    print("seconds of each epoch:", *(f"{one:.1f}" for one in clock.seconds))
    by = f" by {options.timed} timed" if options.timed < EPOCHS else ""
    print(f"TensorFlow {tf.__version__}, {EPOCHS} epochs{by} and test: {seconds:.1f} s")


if __name__ == "__main__":
    main()
