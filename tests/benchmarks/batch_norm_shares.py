"""What batch-norm adaptation gains or costs by the number of images and the shares of their classes.

    python tests/benchmarks/batch_norm_shares.py READER FOLDER [--counts 8 32 100] [--weights 0.1 0.25 0.5 0.75 0.95]

READER has never seen the laboratory whose class folders FOLDER holds. One half of the cells gives the statistics, in
equal shares or 90 : 10 of two classes; the other half tests. A weight is that of the new statistics beside those of
training; `adapt=batch_norm` takes n / (n + 16). Prints the gain in mean recall of the classes that are there.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bloodcell.data.decoder import decode_all
from bloodcell.data.folders import image_files, visible_folders
from bloodcell.data.preprocessing import Preprocessing
from bloodcell.inference.adaptation import BATCH, PRIOR, adapt_batch_norm
from bloodcell.models.classifier import load_classifier
from bloodcell.runtime.errors import folded
from bloodcell.runtime.run_folder import checkpoint_of

MOST = 100  # cells of a class


def cells_of(folder, preprocessing, rng):
    """Return at most `MOST` decoded cells of a class folder, uint8 (N, 3, size, size), mixed."""
    files = rng.permutation(sorted(map(str, image_files(folder))))[:MOST]
    return torch.from_numpy(decode_all(list(files), preprocessing, 1)).permute(0, 3, 1, 2)


def norms(net):
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


def mixed(net, adapted, own, weight):
    """Return a net with statistics between its own and those of a net that was adapted with the weight `own`."""
    made = copy.deepcopy(net)
    for norm, other in zip(norms(made), norms(adapted), strict=True):
        for value, new in ((norm.running_mean, other.running_mean), (norm.running_var, other.running_var)):
            value.add_((new - value) / own * weight)
        norm.running_var.clamp_(min=0)
    return made.eval()


@torch.no_grad()
def recall(net, tested, classes):
    """Return the mean recall of the classes of `tested`, class -> cells."""
    found = []
    for name, cells in tested.items():
        guesses = torch.cat([net(batch) for batch in cells.split(BATCH)]).argmax(dim=1)
        found.append((guesses == classes.index(name)).float().mean().item())
    return float(np.mean(found))


def designs(names):
    """Return the shares of each design: equal ones, and 90 : 10 of each class and the next one."""
    pairs = zip(names, [*names[1:], names[0]], strict=True)
    return {"equal": dict.fromkeys(names, 1 / len(names))} | {f"90 {a} : 10 {b}": {a: 0.9, b: 0.1} for a, b in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[8, 32, 100])
    parser.add_argument("--weights", nargs="+", type=float, default=[0.1, 0.25, 0.5, 0.75, 0.95])
    given = parser.parse_args()
    classifier, rng = load_classifier(checkpoint_of(given.reader)), np.random.default_rng(0)
    net, preprocessing = classifier.net, Preprocessing(**classifier.hparams["preprocessing"])
    classes = list(map(folded, classifier.classes))
    folders = {folded(one.name): one for one in visible_folders(given.folder) if folded(one.name) in classes}
    cells = {name: cells_of(folder, preprocessing, rng) for name, folder in folders.items()}
    halves = {name: (one[: len(one) // 2], one[len(one) // 2 :]) for name, one in cells.items()}
    rows = []
    for design, shares in designs(list(cells)).items():
        tested = {name: halves[name][1] for name in shares}
        before = recall(net, tested, classes)
        for count in given.counts:
            drawn = torch.cat([halves[name][0][: round(count * share)] for name, share in shares.items()])
            adapted = copy.deepcopy(net)
            adapt_batch_norm(adapted, drawn[torch.from_numpy(rng.permutation(len(drawn)))].split(BATCH))
            own = len(drawn) / (PRIOR + len(drawn))
            for weight in given.weights:
                gain = 100 * (recall(mixed(net, adapted, own, weight), tested, classes) - before)
                rows.append((design, len(drawn), round(100 * before, 1), weight, gain))
    table = pd.DataFrame(rows, columns=["shares", "images", "without", "weight", "gain"])
    print(
        table.pivot_table(index=["shares", "images", "without"], columns="weight", values="gain").round(1).to_string()
    )


if __name__ == "__main__":
    main()
