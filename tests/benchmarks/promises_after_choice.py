"""Whether an error rate is kept that is promised on the sources that also chose the epoch.

    python tests/benchmarks/promises_after_choice.py [--runs 200]

The nets of all epochs are equally good, so the one with the least validation loss was lucky. The margin of the right
class is normal about a mean; it has a correlation between epochs. Each line has, over the runs: in how many a rate was
promised, in how many the true risk was above it (10 % are allowed), and the share of new images that is answered. Old:
as if there had been one epoch. New: `promise(..., compared=epochs)`.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm

from bloodcell.metrics.abstention import promise

SOURCES, RATES, MEANS, EPOCHS, CORRELATIONS = (60, 150, 400), (0.05, 0.1), (1.0, 1.5, 2.0), (1, 15, 40), (0.0, 0.5, 0.9)


def chosen(rng, sources, mean, epochs, correlation):
    """Return the predictions of the epoch with the least loss on a validation part, one image a source."""
    margin = mean + np.sqrt(correlation) * rng.normal(size=sources)
    margin = margin + np.sqrt(1 - correlation) * rng.normal(size=(epochs, sources))
    best = margin[np.logaddexp(0, -2 * margin).mean(axis=1).argmin()]
    names = [f"{number}" for number in range(sources)]
    rows = pd.DataFrame({"path": names, "source": names, "label": "a", "prediction": np.where(best > 0, "a", "b")})
    return rows.assign(p_a=expit(2 * best), p_b=expit(-2 * best))


def outcome(threshold, mean):
    """Return the share of all images at or above a threshold, and the risk among them."""
    least = logit(max(threshold, 0.5)) / 2
    wrong, right = norm.cdf(-least - mean), norm.sf(least - mean)
    return wrong + right, wrong / max(wrong + right, 1e-300)


def summary(made, mean, rate):
    """Return the share of runs with a promise, that of broken promises, and the mean share that is answered."""
    found = [outcome(one.threshold, mean) if one.attained else (0.0, 0.0) for one in made]
    return np.mean([one.attained for one in made]), *np.mean([(risk > rate, share) for share, risk in found], axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    given, rng, broken = parser.parse_args(), np.random.default_rng(0), []
    settings = ((s, r, m, e, c) for s in SOURCES for r in RATES for m in MEANS for e in EPOCHS for c in CORRELATIONS)
    for sources, rate, mean, epochs, correlation in settings:
        if epochs == 1 and correlation:
            continue
        runs = [chosen(rng, sources, mean, epochs, correlation) for _ in range(given.runs)]
        rules = [summary([promise(rows, rate, n) for rows in runs], mean, rate) for n in (1, epochs)]
        text = "; ".join(
            f"{name}: promised {100 * made:3.0f} %, broken {100 * failed:4.1f} %, answered {100 * share:3.0f} %"
            for name, (made, failed, share) in zip(("old", "new"), rules, strict=True)
        )
        print(
            f"{sources} sources, {100 * outcome(0, mean)[1]:.1f} % errors, at most {100 * rate:.0f} % promised, "
            f"{epochs:2} epochs (correlation {correlation}): {text}"
        )
        broken.append((sources, [failed for _, failed, _ in rules]))
    for sources in SOURCES:
        old, new = np.max([rules for count, rules in broken if count == sources], axis=0)
        print(f"{sources} sources, worst setting: broken in {100 * old:.1f} % (old), {100 * new:.1f} % (new)")


if __name__ == "__main__":
    main()
