"""Painted fields: several photographs side by side."""

import numpy as np

from bloodcell.data.synthetic.painter import CLASSES, paint_photograph


def field(seed, across=2, down=2):
    """Paint a field, uint8 (240 * down, 320 * across, 3), with a white cell in each part."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, size=(down, across))
    return np.concatenate(
        [np.concatenate([paint_photograph(label, rng)[0] for label in row], axis=1) for row in labels], axis=0
    )
