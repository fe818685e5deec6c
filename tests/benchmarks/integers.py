"""What 8-bit integers cost the features of a frozen net: error and rate by how many convolutions stay in float32.

    python tests/benchmarks/integers.py RUN [--counts 0 1 2 3 4 5 6] [--images 200]

RUN: a run with training and validation images. The error is that of validation images' features, in parts of their
variance; the rate is on one core, in parts of that of float32.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from bloodcell.data.decoder import decode_all
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import read_samples
from bloodcell.inference.backends import BATCH, _Features, exported
from bloodcell.inference.quantisation import calibration, quantised, relative_rate
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime import run_folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=range(7))
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    classifier = load_classifier(run_folder.checkpoint_of(given.run))
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    samples = read_samples(given.run / "samples.csv")
    files = samples.of_split("val").paths()
    images = decode_all(files[:: max(1, len(files) // given.images)], preprocessing, 1)
    learnt = calibration(samples.of_split("train"), preprocessing)
    content = exported(_Features(classifier.net).eval(), preprocessing.image_size, BATCH["onnx"])
    float32 = runner(content)
    before = features(float32, images)
    for count in given.counts:
        int8 = runner(quantised(content, learnt, count, ""))
        error = ((features(int8, images) - before) ** 2).sum() / ((before - before.mean(axis=0)) ** 2).sum()
        rate = relative_rate(float32, int8, preprocessing.image_size)
        print(f"{count} in float32: error {100 * error:.1f} %, {rate:.2f} times the rate", flush=True)


def runner(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def features(run, images):
    return np.concatenate([run(image[None]) for image in images])


if __name__ == "__main__":
    main()
