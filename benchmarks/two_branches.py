"""What a second branch, for segmentation maps, adds to a vision transformer.

``python -m benchmarks.two_branches toy-earth`` trains a small one without and with it on the maps that the renderer of
``toy-earth`` knows, with several seeds, and writes ``two_branches.md``.
``python -m benchmarks.two_branches segmenter FILE`` trains a segmentation network on these maps, writes it with its
classes beside it as ``.csv``, and prints how well it knows the pixels of photos that it has not seen. It knows rendered
scenes: on real photos it shows no more than that the line runs.
``python -m benchmarks.two_branches real PHOTOS TRUTH.csv FILE`` trains both on real photos, with maps by that network,
and prints their accuracy; TRUTH.csv has the columns id, path, latitude, longitude, author and the scenes.
"""

import argparse
import datetime
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import torchvision
from torch import nn

from benchmarks import real_photos
from benchmarks.__main__ import machine
from helpers import bootstrap, data_lists, fetch, inputs, notebooks, paths, segmentation, segmenters

ARCHITECTURE = "timm/test_vit"  # 0.3 million weights, which are all that CPUs train from nothing in minutes
NETWORK, SIDE = "lraspp_mobilenet_v3_large", 128
PHOTOS, EPOCHS, SEEDS = 2000, 8, (7, 8)
SEGMENTER_PHOTOS, SEGMENTER_EPOCHS, BATCH = 1500, 6, 32
_SETTLING = 20  # batches
BRANCHES = {"one branch": {"multitask": True}, "two branches": {"segmentation": True}}
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_branches", description=__doc__)
    parser.add_argument("what", choices=["toy-earth", "segmenter", "real"])
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    files = [file.resolve() for file in given.files]
    with tempfile.TemporaryDirectory() as root:
        os.environ["PHOTO_GEOLOCATION_ROOT"] = root
        if given.what == "toy-earth":
            text = toy_earth_page()
            with paths.replacing(HERE / "two_branches.md") as temporary:
                temporary.write_text(text)
        else:
            text = segmenter(*files) if given.what == "segmenter" else real(*files)
    print(text)


def toy_earth_page() -> str:
    """Accuracy of both, seed by seed and together, and how much more a second branch takes."""
    dataset = rendered(PHOTOS)
    distance_km, seconds = trained_and_judged(dataset, {}, SEEDS)
    author = next(iter(distance_km.values()))["author"]
    by_seed = {name: table["distance_km"] for name, table in distance_km.items()}
    together = {
        name: pd.concat([by_seed[f"{name}, seed {seed}"] for seed in SEEDS], ignore_index=True) for name in BRANCHES
    }
    authors = pd.concat([author] * len(SEEDS), ignore_index=True)
    difference = bootstrap.paired_differences(together, authors, seed=SEEDS[0], reference="one branch")
    return f"""# A second branch, for segmentation maps

{PHOTOS:,} photos of toy-earth ({ARCHITECTURE} with random weights at 112 px, {EPOCHS} epochs), with the maps that the
renderer knows; both have a scene head, so that the second branch is all that differs. Accuracy of `f*` on test photos
by other authors. Measured on {datetime.date.today()}, {machine()}.

    python -m benchmarks.two_branches toy-earth

Seeds {", ".join(map(str, SEEDS))} together:

{bootstrap.markdown(bootstrap.interval_table(together, authors, seed=SEEDS[0]))}
{bootstrap.differences_markdown(difference)}
Seed by seed:

{bootstrap.markdown(bootstrap.interval_table(by_seed, author, seed=SEEDS[0]))}
An epoch of two branches takes {seconds["two branches"] / seconds["one branch"]:.1f} times that of one.
"""


def trained_and_judged(
    dataset: str, given: dict[str, object], seeds: tuple[int, ...]
) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """Predictions of both networks for each seed, and the median seconds of their epochs."""
    found, seconds = {}, {}
    for seed in seeds:
        for name, branches in BRANCHES.items():
            run = f"{name.replace(' ', '-')}-{seed}"
            parameters = {"dataset": dataset, "architecture": ARCHITECTURE, "weights": "none", "train_layers": "all"}
            parameters |= {"backbone_learning_rate_factor": 1.0, "epochs": EPOCHS, "seed": seed, "run_name": run}
            parameters["preset"] = "plain"
            folder = notebooks.run("04_training/train", {**parameters, **branches, **given})
            curves = pd.read_json(folder / "metrics.jsonl", lines=True)
            seconds.setdefault(name, []).extend(curves["seconds"])
            where = {"photo_root": given["photo_root"]} if "photo_root" in given else {}
            results = notebooks.run("05_evaluation/evaluate", {"dataset": dataset, "run": run, **where})
            found[f"{name}, seed {seed}"] = pd.read_parquet(results / "predictions.parquet")
    return found, {name: float(np.median(each)) for name, each in seconds.items()}


def rendered(count: int) -> str:
    """A dataset of toy-earth with cells, scenes and maps."""
    dataset = "toy-earth-branches"
    notebooks.run("01_data/make_list", {"dataset": dataset, "photo_count": count})
    sizes = {"min_photos": 10, "max_photos_coarse": 300, "max_photos_middle": 150, "max_photos_fine": 75}
    notebooks.run("03_partitioning/build_cells", {"dataset": dataset, **sizes})
    for notebook in ("classify_scenes", "segment"):
        notebooks.run(f"02_scenes/{notebook}", {"dataset": dataset})
    return dataset


def segmenter(file: Path) -> str:
    """Train a segmentation network on rendered scenes, keep it, and say how well it does on others."""
    dataset = rendered(SEGMENTER_PHOTOS)
    rows = segmentation.joined(data_lists.read(dataset), dataset)
    root, palette, maps = fetch.photo_folder(dataset, ""), segmenters.RENDERED, inputs.maps_of(rows)
    torch.manual_seed(SEEDS[0])
    network = torchvision.models.get_model(
        NETWORK, weights=None, weights_backbone=None, num_classes=len(palette.names)
    ).to(memory_format=torch.channels_last)
    training = rows[rows["split"] == "train"].reset_index(drop=True)
    steps = SEGMENTER_EPOCHS * (len(training) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    order = (torch.randperm(len(training)).split(BATCH) for _ in range(SEGMENTER_EPOCHS))
    requests = [(epoch, part) for epoch, parts in enumerate(order, 1) for part in parts if len(part) == BATCH]
    view = "crop+rotation+colour"
    stream = inputs.stream(training, root, SIDE, view, requests, 1, SEEDS[0], finished=True, maps=maps)
    settled = inputs.stream(training, root, SIDE, "centre", requests, 1, SEEDS[0], finished=True, maps=maps)
    started = time.monotonic()
    for step, batch in enumerate(stream, 1):
        scores = network(segmenters.normalised(batch.photos[:, :3]))
        loss = nn.functional.cross_entropy(scores["out"], batch.photos[:, 3].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step}/{steps} steps, loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    settle(network, [batch.photos[:, :3] for batch in itertools.islice(settled, _SETTLING)])
    safetensors.torch.save_file({name: each.contiguous() for name, each in network.state_dict().items()}, file)
    palette.write(file.with_suffix(".csv"))
    unseen = rows[rows["split"] == "test"].reset_index(drop=True)
    counts = torch.zeros(len(palette.names), len(palette.names), dtype=torch.int64)
    views = inputs.PhotoViews(unseen, root, SIDE, "centre", maps=maps)
    for batch in inputs.batches(views, range(len(unseen)), BATCH):
        found, true = segmenters.segment(network.eval(), batch[:, :3]).long(), batch[:, 3].long()
        counts += torch.bincount((true * len(palette.names) + found).flatten(), minlength=counts.numel()).view_as(
            counts
        )
    overlap = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    by_class = ", ".join(f"{name} {100 * share:.0f}" for name, share in zip(palette.names, overlap, strict=True))
    return (
        f"{100 * counts.diagonal().sum() / counts.sum():.1f} % of the pixels of {len(unseen)} unseen photos are right, "
        f"mean intersection over union {100 * overlap.mean():.1f} % ({by_class})"
    )


@torch.no_grad()
def settle(network: nn.Module, batches: list[torch.Tensor]) -> None:
    """Take the statistics of batch normalisation anew: so few steps have hardly moved them, at the pace they have."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    network.train()
    for photos in batches:
        network(segmenters.normalised(photos))


def real(photos: Path, truth: Path, file: Path) -> str:
    """Accuracy of both on a fifth of the authors of real photos, with maps by the segmenter of rendered scenes."""
    table = pd.read_csv(truth, dtype={"id": str, "author": str})
    table["fold"] = real_photos.folds(table)
    dataset = real_photos.make_inputs(table, photos, test=0, validation=1)
    where = {"dataset": dataset, "photo_root": str(photos)}
    notebooks.run("02_scenes/classify_scenes", {**where, "scene_table": str(truth)})
    by = {"segmenter": NETWORK, "weights": str(file), "classes": str(file.with_suffix(".csv")), "short_side": SIDE}
    notebooks.run("02_scenes/segment", {**where, **by})
    predictions, _ = trained_and_judged(dataset, {"photo_root": str(photos), "image_size": 112}, SEEDS[:1])
    distance_km = {name: each["distance_km"] for name, each in predictions.items()}
    author = next(iter(predictions.values()))["author"]
    figures = paths.segmentations(dataset)
    for name in ("maps.png", "classes.png"):  # to be looked at: they show photos, so they stay off the repository
        (file.with_name(f"real-{name}")).write_bytes((figures / name).read_bytes())
    return bootstrap.markdown(bootstrap.interval_table(distance_km, author, seed=SEEDS[0]))


if __name__ == "__main__":
    main()
