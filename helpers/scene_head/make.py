"""Train the head of the embedded scene classifier, and say how good it is.

``python -m helpers.scene_head.make PHOTOS TRUTH.csv`` writes ``head.safetensors`` and its model card ``README.md``.
TRUTH.csv has the columns id, path, author, prob_indoor, prob_natural and prob_urban. The photos are not in this
project; their features take most of the time, and are computed anew by every run.

The choices that are made here are made without the photos that they are judged on: five folds grouped by author, in
each of which the view, the transform of the features and the strength of the regularisation are chosen by four inner
folds. What there is to choose among was settled by hand, on all folds.
"""

import argparse
import datetime
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from helpers import devices, paths, progress, scene_classifier
from helpers.models import Geolocator
from helpers.scenes import SCENES

FOLDS, SEED, RESAMPLES = 5, 7, 2000
STRENGTHS = (1.0, 0.5, 0.25)  # of the L2 penalty on standardised features
PROBABILITIES = [f"prob_{scene}" for scene in SCENES]


class Shown(NamedTuple):
    """What a head is given."""

    view: str
    square_root: bool


class Choice(NamedTuple):
    """How a head is trained."""

    shown: Shown
    strength: float

    def __str__(self) -> str:
        features = "square roots" if self.shown.square_root else "features"
        return f"{self.shown.view}, {features}, strength {self.strength:g}"


CHOICES = [
    Choice(Shown(view, square_root), strength)
    for view, square_root, strength in itertools.product(scene_classifier.VIEWS, (True, False), STRENGTHS)
]
PLAIN_CHOICES = [Choice(Shown("centre", square_root=False), strength) for strength in (1.0, 0.3, 0.1, 0.03)]
PLAIN, OURS = "plain linear head on EfficientNet-Lite2", "this head"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.scene_head.make", description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("truth", type=Path)
    arguments = parser.parse_args()
    truth = read_truth(arguments.truth)
    targets = truth[PROBABILITIES].to_numpy()
    targets /= targets.sum(axis=1, keepdims=True)
    fold = folds(truth["author"])

    architectures = scene_classifier.EMBEDDED_ARCHITECTURES
    views = {view: features_of(truth, arguments.photos, architectures, view) for view in scene_classifier.VIEWS}
    seen = {Shown(view, False): found for view, found in views.items()}
    seen |= {Shown(view, True): scene_classifier.square_rooted(found) for view, found in views.items()}
    lite2 = views["centre"].chunk(len(architectures), dim=1)[-1]
    plainly_seen = {each.shown: lite2 for each in PLAIN_CHOICES}
    certain = np.eye(len(SCENES))[targets.argmax(axis=1)]
    chosen = {
        PLAIN: nested_choices(plainly_seen, certain, fold, PLAIN_CHOICES),
        OURS: nested_choices(seen, targets, fold, CHOICES),
    }
    judged = {
        "the commonest scene": commonest(certain, fold),
        PLAIN: held_out(plainly_seen, certain, fold, chosen[PLAIN]),
        OURS: held_out(seen, targets, fold, chosen[OURS]),
    }
    choice = best_choice(validation_losses(seen, targets, fold, CHOICES), range(FOLDS), CHOICES)
    weight, bias = fitted(seen[choice.shown], targets, choice.strength)

    described = {"view": choice.shown.view, "square_root": choice.shown.square_root, "strength": choice.strength}
    described |= {"photos": len(truth), "seed": SEED, "licence": "Apache-2.0"}
    # In one entry, because the entries of a file come in any order.
    metadata = {scene_classifier.METADATA: json.dumps(described)}
    with paths.replacing(scene_classifier.HEAD) as temporary:
        safetensors.torch.save_file({"weight": weight, "bias": bias}, temporary, metadata)
    card = model_card(truth, targets, judged, chosen, choice)
    with paths.replacing(scene_classifier.HEAD.with_name("README.md")) as temporary:
        temporary.write_text(card)
    print(card)


def read_truth(file: Path) -> pd.DataFrame:
    """Rows of TRUTH.csv by id; a photo of unknown author has its id for one, and so is a group of its own."""
    truth = pd.read_csv(file, dtype={"id": str, "author": str}).sort_values("id", ignore_index=True)
    truth["author"] = truth["author"].fillna(truth["id"])
    return truth


def folds(authors: pd.Series) -> NDArray[np.int64]:
    """Fold of each photo: authors in an order that their names and the seed decide, each into the smallest fold."""
    sizes, fold_of = [0] * FOLDS, {}
    photos = authors.value_counts()
    for author in sorted(photos.index, key=lambda name: hashlib.sha256(f"{SEED} {name}".encode()).digest()):
        fold_of[author] = int(np.argmin(sizes))
        sizes[fold_of[author]] += photos[author]
    return authors.map(fold_of).to_numpy()


def features_of(rows: pd.DataFrame, photos: Path, architectures: Iterable[str], view: str) -> Tensor:
    """Features of photos, networks side by side, of shape (n, features)."""
    return torch.cat([computed(rows, photos, name, view) for name in architectures], dim=1)


@torch.inference_mode()
def computed(rows: pd.DataFrame, photos: Path, architecture: str, view: str) -> Tensor:
    """Features of photos, of shape (n, features); ``ValueError`` if a photo cannot be decoded."""
    device = devices.best_device()
    network = Geolocator(architecture, {}).to(device).to(memory_format=torch.channels_last).eval()
    found = []
    for views, sound in scene_classifier.sound_batches(rows, photos, view, 64, f"{architecture}, {view}"):
        if not sound.all():
            raise ValueError(f"there are photos in {photos} that cannot be decoded: leave out their rows")
        found.append(network.features(views.to(device)).float().cpu())
    return torch.cat(found)


def commonest(certain: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of the scenes in the other folds, for each photo."""
    return np.stack([certain[fold != number].mean(axis=0) for number in fold])


def fitted(seen: Tensor, targets: NDArray[np.float64], strength: float) -> tuple[Tensor, Tensor]:
    """Weight (3, features) and bias of the multinomial logistic regression of soft targets, L2-regularised.

    The penalty is on standardised features; what is returned applies to the features as they are.
    """
    mean, deviation = seen.mean(dim=0), seen.std(dim=0) + 1e-6
    standardised, wanted = (seen - mean) / deviation, torch.from_numpy(targets).float()
    weight = torch.zeros(targets.shape[1], seen.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=100, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores = functional.linear(standardised, weight, bias)
        value = functional.cross_entropy(scores, wanted) + strength * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]  # it takes what returns a Tensor
    weight, bias = weight.detach() / deviation, bias.detach()
    return weight, bias - weight @ mean


def predicted(seen: Tensor, head: tuple[Tensor, Tensor]) -> NDArray[np.float64]:
    """Probabilities of the scenes, of shape (n, 3)."""
    return functional.linear(seen, *head).double().softmax(dim=1).numpy()


def held_out(
    seen: Mapping[Shown, Tensor], targets: NDArray[np.float64], fold: NDArray[np.int64], choices: Iterable[Choice]
) -> NDArray[np.float64]:
    """Probabilities of each photo from the head that was trained on the other folds, as chosen for its fold."""
    found = np.empty_like(targets)
    for number, choice in enumerate(choices):
        inside, features = fold != number, seen[choice.shown]
        found[~inside] = predicted(features[~inside], fitted(features[inside], targets[inside], choice.strength))
    return found


def nested_choices(
    seen: Mapping[Shown, Tensor], targets: NDArray[np.float64], fold: NDArray[np.int64], choices: Sequence[Choice]
) -> list[Choice]:
    """Choice for each fold, by heads that have seen neither it nor the inner fold that they are judged on.

    A head without two folds judges the one for the other's choice, and the other for the one's.
    """
    losses = np.full((FOLDS, FOLDS, len(choices)), np.nan)  # outer fold, inner fold
    pairs = list(itertools.combinations(range(FOLDS), 2))
    for first, second in progress.track(pairs, "choosing", unit="pairs of folds"):
        inside = (fold != first) & (fold != second)
        for place, choice in enumerate(choices):
            features = seen[choice.shown]
            head = fitted(features[inside], targets[inside], choice.strength)
            for outer, inner in ((first, second), (second, first)):
                part = fold == inner
                losses[outer, inner, place] = cross_entropy(predicted(features[part], head), targets[part])
    return [best_choice(losses[outer], set(range(FOLDS)) - {outer}, choices) for outer in range(FOLDS)]


def validation_losses(
    seen: Mapping[Shown, Tensor], targets: NDArray[np.float64], fold: NDArray[np.int64], choices: Iterable[Choice]
) -> NDArray[np.float64]:
    """Cross-entropy of each fold under each choice, from the heads that were trained on the other folds."""
    found = [held_out(seen, targets, fold, [choice] * FOLDS) for choice in choices]
    parts = [fold == number for number in range(FOLDS)]
    return np.array([[cross_entropy(shares[part], targets[part]) for shares in found] for part in parts])


def best_choice(losses: NDArray[np.float64], numbers: Iterable[int], choices: Sequence[Choice]) -> Choice:
    """Choice with the lowest mean loss over the folds `numbers`."""
    return choices[int(losses[list(numbers)].mean(axis=0).argmin())]


def cross_entropy(shares: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Mean cross-entropy of soft targets, in nats."""
    return float(-(targets * np.log(np.maximum(shares, 1e-12))).sum(axis=1).mean())


def model_card(
    truth: pd.DataFrame,
    targets: NDArray[np.float64],
    judged: Mapping[str, NDArray[np.float64]],
    chosen: Mapping[str, Iterable[Choice]],
    choice: Choice,
) -> str:
    """What the head is, how it was made and how good it is, in Markdown."""
    shares = judged[OURS]
    authors = truth["author"].nunique()
    size = scene_classifier.IMAGE_SIZE
    cut = "whole photo, squeezed to" if choice.shown.view == "whole" else "centre of the photo,"
    features = "square roots of the ImageNet features" if choice.shown.square_root else "ImageNet features"
    return f"""# Model card: the embedded scene head

**What it is.** A linear layer on the {features} of EfficientNet-Lite0 and -Lite2,
side by side, which gives a photo probabilities of the three scenes S3 of the ECCV 2018 paper: {", ".join(SCENES)}.
`head.safetensors` holds `weight` (3, 2560) and `bias` (3). The networks are shown the
{cut} {size} x {size} pixels.
`helpers.scene_classifier.load()` puts it together.

**How it was trained.** On the official scene probabilities of {len(truth):,} Flickr photos by {authors:,} authors
(Im2GPS3k and a part of YFCC25600), which a Places365 network gave them. The photos are not in this project.
Multinomial logistic regression towards these probabilities (soft targets), with an L2 penalty of {choice.strength:g}
on standardised features; the backbones stay as they are.

## How good it is

Five folds grouped by author: each photo is judged by a head that has seen no other photo of its author. What the head
is given (view: {" or ".join(scene_classifier.VIEWS)}; features or their square roots) and the strength of the penalty
were chosen for each fold by the cross-entropy of four inner folds, among {len(CHOICES)} choices:
{counted_choices(chosen[OURS])}.
Beforehand, one network and both, the views and the transforms had been compared by hand on these same folds, and both
networks kept; so the figures of this head may be a little optimistic.
The truth is the likeliest scene by the official probabilities. Intervals: 95 %, bootstrap over authors.
The plain head learns the labels, from the centre of the photos. The strength of its penalty was chosen in the same way,
among {len(PLAIN_CHOICES)}: {counted_choices(chosen[PLAIN])}.

{accuracy_lines(judged, targets, truth["author"])}

Photos by their official scene (rows) and the one that the head names (columns):

{confusion_lines(shares, targets)}

By the probability of the scene that the head names. It has learned the probabilities of the Places365 network, not how
often a scene is the likeliest, which is more often than its probability says:

{calibration_lines(shares, targets)}

Made by `python -m helpers.scene_head.make PHOTOS TRUTH.csv` on {datetime.date.today()}, {os.cpu_count()} CPU cores,
torch {torch.__version__.partition("+")[0]}, seed {SEED}.

## Use

**Intended**: sorting collections of photos by scene for research on photo geolocation, where a wrong scene does little
harm: scene networks, accuracies by scene.

**Out of scope**: tracking or surveillance of people, security-sensitive use, any decision about a person, and anything
that rests on the scene of a single photo.

**Limits**: its labels are those of a Places365 network, not of people, with that network's mistakes. It has learned
from what people put on Flickr; other photos, such as street views or scans, were not tried. It knows neither the 16
nor the 365 finer classes: for them, use a Places365 checkpoint. On photos that it was trained on, which are those of
Im2GPS3k, it looks better than it is.

**Licence**: Apache-2.0, as are the weights of the backbones.
"""


def counted_choices(choices: Iterable[Choice]) -> str:
    """Each choice with the number of folds that it was made for."""
    counts = pd.Series([str(each) for each in choices]).value_counts().sort_index()
    return "; ".join(f"{name} in {number} of {FOLDS} folds" for name, number in counts.items())


def accuracy_lines(judged: Mapping[str, NDArray[np.float64]], targets: NDArray[np.float64], authors: pd.Series) -> str:
    """Table of the accuracies with their intervals, and of the cross-entropies."""
    lines = ["| classifier | photos | right (%) | cross-entropy (nats) |", "|---|---:|---:|---:|"]
    for name, shares in judged.items():
        right = shares.argmax(axis=1) == targets.argmax(axis=1)
        low, high = 100 * interval(right, authors)
        loss = f"{cross_entropy(shares, targets):.3f}"
        lines.append(f"| {name} | {len(right):,} | {100 * right.mean():.1f} [{low:.1f}, {high:.1f}] | {loss} |")
    return "\n".join(lines)


def interval(right: NDArray[np.bool_], authors: pd.Series) -> NDArray[np.float64]:
    """95 % interval of a share, by resampling authors."""
    by_author = pd.DataFrame({"right": right, "photos": 1}).groupby(authors.to_numpy()).sum().to_numpy()
    drawn = np.random.default_rng(SEED).integers(len(by_author), size=(RESAMPLES, len(by_author)))
    sums = by_author[drawn].sum(axis=1)
    return np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])


def confusion_lines(shares: NDArray[np.float64], targets: NDArray[np.float64]) -> str:
    """Table of the official scenes and of those that the head names."""
    official, named = targets.argmax(axis=1), shares.argmax(axis=1)
    lines = [f"| | {' | '.join(SCENES)} | right (%) |", "|---|" + "---:|" * (len(SCENES) + 1)]
    for number, scene in enumerate(SCENES):
        counts = np.bincount(named[official == number], minlength=len(SCENES))
        cells = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {scene} | {cells} | {100 * counts[number] / counts.sum():.1f} |")
    return "\n".join(lines)


def calibration_lines(shares: NDArray[np.float64], targets: NDArray[np.float64]) -> str:
    """Table of the mean probability and the accuracy, by probability."""
    surest = shares.max(axis=1)
    right = shares.argmax(axis=1) == targets.argmax(axis=1)
    official = np.take_along_axis(targets, shares.argmax(axis=1)[:, None], axis=1)[:, 0]
    lines = [
        "| probability | photos | mean probability (%) | mean official probability of that scene (%) | right (%) |",
        "|---|---:|---:|---:|---:|",
    ]
    for low, high in ((0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1), (0, 1)):
        part = (surest > low) & (surest <= high)
        label = f"{low:g} to {high:g}" if (low, high) != (0, 1) else "all"
        if part.any():
            figures = " | ".join(f"{100 * values[part].mean():.1f}" for values in (surest, official, right))
            lines.append(f"| {label} | {part.sum():,} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
