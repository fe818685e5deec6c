"""How well a run tells what is unlike its training data, against how sure it is of itself.

    python tests/benchmarks/unlike.py RUN KNOWN UNKNOWN...

KNOWN: a part of the run that no training has seen and that set no threshold, e.g. test, or a folder of such images.
UNKNOWN: folders of what should be flagged, e.g. one of each class that was left out; `blank` and `everyday` are made
here: fields of one colour, with and without noise, and photographs, text and textures. Prints for each the area under
the ROC curve against KNOWN, the same of the highest probability, and the share that is flagged.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

from bloodcell.data.images import EXTENSIONS
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.data.samples import read_samples
from bloodcell.inference.backends import Backbone
from bloodcell.inference.features import probabilities_of
from bloodcell.models.classifier import load_classifier
from bloodcell.models.ood import score
from bloodcell.runtime import run_folder

COLOURS = [(255,) * 3, (0,) * 3, (128,) * 3, (235, 215, 200), (250, 225, 210), (200, 160, 200), (100, 40, 120)]


def blank():
    """Return fields of one colour, with noise of some strengths."""
    rng = np.random.default_rng(0)
    fields = [
        np.full((360, 360, 3), colour) + rng.normal(0, s, (360, 360, 3)) for colour in COLOURS for s in (0, 3, 15)
    ]
    return [np.clip(field, 0, 255).astype(np.uint8) for field in fields]


def everyday():
    """Return cut-outs of photographs, waves of two colours, noise of several grains, and text."""
    rng, found = np.random.default_rng(0), []
    for photograph in load_sample_images().images:
        for size in rng.integers(120, min(photograph.shape[:2]), 15):
            y, x = (rng.integers(0, side - size) for side in photograph.shape[:2])
            found.append(np.array(photograph[y : y + size, x : x + size]))
    y, x = np.mgrid[:360, :360]
    for rate, angle in rng.uniform((0.02, 0), (0.5, np.pi), (10, 2)):
        wave = (np.sin(rate * (x * np.cos(angle) + y * np.sin(angle)))[..., None] + 1) / 2
        one, other = rng.uniform(0, 255, (2, 3))
        found.append((one * wave + other * (1 - wave)).astype(np.uint8))
    for side in (360, 90, 20, 6):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        found.append(np.array(noise.resize((360, 360), Image.Resampling.BICUBIC)))
    for lines in (3, 10, 25):
        page = Image.new("RGB", (360, 360), (255, 255, 255))
        for line in range(lines):
            ImageDraw.Draw(page).text((5, 5 + 14 * line), "The quick brown fox jumps over the lazy dog", fill=(0, 0, 0))
        found.append(np.array(page))
    return found


def images_of(name, run):
    """Return the images that a word on the command line means: files or arrays."""
    if name in ("blank", "everyday"):
        return {"blank": blank, "everyday": everyday}[name]()
    if Path(name).is_dir():
        return sorted(file for file in Path(name).rglob("*") if file.suffix.lower() in EXTENSIONS)
    return read_samples(run / "samples.csv").of_split(name).files()


def judged(classifier, items):
    """Return the score of each image, and how unsure the classifier is of it."""
    preprocessing = Preprocessing(**classifier.hparams["preprocessing"])
    forward = Backbone(classifier.net, preprocessing.image_size, "eager").forward()
    groups = [items[start : start + 32] for start in range(0, len(items), 32)]
    features = np.concatenate(
        [forward.run(np.stack([preprocessing.read(one)[0] for one in group])) for group in groups]
    )
    return score(classifier.limits, features), -probabilities_of(classifier.net, torch.from_numpy(features)).max(axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("known")
    parser.add_argument("unknown", nargs="+")
    given = parser.parse_args()
    classifier = load_classifier(run_folder.checkpoint_of(given.run))
    if classifier.limits is None:
        parser.error(f"{given.run} knows no limits")
    found = {name: judged(classifier, images_of(name, given.run)) for name in (given.known, *given.unknown)}
    known = found.pop(given.known)
    threshold = classifier.limits.threshold
    print(f"{given.known}: {len(known[0])} images, {100 * (known[0] > threshold).mean():.1f} % flagged")
    if len(found) > 1:
        found["all of these"] = tuple(np.concatenate(parts) for parts in zip(*found.values(), strict=True))
    for name, values in found.items():
        truth = np.repeat([0, 1], [len(known[0]), len(values[0])])
        areas = [roc_auc_score(truth, np.r_[one, other]) for one, other in zip(known, values, strict=True)]
        flagged = 100 * (values[0] > threshold).mean()
        print(
            f"{name}: {len(values[0])} images, {flagged:.1f} % flagged; "
            f"AUROC {areas[0]:.3f}, of the highest probability {areas[1]:.3f}"
        )


if __name__ == "__main__":
    main()
