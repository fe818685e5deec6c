"""The Keras notebook's job by itself, for its time: `main_job.py --keras` runs it in an environment with TensorFlow.

    PYTHON tests/benchmarks/keras_notebook.py --images DIR/dataset2-master/dataset2-master/images [--epochs 15]

Frozen MobileNetV2, global max pooling, Dense(256), Dense(4), Adam, batches of 32, an 80/20 split of TRAIN, then TEST.
The weights are random, as the time does not depend on them and Keras would download its own; so no epoch is left out by
early stopping. Prints the seconds of training and test, without imports.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import tensorflow as tf

SIZE, BATCH, SEED = (224, 224), 32, 0


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the folder with TRAIN and TEST")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    rows = table(options.images / "TRAIN").sample(frac=1, random_state=SEED)
    cut = round(0.8 * len(rows))
    model, start = network(rows["label"].nunique()), time.perf_counter()
    model.fit(batches(rows[:cut], True), validation_data=batches(rows[cut:], False), epochs=options.epochs, verbose=2)
    model.evaluate(batches(table(options.images / "TEST"), False), verbose=2)
    print(f"TensorFlow {tf.__version__}, {options.epochs} epochs and test: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
