"""
Says which of the floors that the model is held to are met by the stored results of the comparison.

    python -m benchmarks.comparison.floors
"""

import argparse
from collections.abc import Iterator

from ..own_sets.runner import against, best_other, stored_results
from .cells import DATA_SETS, cells
from .report import APART, BASES, OURS, OWN, REGRESSIONS, WITHOUT, Found, mean_gain
from .results import difference

# With own statistics, 5-way, 1 and 5 shots, in %.
LEAST = {
    "brown": (43, 58),
    "banking77": (87.0, 96.0),
    "clinc150": (96.4, 99.3),
    "esc50": (85.5, 95.3),
    "cifar100": (55, 74),
    "omniglot": (89, 96.7),
    "fsdd": (48, 77),
    "fsdd, other speakers": (48, 70),
}
LEAST_MEAN_GAIN = {OWN: (1.4, 1.6), OURS: (0.3, 1.5)}  # over the best base, without fsdd and omniglot
MOST_BEHIND = -0.5
MOST_CALIBRATION_ERROR = 5.0
SHOTS = (1, 5)

Check = tuple[str, float, float, bool]  # what is held, its value, the bound, and whether it is met


def checks(found: Found) -> Iterator[Check]:
    """Yields what can be said from the stored results."""
    for title, bounds in LEAST.items():
        for k_shot, bound in zip(SHOTS, bounds, strict=True):
            if own := found.get(OWN, (title, 5, k_shot)):
                value = 100 * own["accuracy"]
                yield f"accuracy, own statistics, {title}, {k_shot} shots", value, bound, value >= bound
    kept = [title for title in DATA_SETS if title not in APART]
    for method, bounds in LEAST_MEAN_GAIN.items():
        for k_shot, bound in zip(SHOTS, bounds, strict=True):
            if gain := mean_gain(found, method, kept, (5, k_shot)):
                value = float(gain.split()[0])
                yield f"mean gain of {method}, {k_shot} shots", value, bound, value >= bound
    for cell in cells():
        yield from _behind(found, OWN, "the best base", BASES, cell.key)
        yield from _behind(found, WITHOUT, "raw regression", REGRESSIONS["raw"], cell.key)
        if cell.k_shot >= 15:
            yield from _behind(found, OURS, "raw regression", REGRESSIONS["raw"], cell.key)
        if own := found.get(OURS, cell.key):
            value = 100 * own["calibration_error"]
            text = f"calibration error, {cell.data_set}, {cell.n_way}-way {cell.k_shot}-shot"
            yield text, value, MOST_CALIBRATION_ERROR, value < MOST_CALIBRATION_ERROR
    for own in stored_results():
        value = 100 * against(own, best_other(own))[0]
        text = f"gain over {best_other(own)}, {own['set']}, {own['k_shot']} shots"
        yield text, value, 0.0, value >= 0


def _behind(found: Found, method: str, against_what: str, others: tuple[str, ...] | list[str], key) -> Iterator[Check]:
    one, other = found.get(method, key), found.best(others, key)
    if one is not None and other is not None:
        value = 100 * difference(one, other)[0]
        text = f"{method} over {against_what}, {key[0]}, {key[1]}-way {key[2]}-shot"
        yield text, value, MOST_BEHIND, value >= MOST_BEHIND


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    found = list(checks(Found()))
    for text, value, bound, is_met in found:
        if not is_met:
            print(f"not met: {text}: {value:.2f}, bound {bound:g}")
    print(f"{sum(is_met for *_, is_met in found)} of {len(found)} bounds are met")


if __name__ == "__main__":
    main()
