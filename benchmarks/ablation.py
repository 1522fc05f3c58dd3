"""What each step away from the recipe of 2018 gains, on real photos by folds of authors, and on the embedded world.

``python -m benchmarks.ablation real WORK PHOTOS TRUTH.csv`` places every photo by runs that have not seen its author,
with each row of the table, and writes ``ablation.md``, ``ablation.csv`` and ``ablation.png``.
``python -m benchmarks.ablation toy-earth WORK`` does so for rendered scenes, with 1 to 64 thousand of them to learn
from, and writes ``ablation_toy_earth.md``, ``.csv`` and ``.png``.

Lists, features, runs and guesses stay in the folder WORK, and are not made again: begun anew, it goes on. Three hours
of one core for the real photos, a third of them for the rows in which all layers learn; one for the rendered ones.
"""

import argparse
import copy
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import other_heads, real_photos
from benchmarks.__main__ import machine
from helpers import (
    baselines,
    bootstrap,
    cells,
    data_lists,
    devices,
    inputs,
    metrics,
    notebooks,
    paths,
    plots,
    predict,
    read_outs,
    recipe,
    toy_earth,
    training,
)

SEED = 7
HERE = Path(__file__).resolve().parent
SIZES = (1_000, 4_000, 16_000, 64_000)
"""Rendered training photos."""
HELD_OUT = 2000
"""Rendered photos for test, and for validation."""
SHARES = (0.25, 0.5)
"""Of the training authors of a fold, for the curve of accuracy against photos."""
AT_ONCE = 4
"""Photos, five crops each: what depthwise convolutions compute of them stays in a CPU's cache."""
AT = 20_000
"""Training photos that the curve is drawn on to."""

SEARCHING: dict[str, object] = {"preset": "search"}
SMOOTHED: dict[str, object] = {**SEARCHING, "objective": "haversine_smoothed", "smoothing_km": 0.0}
ALL_LAYERS: dict[str, object] = {"image_size": 112, "train_layers": "all", "epochs": 5, "precision": "fp32"}
TUNED: dict[str, object] = {**SEARCHING, **ALL_LAYERS}
SGD: dict[str, object] = {
    **ALL_LAYERS,
    **{"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4, "schedule": "halving", "warmup_epochs": 0.0},
    "backbone_learning_rate_factor": 1.0,
}
RUNS: dict[str, dict[str, object]] = {
    "plain": SEARCHING,
    "small": {**SEARCHING, "image_size": 112},
    "smoothed": SMOOTHED,
    "toy-smoothed": {**SMOOTHED, "image_size": 112},
    "larger": {**SEARCHING, "architecture": "efficientnet_lite2"},
    "tuned-112": TUNED,
    "sgd-112": SGD,
}
"""What is trained, by name; a run that searches answers without the search, too."""
MINE, FINE_CELLS = "fine-cells", {"min_photos": 5, "max_photos_fine": 25}
PUBLISHED = "all layers by SGD, 5 epochs, 112 px (2018)"
LEVELS = {"coarsest": 400, "coarse": 200, "middle": 100, "fine": 50, "finest": 25}
"""Most photos of a cell, for more levels than the notebook's three, whose numbers are among them."""
UNSEEING, PLAIN, BEST = "densest place, no photo seen", "frozen features", "search"
BLIND = (UNSEEING, "nearest neighbour")
"""Rows that learn nothing of photos, or compare them alone."""
ROWS = (
    *("random training photo", UNSEEING, "nearest neighbour"),
    *(PUBLISHED, "layers tuned discriminatively, 112 px", "frozen features, 112 px", PLAIN),
    *("one crop", "mirror images too", "finer cells", "five levels", "taught their product", "smoothed targets"),
    *("place of densest score", "levels tempered", BEST),
    *("search, layers tuned, 112 px", "search, mirror images too", "search, smoothed targets"),
    *("search, 112 and 224 px", "search, two backbones"),
)
"""Of the table, from what sees nothing to what sees most."""
Guesses = dict[str, np.ndarray]
Rows = Callable[[str, pd.DataFrame, Path], Guesses]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("what", choices=["real", "toy-earth"])
    parser.add_argument("work", type=Path)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("truth", type=Path, nargs="?")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.environ["PHOTO_GEOLOCATION_ROOT"] = str(arguments.work.resolve())
    if arguments.what == "toy-earth":
        toy_earth_page()
    elif arguments.photos and arguments.truth:
        real_page(arguments.photos, arguments.truth)
    else:
        parser.error("real needs the folder of the photos and a table of their truth")


def real_page(photos: Path, truth_file: Path) -> None:
    """Every row on every fold, and the curve of accuracy against training photos."""
    truth = pd.read_csv(truth_file, dtype={"id": str, "author": str})
    truth["fold"] = real_photos.folds(truth)
    tables, curve = [], []
    for fold in range(real_photos.FOLDS):
        dataset = f"real-{fold}"
        if not (paths.cells(dataset) / "labels.parquet").exists():
            real_photos.make_inputs(truth, photos, test=fold, validation=(fold + 1) % real_photos.FOLDS)
        tables.append(placed(f"all-{fold}", dataset, photos, real_rows))
        tables.append(placed(f"fine-{fold}", with_finer_cells(dataset, photos), photos, finer_rows))
        for share in SHARES:
            smaller = of_fewer_authors(dataset, photos, share)
            few = placed(f"few-{fold}-{share}", smaller, photos, few_rows)
            curve.append(few.assign(step=share, training=_learned(smaller)))
        whole = tables[-2][tables[-2]["row"].isin([PLAIN, BEST, UNSEEING])]
        curve.append(whole.assign(step=1.0, training=_learned(dataset)))
    distance_km, author = _by_row(pd.concat(tables, ignore_index=True))
    intervals = bootstrap.interval_table(distance_km, author, seed=SEED)
    gains = bootstrap.paired_differences(distance_km, author, seed=SEED, reference=PLAIN)
    grown = _curve(pd.concat(curve, ignore_index=True))
    intervals.to_csv(HERE / "ablation.csv", index=False)
    plots.save(plots.difference_plot(gains), HERE / "ablation.png")
    plots.save(plots.growth_plot(grown, baselines=BLIND), HERE / "ablation_growth.png")
    text = f"""# From the recipe of 2018 to a search, on {len(truth):,} real photos

{real_photos.FOLDS} folds grouped by author: every photo is placed by a run that has learned from three fifths of the
authors, while what there is to choose was chosen by another fifth; the same photos for every row. efficientnet_lite0
with weights from ImageNet at {real_photos.IMAGE_SIZE} px and five crops, unless a row says otherwise.
Measured on {datetime.date.today()}, {machine()}, seed {SEED}.

    python -m benchmarks.ablation real WORK PHOTOS TRUTH.csv

{bootstrap.markdown(intervals)}
Rows without "search" answer by `f*`. Layers tuned discriminatively: by AdamW, the backbone's at a tenth of the rate of
the heads. Mirror images: of all five crops. Finer cells: of at most {FINE_CELLS["max_photos_fine"]} photos at the
finest level, and more than {FINE_CELLS["min_photos"]}.
Five levels: of at most {", ".join(map(str, LEVELS.values()))} photos.
Taught their product: the loss of the finest level is that of `f*`. Smoothed targets: by how far apart classes lie.
Place of densest score: the training photo's place with the best expected score by `f*`; then with tempered levels;
then, in a search, with likeness. Two backbones: efficientnet_lite2 beside the other.

![Differences to the plain run](ablation.png)


## With more photos

![Accuracy against the number of training photos](ablation_growth.png)

Over all folds, in per cent; what each doubling of the photos adds, by a line through the logarithm of their number, and
where that line would be at {AT:,}, which is a guess:

{real_photos.plain_table(_extrapolated(grown))}
"""
    _written(HERE / "ablation.md", text)


def toy_earth_page() -> None:
    """The same on rendered scenes, for each number of training photos."""
    photos = paths.root() / "toy-photos"
    truth = _rendered(photos)
    tables, curve = [], []
    for size in SIZES:
        dataset = f"toy-{size}"
        if not (paths.cells(dataset) / "labels.parquet").exists():
            learned = truth[truth["split"] == "train"].iloc[:size]
            real_photos.listed(pd.concat([learned, truth[truth["split"] != "train"]]), dataset, photos, {})
        table = placed(f"toy-{size}", dataset, photos, toy_rows)
        tables.append(table.assign(size=size))
        curve.append(table.assign(training=size))
    table = pd.concat(tables, ignore_index=True)
    grown = _curve(pd.concat(curve, ignore_index=True))
    grown.to_csv(HERE / "ablation_toy_earth.csv", index=False)
    drawn = grown[grown["row"].isin([*BLIND, PLAIN, "smoothed targets", BEST, "search, smoothed targets"])]
    plots.save(plots.growth_plot(drawn, baselines=BLIND), HERE / "ablation_toy_earth.png")
    parts = []
    for size in SIZES:
        intervals = bootstrap.interval_table(*_by_row(table[table["size"] == size]), seed=SEED)
        parts.append(f"## {size:,} training photos\n\n{bootstrap.markdown(intervals)}")
    text = f"""# The same on rendered scenes

`toy-earth`, {SIZES[0]:,} to {SIZES[-1]:,} photos to learn from, {(truth["split"] == "test").sum():,} others to place,
efficientnet_lite0 at 112 px, five crops. Rendered scenes say which gains last as photos become many, not how good
guesses about real photos are. Measured on {datetime.date.today()}, {machine()}, seed {SEED}.

    python -m benchmarks.ablation toy-earth WORK

![Accuracy against the number of training photos](ablation_toy_earth.png)

{chr(10).join(parts)}"""
    _written(HERE / "ablation_toy_earth.md", text)


def placed(name: str, dataset: str, photos: Path, rows: Rows) -> pd.DataFrame:
    """Guesses of some rows for the test photos of a dataset, from WORK where they have been made.

    Returns
    -------
    DataFrame
        ``row, id, author, distance_km``.
    """
    file = paths.root() / "placed" / f"{name}.parquet"
    if not file.exists():
        listed = data_lists.read(dataset)
        test = listed[listed["split"] == "test"].reset_index(drop=True)
        parts = []
        for row, place in rows(dataset, test, photos).items():
            distance_km = metrics.great_circle_km(test["latitude"], test["longitude"], *place.T)
            author = test["author"].fillna(test["id"])
            parts.append(pd.DataFrame({"row": row, "id": test["id"], "author": author, "distance_km": distance_km}))
            print(f"{name}, {row}: {np.round(100 * metrics.accuracy(distance_km), 1)}", flush=True)
        file.parent.mkdir(exist_ok=True)
        with paths.replacing(file) as temporary:
            pd.concat(parts, ignore_index=True).to_parquet(temporary)
    return pd.read_parquet(file)


def real_rows(dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """All rows that share the cells of the notebooks' defaults."""
    plain = loaded(dataset, photos, ["plain"])
    small = loaded(dataset, photos, ["small"])
    smoothed = loaded(dataset, photos, ["smoothed"])
    found = _unseeing(plain, test) | _alike(plain, dataset, test, photos)
    found |= _read(plain, test, photos, {PLAIN: "f*", BEST: read_outs.SEARCH})
    found |= _read(plain, test, photos, {"one crop": "f*"}, crops=slice(4, 5))
    found |= mirrored(plain, test, photos, {"mirror images too": "f*", "search, mirror images too": read_outs.SEARCH})
    found |= _steps(plain, test, photos) | other_levels(plain, dataset, test, photos)
    found |= _read(small, test, photos, {"frozen features, 112 px": "f*"})
    found |= _read(smoothed, test, photos, {"smoothed targets": "f*", "search, smoothed targets": read_outs.SEARCH})
    for others, row in (("small", "search, 112 and 224 px"), ("larger", "search, two backbones")):
        found |= _read(loaded(dataset, photos, ["plain", others]), test, photos, {row: read_outs.SEARCH})
    of_tuned = {
        "layers tuned discriminatively, 112 px": "f*",
        "search, layers tuned, 112 px": read_outs.SEARCH,
    }
    found |= _read(loaded(dataset, photos, ["tuned-112"]), test, photos, of_tuned)
    return found | _read(loaded(dataset, photos, ["sgd-112"]), test, photos, {PUBLISHED: "f*"})


def finer_rows(dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """Cells with less photos."""
    return _read(loaded(dataset, photos, ["plain"]), test, photos, {"finer cells": "f*"})


def few_rows(dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """What the curve of accuracy against training photos shows."""
    plain = loaded(dataset, photos, ["plain"])
    found = _unseeing(plain, test)
    del found["random training photo"]
    return found | _read(plain, test, photos, {PLAIN: "f*", BEST: read_outs.SEARCH})


def toy_rows(dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """What rendered scenes are worth computing for."""
    small, smoothed = (loaded(dataset, photos, [name]) for name in ("small", "toy-smoothed"))
    found = _unseeing(small, test) | _alike(small, dataset, test, photos)
    found |= _read(small, test, photos, {PLAIN: "f*", BEST: read_outs.SEARCH})
    found |= _read(small, test, photos, {"one crop": "f*"}, crops=slice(4, 5))
    found |= _steps(small, test, photos)
    return found | _read(
        smoothed, test, photos, {"smoothed targets": "f*", "search, smoothed targets": read_outs.SEARCH}
    )


def loaded(dataset: str, photos: Path, names: list[str]) -> predict.Run:
    """Networks that answer together, trained where they are not there yet."""
    folders = []
    for name in names:
        folder = paths.run(f"{dataset}-{name}")
        if not (folder / "model.safetensors").exists():
            folder.mkdir(parents=True, exist_ok=True)
            parameters = {**notebooks.defaults("04_training/train"), "dataset": dataset, "photo_root": str(photos)}
            parameters |= {"image_size": real_photos.IMAGE_SIZE, **RUNS[name]}
            training.train_alone(training.Job(*recipe.of(parameters), folder, folder / "checkpoints"))
        folders.append(folder)
    return predict.load({"all": folders})["all"]


def _read(
    run: predict.Run, test: pd.DataFrame, photos: Path, models: Mapping[str, str], crops: slice = slice(None)
) -> Guesses:
    """Places by some of a run's models, each under the name of its row."""
    views = predict.outputs(run, test, photos, AT_ONCE)
    return _places(run, ({name: each[:, crops] for name, each in part.items()} for part in views), models)


def mirrored(run: predict.Run, test: pd.DataFrame, photos: Path, models: Mapping[str, str]) -> Guesses:
    """The same from ten views: the five crops, and their mirror images."""
    network = run.networks[0]
    views = inputs.PhotoViews(test, photos, network.image_size, view="five")
    batches = inputs.batches(views, range(len(test)), AT_ONCE)

    def with_mirror_images() -> Iterator[dict[str, torch.Tensor]]:
        for crops, known in zip(batches, predict.outputs(run, test, photos, AT_ONCE), strict=True):
            with torch.inference_mode(), devices.autocast(network.device, network.model, network.precision):
                found = network.model(crops.flatten(0, 1).flip(-1).to(network.device))
            yield {name: torch.cat([each, found[name].unflatten(0, each.shape[:2])], 1) for name, each in known.items()}

    return _places(run, with_mirror_images(), models)


def _places(run: predict.Run, views: Iterable[Mapping[str, torch.Tensor]], models: Mapping[str, str]) -> Guesses:
    read_out = run.read_out()
    parts = [read_out.answers(read_outs.fuse(part, run.fusion))[1] for part in views]
    place = ["predicted_latitude", "predicted_longitude"]
    return {row: np.concatenate([part[model][place].to_numpy() for part in parts]) for row, model in models.items()}


def other_levels(run: predict.Run, dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """More levels of cells, and heads that were taught the product over the three levels."""
    training_places = data_lists.coordinates(dataset, "train")
    usual = notebooks.defaults("03_partitioning/build_cells")
    levels = cells.build_all(
        training_places["latitude"],
        training_places["longitude"],
        min_photos=usual["min_photos"],
        max_photos=LEVELS,
    )
    more = other_heads.taught(run, dataset, photos, levels, product=False)
    product = other_heads.taught(run, dataset, photos, run.classes, product=True)
    return _read(more, test, photos, {"five levels": "f*"}) | _read(
        product, test, photos, {"taught their product": "f*"}
    )


def _steps(run: predict.Run, test: pd.DataFrame, photos: Path) -> Guesses:
    """What stands between f* and a search: the densest place, then the temperature."""
    if run.searching is None:
        raise ValueError("the run has no gallery")
    gallery = run.searching.gallery
    found: Guesses = {}
    for row, temperature in (("place of densest score", 1.0), ("levels tempered", gallery.temperature)):
        searching = copy.copy(run.searching)
        searching.gallery = dataclasses.replace(gallery, sharpness=0.0, temperature=temperature)
        varied = dataclasses.replace(run, searching=searching)
        found |= _read(varied, test, photos, {row: read_outs.SEARCH})
    return found


def _unseeing(run: predict.Run, test: pd.DataFrame) -> Guesses:
    """A random training photo's place, and the place from which the expected score over all of them is highest."""
    place = ["predicted_latitude", "predicted_longitude"]
    drawn = baselines.blind({"all": run}, test, SEED)[metrics.RANDOM_TRAINING_PHOTO][place].to_numpy()
    if run.searching is None:
        raise ValueError("the run has no gallery")
    searching = run.searching
    weight = torch.full((1, len(searching.labels)), 1 / len(searching.labels))
    densest = searching.places(weight)
    return {"random training photo": drawn, UNSEEING: np.repeat(densest, len(test), axis=0)}


def _alike(run: predict.Run, dataset: str, test: pd.DataFrame, photos: Path) -> Guesses:
    """The place of the photo whose features are most alike."""
    learned = baselines.learned({"all": run}, 1_000_000, SEED)
    found, _ = baselines.seeing({"all": run}, learned.asked, photos, test, photos, 64, SEED)
    nearest = found[metrics.NEAREST_NEIGHBOUR]
    return {"nearest neighbour": nearest[["predicted_latitude", "predicted_longitude"]].to_numpy()}


def _learned(dataset: str) -> int:
    return int((data_lists.read(dataset)["split"] == "train").sum())


def with_finer_cells(dataset: str, photos: Path) -> str:
    """The same list under another name, with cells of less photos."""
    name = f"{dataset}-{MINE}"
    return name if (paths.cells(name) / "labels.parquet").exists() else _copied(dataset, name, photos, 1, FINE_CELLS)


def of_fewer_authors(dataset: str, photos: Path, share: float) -> str:
    """The same list with a share of the training authors."""
    name = f"{dataset}-{round(100 * share)}"
    return name if (paths.cells(name) / "labels.parquet").exists() else _copied(dataset, name, photos, share, {})


def _copied(dataset: str, name: str, photos: Path, share: float, of_cells: Mapping[str, object]) -> str:
    listed = data_lists.read(dataset)
    author = listed["author"].fillna(listed["id"])
    names = np.sort(author[listed["split"] == "train"].unique())
    kept = np.random.default_rng(SEED).permutation(names)[: max(1, round(share * len(names)))]
    rows = listed[(listed["split"] != "train") | author.isin(kept)]
    real_photos.listed(rows[["id", "path", "latitude", "longitude", "author", "split"]], name, photos, of_cells)
    return name


def _rendered(photos: Path) -> pd.DataFrame:
    """Rendered scenes, made once: as many as the largest size, and others for test and validation."""
    sample = toy_earth.sample(SIZES[-1] + 3 * HELD_OUT, seed=SEED)
    names = np.random.default_rng(SEED).permutation(sample["author"].unique())
    # Authors in an order of chance, whole: test photos first, then those for validation.
    ordered = sample.set_index("author").loc[names].reset_index()
    begun = np.arange(len(ordered)) - ordered.groupby("author").cumcount().to_numpy()
    ordered["split"] = np.where(begun < HELD_OUT, "test", np.where(begun < 2 * HELD_OUT, "validation", "train"))
    truth = ordered[["id", "path", "latitude", "longitude", "author", "split"]]
    photos.mkdir(exist_ok=True)
    with ProcessPoolExecutor() as pool:
        columns = [truth[name] for name in ("id", "path", "latitude", "longitude")]
        done = list(pool.map(_render, *columns, [photos] * len(truth), chunksize=256))
    print(f"{sum(done):,} scenes rendered, {len(done) - sum(done):,} were there", flush=True)
    return truth


def _render(name: str, path: str, latitude: float, longitude: float, folder: Path) -> bool:
    file = folder / path
    if file.exists():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    with paths.replacing(file) as temporary:
        temporary.write_bytes(toy_earth.render_jpeg(name, latitude, longitude))
    return True


def _by_row(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Distances of each row for the same photos, in the order of the table, and the photos' authors."""
    by_row = {row: each.sort_values("id") for row, each in table.groupby("row")}
    shown = [row for row in ROWS if row in by_row]
    author = by_row[shown[0]]["author"].to_numpy()
    return {row: by_row[row]["distance_km"].to_numpy() for row in shown}, author


def _curve(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each row, in per cent, for each mean number of training photos."""
    rows = []
    for row in [row for row in ROWS if row in set(table["row"])]:
        of_row = table[table["row"] == row]
        for _, each in of_row.groupby("step" if "step" in of_row else "training"):
            shares = dict(zip(metrics.SHARES, 100 * metrics.accuracy(each["distance_km"]), strict=True))
            rows.append({"row": row, "training_photos": round(each["training"].mean()), **shares})
    return pd.DataFrame(rows)


def _extrapolated(grown: pd.DataFrame) -> pd.DataFrame:
    """Each row's accuracies, what doubling adds, and what that would lead to."""
    rows = []
    for row, each in grown.groupby("row", sort=False):
        doublings = np.log2(each["training_photos"])
        for known in each.to_dict("records"):
            shown = [f"{known[share]:.1f}" for share in metrics.SHARES]
            rows.append([row, f"{known['training_photos']:,}", *shown])
        slopes = [np.polyfit(doublings, each[share], 1) for share in metrics.SHARES]
        rows.append([row, "each doubling", *(f"{slope:+.1f}" for slope, _ in slopes)])
        rows.append([row, f"{AT:,}", *(f"({slope * np.log2(AT) + at_one:.1f})" for slope, at_one in slopes)])
    return pd.DataFrame(rows, columns=["row", "training photos", *(f"{km:,} km" for km in metrics.THRESHOLDS_KM)])


def _written(file: Path, text: str) -> None:
    with paths.replacing(file) as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
