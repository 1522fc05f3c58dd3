"""The notebooks on real photos, by folds of authors; and which backbone does best on them for its time.

``python -m benchmarks.real_photos folds PHOTOS TRUTH.csv`` runs the line five times, each time with another fifth of
the authors as test, and writes the accuracy over all photos to ``real_photos.md``.
``python -m benchmarks.real_photos models PHOTOS TRUTH.csv`` trains and judges every published model in the same five
folds, and writes ``published_models.md``; TRUTH.csv then has the scenes as well, s3_label or prob_indoor, ...
``python -m benchmarks.real_photos backbones PHOTOS TRUTH.csv ARCHITECTURE[=WEIGHTS] ...`` trains heads on each backbone
with three fifths of the authors, compares them on the validation fifth alone, and writes ``backbones.md``.
``python -m benchmarks.real_photos sweep PHOTOS TRUTH.csv`` tries the grid of learning rates and weight decays of Lost &
Found in the first fold, judged by its validation fifth alone, and writes ``sweep.md`` and ``sweep.png``.

TRUTH.csv has the columns id, path, latitude, longitude, author.
"""

import argparse
import datetime
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.__main__ import machine
from helpers import (
    baselines,
    bootstrap,
    class_metrics,
    data_lists,
    exploring,
    labelled,
    leakage,
    manifests,
    metrics,
    model_cards,
    notebooks,
    paper_rows,
    paths,
    predict,
    recipe,
    scenes,
    training,
    uncertainty,
)

FOLDS, SEED, IMAGE_SIZE = 5, 7, 224
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_photos", description=__doc__)
    parser.add_argument("what", choices=["folds", "models", "backbones", "sweep"])
    parser.add_argument("photos", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("architectures", nargs="*", help="of backbones: ARCHITECTURE or ARCHITECTURE=WEIGHTS")
    arguments = parser.parse_args()
    truth = pd.read_csv(arguments.truth, dtype={"id": str, "author": str})
    truth["fold"] = folds(truth)
    with tempfile.TemporaryDirectory() as root:
        os.environ["PHOTO_GEOLOCATION_ROOT"] = root
        if arguments.what == "folds":
            text, file = folds_page(truth, arguments.photos), "real_photos.md"
        elif arguments.what == "models":
            text, file = models_page(truth, arguments.photos, arguments.truth), "published_models.md"
        elif arguments.what == "sweep":
            text, file = sweep_page(truth, arguments.photos), "sweep.md"
        else:
            text, file = backbones_page(truth, arguments.photos, arguments.architectures), "backbones.md"
    with paths.replacing(HERE / file) as temporary:
        temporary.write_text(text)
    print(text)


def folds(truth: pd.DataFrame) -> pd.Series:
    """Fold of each photo: authors in an order that their names and the seed decide, each into the smallest fold."""
    authors = truth["author"].fillna(truth["id"])
    sizes = [0] * FOLDS
    fold_of = {}
    by_author = authors.value_counts()
    for author in sorted(by_author.index, key=lambda name: hashlib.sha256(f"{SEED} {name}".encode()).digest()):
        fold_of[author] = int(np.argmin(sizes))
        sizes[fold_of[author]] += by_author[author]
    return authors.map(fold_of)


def folds_page(truth: pd.DataFrame, photos: Path) -> str:
    """Accuracy and sureness over all photos, each placed by a run that has not seen its author."""
    tables: dict[str, list[pd.DataFrame]] = {"predictions": [], "confidences": [], "neighbours": []}
    fused = []
    for fold in range(FOLDS):
        dataset = make_inputs(truth, photos, test=fold, validation=(fold + 1) % FOLDS)
        given = {"dataset": dataset, "photo_root": str(photos)}
        run = notebooks.run("04_training/train", {**given, "preset": "plain", "image_size": IMAGE_SIZE})
        results = notebooks.run("05_evaluation/evaluate", {**given, "run": run.name})
        for name, parts in tables.items():
            parts.append(pd.read_parquet(results / f"{name}.parquet"))
        fused.append(manifests.read(results)["counts"]["fusion"]["all"])
    predictions, confidences, neighbours = (pd.concat(parts, ignore_index=True) for parts in tables.values())
    models_in_order = [name for name in predictions if name.startswith("distance_km_")]
    distance_km = {name.removeprefix("distance_km_"): predictions[name] for name in models_in_order}
    table = bootstrap.markdown(bootstrap.interval_table(distance_km, predictions["author"], seed=SEED))
    errors = uncertainty.errors(uncertainty.chosen(confidences, predictions))
    per_cent = (100 * errors.set_index("model").drop(columns="photos")).round(1)
    held = uncertainty.coverage_markdown(uncertainty.coverage(predictions, seed=SEED))
    compared = uncertainty.fusions(confidences, predictions, seed=SEED)
    answered = uncertainty.abstention(predictions)
    answered = answered[answered["answered"].round(2).isin([0.05, 0.1, 0.25, 0.5, 1.0])]
    without = bootstrap.markdown(
        leakage.accuracy_without(predictions, neighbours, seed=SEED).rename(columns={"kept": "model"})
    )
    settings, _ = recipe.of(notebooks.defaults("04_training/train"))
    return f"""# Accuracy and sureness on {len(truth):,} real photos

{FOLDS} folds grouped by author: every photo is placed by a run that was trained on three fifths of the authors, and
calibrated on another fifth. {settings.architecture} at {IMAGE_SIZE} px, preset plain, all else as
in the notebooks' defaults.
Measured on {datetime.date.today()}, {machine()}, seed {SEED}.

    python -m benchmarks.real_photos folds PHOTOS TRUTH.csv

## Accuracy

{table}
## Promised and held

Radii around the guesses of f*, calibrated on validation photos alone.

{held}
Expected calibration error (15 bins), mean confidence and share of photos whose class is named right, in per cent:

{plain_table(per_cent.reset_index())}

The surest photos answered alone, shares of them within each distance:

{plain_table(answered.round(3))}

## Ways to fuse five crops

On validation photos the folds chose {", ".join(fused)}. On the test photos:

{plain_table(compared.round(3).fillna(""))}

## What is left without neighbours in training

{without}"""


MODELS: dict[str, dict[str, object]] = {
    "coarse": {"partition": "coarse"},
    "middle": {"partition": "middle"},
    "fine": {"partition": "fine"},
    "multi": {},
    "{scene}": {},
    "mtn": {"multitask": True},
    "smoothed": {"objective": "haversine_smoothed", "smoothing_km": 300.0},  # these cells are larger than regions
    "country": {"partition": "country"},
    "region": {"partition": "region"},
    "region-ce": {"partition": "region", "objective": "cross_entropy"},
    "vector": {"partition": "coordinates"},
    "degrees": {"partition": "coordinates", "objective": "degrees_mse"},
}


def models_page(truth: pd.DataFrame, photos: Path, scene_table: Path) -> str:
    """Kilometres and countries of every published model, over all photos, each placed by a run that has not seen its
    author."""
    parameters = notebooks.defaults("04_training/train")
    placed: dict[str, list[pd.DataFrame]] = {name: [] for name in MODELS}
    judged: dict[str, list[class_metrics.Judged]] = {}
    for fold in range(FOLDS):
        dataset = make_inputs(truth, photos, test=fold, validation=(fold + 1) % FOLDS)
        notebooks.run("02_scenes/classify_scenes", {"dataset": dataset, "scene_table": str(scene_table)})
        notebooks.run("03_partitioning/build_regions", {"dataset": dataset})
        rows = data_lists.read(dataset)
        test = scenes.joined(rows[rows["split"] == "test"].reset_index(drop=True), dataset)
        located = exploring.located(test)
        for name, given in MODELS.items():
            runs = predict.load(trained(name, given, dataset, photos))
            answers = predict.locate(runs, test, photos, batch_size=64).answers
            if name == "multi":
                answers |= baselines.blind(runs, test, SEED)
            read_outs = [answer for answer in answers if "confidence" in answers[answer]]
            placed[name].append(predict.table(test, answers))
            named = predict.named(runs, test, photos, batch_size=64)
            if name == "country":
                named["the commonest country"] = always_the_commonest(runs["all"], test)
            for level, each in class_metrics.judge_all(located, named, predict.nameable(runs)).items():
                of_row = paper_rows.row_name(read_outs[-1], {**parameters, **given}, name)
                is_baseline = level == "the commonest country"
                judged.setdefault(level if is_baseline else f"{level}, by {of_row}", []).append(each)
    evaluations = [
        paper_rows.Evaluated(name, {**parameters, **given}, pd.concat(placed[name]).sort_values("id"), {})
        for name, given in MODELS.items()
    ]
    rows = paper_rows.rows(evaluations)
    kilometres = bootstrap.markdown(bootstrap.interval_table(rows.distance_km, rows.author, seed=SEED))
    together = {
        level: class_metrics.Judged(parts[0].name, pd.concat([part.photos for part in parts]), {})
        for level, parts in judged.items()
    }
    countries = class_metrics.accuracy_table(together, seed=SEED)
    at_sea = len(truth) - int(countries["photos"].max())
    agreement = predict.scene_agreement(pd.concat(placed["mtn"]))
    return f"""# The published models on {len(truth):,} real photos

{FOLDS} folds grouped by author: every photo is placed by a run that was trained on three fifths of the authors, with
another fifth for validation; the same photos, features and folds for every row. {parameters["architecture"]} with a
frozen backbone at {IMAGE_SIZE} px, the epoch kept that is best by {parameters["best_by"]}, preset plain, all else as in
the notebooks' defaults, but smoothing_km 300 for smoothed cells, which are larger than regions (chosen
beforehand, not tuned). Scenes are the official ones of the photos.
Measured on {datetime.date.today()}, {machine()}, seed {SEED}.

    python -m benchmarks.real_photos models PHOTOS TRUTH.csv

Heads on a frozen backbone do not influence one another: here base(M), MTN and base(L) differ by their initial
weights and the epoch that is kept, and nothing more. What they gain from one another shows with train_layers all.

The figures of the papers themselves were reached with 4.7 million photos of MP-16, and with 332,786 street views: they
cannot be computed here.

## How far off

{kilometres}
## How often the right country, or region, is named

{at_sea:,} photos were taken far off every coast and are left out; one of a country that a run was not shown counts as
wrong.

{class_metrics.markdown(countries)}
Of the multi-task network {agreement}.
"""


def trained(name: str, given: Mapping[str, object], dataset: str, photos: Path) -> dict[str, list[Path]]:
    """Folders of a run, or of the networks of the three scenes, trained in this process."""
    folders = {}
    for scene in scenes.SCENES if name == "{scene}" else ("all",):
        folder = paths.run(f"{dataset}-{name.strip('{}')}-{scene}")
        folder.mkdir(parents=True)
        parameters = {**notebooks.defaults("04_training/train"), "dataset": dataset, "photo_root": str(photos)}
        parameters |= {"preset": "plain", "image_size": IMAGE_SIZE, "scene": scene, **given}
        training.train_alone(training.Job(*recipe.of(parameters), folder, folder / "checkpoints"))
        folders[scene] = [folder]
    return folders


def always_the_commonest(run: predict.Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Guesses that see no photo: the country with most training photos."""
    classes = run.classes["country"]
    commonest = classes.keys[classes.training_photos.argmax()]
    return pd.DataFrame({"id": rows["id"], "guess_1": commonest, **{f"guess_{rank}": "" for rank in range(2, 6)}})


def backbones_page(truth: pd.DataFrame, photos: Path, architectures: list[str]) -> str:
    """Validation accuracy and speed of each backbone, on the same photos in the same process."""
    dataset = make_inputs(truth, photos, test=0, validation=1)
    rows = []
    for named in architectures:
        architecture, _, weights = named.partition("=")
        parameters = notebooks.defaults("04_training/train")
        parameters |= {"dataset": dataset, "photo_root": str(photos), "image_size": IMAGE_SIZE}
        parameters |= {"architecture": architecture, "weights": weights or "default"}
        with tempfile.TemporaryDirectory() as folder:
            settings, running = recipe.of(parameters)
            training.train_alone(training.Job(settings, running, Path(folder), Path(folder) / "checkpoints"))
            curves = pd.read_json(Path(folder) / "metrics.jsonl", lines=True)
        seen = sum(len(labelled.read_split(settings, split)) for split in ("train", "validation"))
        best = curves[curves["epoch"] == model_cards.best_epoch(curves)].iloc[0]
        shares = {f"{km} km": f"{100 * best[f'within_{km}km']:.1f} %" for km in metrics.THRESHOLDS_KM}
        speed = f"{seen / curves['seconds_features'].iloc[0]:.0f}"
        median = f"{best['median_km']:,.0f}"
        rows.append({"backbone": architecture, "photos/s": speed, **shares, "median km": median})
    validation = int((truth["fold"] == 1).sum())
    return f"""# Which backbone

Heads on frozen features of three fifths of the authors, `f*` on one central crop of the {validation} photos of the
validation fifth, at the best epoch; photos/s is that of the features, decoding included, one backbone after the other
in one process. Measured on {datetime.date.today()}, {machine()}, seed {SEED}, {IMAGE_SIZE} px.

    python -m benchmarks.real_photos backbones PHOTOS TRUTH.csv {" ".join(a.partition("=")[0] for a in architectures)}

{plain_table(pd.DataFrame(rows))}
"""


def sweep_page(truth: pd.DataFrame, photos: Path) -> str:
    """What learning rate and weight decay do for heads on a frozen backbone, on validation photos."""
    dataset = make_inputs(truth, photos, test=0, validation=1)
    given = {"dataset": dataset, "photo_root": str(photos), "image_size": IMAGE_SIZE, "preset": "lost_and_found"}
    folder = notebooks.run("04_training/sweep", given)
    trials = pd.read_csv(folder / "trials.csv")
    split = data_lists.read(dataset)["split"].value_counts()
    settings, _ = recipe.of(notebooks.defaults("04_training/train"))
    shutil.copy(folder / "parameters.png", HERE / "sweep.png")
    shown = trials[["learning_rate", "weight_decay", *metrics.SHARES, "median_km", "validation_loss", "epoch"]]
    per_cent = shown.assign(**{share: (100 * shown[share]).round(1) for share in metrics.SHARES})
    rounded = per_cent.assign(median_km=shown["median_km"].round(), validation_loss=shown["validation_loss"].round(2))
    return f"""# Learning rate and weight decay on real photos

The grid of Lost & Found, {len(trials)} trials: {settings.architecture} with a frozen backbone at {IMAGE_SIZE} px,
partition multi, {settings.epochs} epochs, {split["train"]:,} training photos. Per cent of {split["validation"]:,}
validation photos, one crop each, within each distance at the epoch that was kept; no test photo was looked at.
Measured on {datetime.date.today()}, {machine()}, seed {SEED}; {manifests.read(folder)["seconds"] / 60:.0f} minutes.

    python -m benchmarks.real_photos sweep PHOTOS TRUTH.csv

{plain_table(rounded)}"""


def make_inputs(truth: pd.DataFrame, photos: Path, *, test: int, validation: int) -> str:
    """Run the notebooks up to the cells on one division of the authors, and name the dataset."""
    dataset = f"real-{test}"
    split = truth["fold"].map({test: "test", validation: "validation"}).fillna("train")
    columns = ["id", "path", "latitude", "longitude", "author"]
    listed(truth[columns].assign(split=split), dataset, photos, {})
    return dataset


def listed(rows: pd.DataFrame, dataset: str, photos: Path, of_cells: Mapping[str, object]) -> None:
    """Make the list of a dataset, as it is split, and its cells."""
    file = paths.root() / f"{dataset}.csv"
    rows.to_csv(file, index=False)
    notebooks.run("01_data/make_list", {"dataset": dataset, "photo_root": str(photos), "truth": str(file)})
    notebooks.run("03_partitioning/build_cells", {"dataset": dataset, **of_cells})


def plain_table(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
