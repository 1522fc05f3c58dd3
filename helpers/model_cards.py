"""What a run is, how well it did, and what it must not be used for: its model card.

The sections are those of the model card template of the Hugging Face Hub, in its order. Every figure comes from the
folder of the run, or from results of 05_evaluation; what neither tells is said to be unknown.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import breakdown, footprint, manifests, metrics, paths, places, progress, run_results, targets
from helpers.run_results import Results, Table, escaped

FILE = "MODEL_CARD.md"
PAPER = "https://doi.org/10.1007/978-3-030-01258-8_35"

INTENDED = (
    "Research and teaching on how places look and what models learn of it; reproducing and criticising published "
    "results; sorting one's own photos; checking claims about the place of a public photo, by people who weigh a guess "
    "as a guess."
)
OUT_OF_SCOPE = (
    "Tracking, surveillance or identification of people.",
    "Finding where a person lives, works or stays.",
    "Security-sensitive, military or law-enforcement use.",
    "Any decision about a person.",
)
DUAL_USE = (
    "What says where a photo was taken can be turned against the person who took it or is in it. The authors of the "
    "ECCV 2018 paper withdrew their code over that. A guess is no evidence about a person, and one with low confidence "
    "is no evidence of anything."
)

RECOMMENDATIONS = (
    "Show a guess with its confidence and its radius, never alone, and take one with low confidence for none.",
    "Before using it on photos of another kind, evaluate and calibrate it on such photos with known places: neither "
    "its accuracy nor its confidence carries over.",
    "Where it decides which photos a study has, look at where it is right and wrong: it leaves out the places that it "
    "knows least.",
    "Look through the folder of the run before publishing it: it holds rounded coordinates of training photos, and "
    "names of folders.",
)

_LITE = "efficientnet_lite"  # whose ImageNet weights are under Apache-2.0
_NOT_RECORDED = "not recorded; whoever publishes this run says so here"
_NOT_SHOWN = ("classes", "trained_on", "photo_root", "allow_pickle", "run_name")  # of the settings
_AT_SEA = "the sea"
_DECIMALS = 4  # of figures in the head of the card
_GLOSSARY = {
    "author bootstrap": "An interval of 95 % from drawing the authors of the photos, not the photos, again and again: "
    "photos of one author are alike, so photos would give intervals that are too narrow.",
    "backbone, head": "The network that sees, and the linear layer on its features that names classes.",
    "baseline": "An answer to compare with: the place of a random training photo; always the most likely cell; the "
    "training photo with the most similar features (nearest neighbour); heads that learned shuffled labels.",
    "calibration": "Fitting, on validation photos, how sure a run may say it is, so that what it gives 90 % is right "
    "nine times in ten. It changes no place that is named.",
    "cell, partition": "A partition divides the Earth into S2 cells, so that each holds about as many training photos; "
    "coarse, middle and fine are three of them. A place in no cell cannot be named.",
    "confidence": "The probability that is given to the class that is named; of coordinates, the length of the vector.",
    "expected calibration error": "Mean distance between confidence and share of right guesses, over bins of "
    "confidence (Guo et al., ICML 2017).",
    "f*": "The hierarchical answer: the probability of a fine cell times those of the middle and the coarse cell "
    "around it.",
    "great-circle distance": "The shortest way over the Earth's surface, here a sphere of 6,371 km.",
    "radius": "How far around a guess one has to go to hold the true place with a promised probability, 50 or 90 %.",
    "scene": "Indoor, natural or urban: what a photo shows.",
    "search": "The answer of a run that looks among its training photos: each is a place, which weighs as much as the "
    "classes say and more the more alike it is; named is the one with the most weight around it.",
    "validation, test photos": "Photos that had no part in learning: the former choose the epoch and calibrate, the "
    "latter judge.",
}
_BIBTEX = r"""@inproceedings{muellerbudack2018geolocation,
  author    = {M{\"u}ller-Budack, Eric and Pustu-Iren, Kader and Ewerth, Ralph},
  title     = {Geolocation Estimation of Photos using a Hierarchical Model and Scene Classification},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2018},
  doi       = {10.1007/978-3-030-01258-8_35}
}"""


@dataclass(frozen=True)
class Card:
    """A model card.

    Attributes
    ----------
    front_matter : str
        YAML that the Hub reads, without the lines around it.
    sections : dict of str to str
        Markdown by heading of the second level.
    """

    name: str
    front_matter: str
    lead: str
    sections: dict[str, str]

    @property
    def text(self) -> str:
        """The whole file."""
        return f"---\n{self.front_matter}\n---\n\n{self.body}"

    @property
    def body(self) -> str:
        """What people read of it."""
        sections = "\n\n".join(f"## {heading}\n\n{body}" for heading, body in self.sections.items())
        return f"# Model Card for {self.name}\n\n{self.lead}\n\n{sections}\n"

    def _repr_markdown_(self) -> str:
        """Show it in a notebook, where YAML would become a heading."""
        return self.body


@dataclass(frozen=True)
class Trained:
    """What the folder of a run tells.

    Attributes
    ----------
    config : dict
        Settings, classes, and what it was trained on.
    curves : DataFrame
        A row for each epoch.
    training_places : DataFrame
        ``latitude, longitude`` of the photos that it learned from, rounded.
    manifest : dict
        Empty before the folder is finished.
    """

    name: str
    config: dict[str, Any]
    curves: pd.DataFrame
    training_places: pd.DataFrame
    size: footprint.Size
    manifest: dict[str, Any]


def trained(folder: Path, name: str = "") -> Trained:
    """Read the folder of a run.

    Parameters
    ----------
    folder : Path
    name : str
        That the run will have, where the folder does not have it yet.
    """
    finished = (folder / "manifest.json").exists()
    return Trained(
        name or folder.name,
        json.loads((folder / "config.json").read_text(encoding="utf-8")),
        pd.read_json(folder / "metrics.jsonl", lines=True),
        pd.read_parquet(folder / "training_places.parquet"),
        footprint.size(folder / "model.safetensors"),
        manifests.read(folder) if finished else {},
    )


def best_epoch(curves: pd.DataFrame) -> int:
    """Epoch whose weights were kept: the last one that was better than all before it."""
    return int(curves["epoch"][curves["best"]].iloc[-1])


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """How a training went: a column of text, by what it tells.

    Parameters
    ----------
    curves : DataFrame
        What `helpers.launch.train` gives: a row per epoch.
    """
    best = curves[curves["epoch"] == best_epoch(curves)].iloc[0]
    told = {"epoch that was kept": f"{best['epoch']:.0f} of {len(curves)}"}
    if "median_km" in curves:
        for km, share in zip(metrics.THRESHOLDS_KM, metrics.SHARES, strict=True):
            told[f"validation photos within {km:,} km"] = f"{100 * best[share]:.1f} %"
        told["median distance"] = f"{best['median_km']:,.0f} km"
    told["time"] = progress.duration(curves["seconds"].sum())
    told["speed, without validation"] = f"{curves['photos_per_second'].iloc[-1]:,.0f} photos/s in the last epoch"
    told["photos that could not be read"] = f"{curves['unreadable_photos'].iloc[-1]}"
    return pd.Series(told, name="").to_frame()


def model_card(
    run: Trained,
    results: Results | None = None,
    speed: footprint.Speed | None = None,
    together: Sequence[str] = (),
) -> Card:
    """Make the model card of a network.

    Parameters
    ----------
    run : Trained
        From :func:`trained`.
    results : Results, optional
        From `run_results.read`. Without them, or before it was evaluated, the card says what would evaluate it.
    speed : Speed, optional
        Measured by `footprint.prediction_speed`.
    together : sequence of str
        Names of all networks that the results are of, where there are several.
    """
    found = Results(run.name, str(run.config["dataset"])) if results is None else results
    companions = [name for name in together if name != run.name]
    sections = {
        "Model Details": _details(run),
        "Uses": _uses(run),
        "Bias, Risks, and Limitations": _limits(run, found),
        "How to Get Started with the Model": _start(run),
        "Training Details": _training(run, speed),
        "Evaluation": _evaluation(run, found, companions),
        "Environmental Impact": _impact(run),
        "Technical Specifications": _specifications(run),
        "Citation": f"The method is that of the ECCV 2018 paper.\n\n**BibTeX:**\n\n```bibtex\n{_BIBTEX}\n```",
        "Glossary": "\n".join(f"- **{escaped(term)}**: {escaped(meaning)}" for term, meaning in _GLOSSARY.items()),
        "Model Card Authors": "Written by the code of Photo geolocation lab from the run and its results.",
        "Model Card Contact": f"{_NOT_RECORDED[0].upper()}{_NOT_RECORDED[1:]}.",
    }
    return Card(run.name, _front_matter(run, found, alone=not companions), _lead(run, found, companions), sections)


def of_runs(
    run_folders: Mapping[str, Sequence[Path]], results: Results, speeds: Mapping[str, footprint.Speed]
) -> dict[str, Card]:
    """Make the card of each network that results are of.

    Parameters
    ----------
    run_folders : mapping of str to sequence of Path
        From `notebooks.require_runs`.
    results : Results
        From `run_results.read`, of all of them together.
    speeds : mapping of str to Speed
        From `footprint.prediction_speeds`.

    Returns
    -------
    dict of str to Card
        By the name of the network's folder.
    """
    folders = _by_name(run_folders)
    return {
        name: model_card(trained(folder), results, speeds.get(name), tuple(folders)) for name, folder in folders.items()
    }


def write(card: Card, folder: Path, file: str = FILE) -> Path:
    """Write a card into a folder, and return its file."""
    with paths.replacing(folder / file) as temporary:
        temporary.write_text(card.text, encoding="utf-8")
    return folder / file


def renew(cards: Mapping[str, Card], run_folders: Mapping[str, Sequence[Path]], copies: Path) -> dict[str, Path]:
    """Write cards beside the weights that they are of, and copies of them elsewhere.

    Parameters
    ----------
    cards : mapping of str to Card
        From :func:`of_runs`.
    run_folders : mapping of str to sequence of Path
        From `notebooks.require_runs`.
    copies : Path
        Folder of the copies, which are called after their networks where there are several.

    Returns
    -------
    dict of str to Path
        The files beside the weights, for a manifest.
    """
    folders, written = _by_name(run_folders), {}
    for name, card in cards.items():
        # A stage writes in its own folder, and 05_evaluation here in that of 04_training: what a model is worth, and
        # must not be used for, belongs to its weights, wherever these go.
        written[f"model card of {name}"] = write(card, folders[name])
        write(card, copies, FILE if len(cards) == 1 else f"MODEL_CARD-{name}.md")
    return written


def _by_name(run_folders: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    return {folder.name: folder for folders in run_folders.values() for folder in folders}


def _front_matter(run: Trained, results: Results, alone: bool) -> str:
    """YAML for the Hub. Strings are written as JSON has them, which is YAML too."""
    licence, _ = _licence(run)
    lines = [f"license: {licence}", *["license_name: that-of-the-backbone"] * (licence == "other")]
    lines += ["library_name: photo-geolocation-lab", "pipeline_tag: image-classification", "tags:"]
    lines += [f"- {json.dumps(tag)}" for tag in ("photo-geolocation", "geolocalization", run.config["architecture"])]
    best = results.best
    if best is not None and alone:  # figures of several networks are those of none of them
        name, dataset = json.dumps(run.name), json.dumps(results.dataset)
        lines += ["model-index:", f"- name: {name}", "  results:"]
        lines += ["  - task:", "      type: image-classification", "      name: photo geolocation"]
        lines += ["    dataset:", f"      name: {dataset}", f"      type: {dataset}", "      split: test"]
        lines += ["    metrics:"]
        for km, share in zip(metrics.THRESHOLDS_KM, metrics.SHARES, strict=True):
            lines += ["    - type: accuracy", f"      name: within {km} km"]
            lines += [f"      value: {round(float(best[share]), _DECIMALS)}"]
        lines += ["    - type: median_great_circle_distance_km", "      name: median distance in km"]
        lines += [f"      value: {round(float(best['median_km']), 1)}"]
    return "\n".join(lines)


def _lead(run: Trained, results: Results, companions: Sequence[str]) -> str:
    dataset = _code(run.config["dataset"])
    learned = f"{_what(run.config)}, learned from {len(run.training_places):,} photos of dataset {dataset}."
    paragraphs = [learned]
    if run_results.rendered(run.config["dataset"]):
        paragraphs.append("**It learned from rendered photos.** `toy-earth` is a known world to develop and test on.")
    if run_results.rendered(results.dataset):
        paragraphs.append("Nothing that is said here of accuracy holds for real photos.")
    if companions:
        others = ", ".join(map(_code, companions))
        routed = "; each photo goes to the network of its scene" if "{scene}" in results.run else ""
        paragraphs.append(
            f"**It answers together with** {others}, as run {_code(results.run)}{routed}. The figures of the "
            "evaluation, here and below, are of all of them together, and not of this network alone."
        )
    if results.best is None:
        paragraphs.append(f"It was **not evaluated yet**: {_command(results)}")
    else:
        told = run_results.summary(results)
        paragraphs.append(_said(told, "accuracy", "baselines"))
    return "\n\n".join(paragraphs)


def _details(run: Trained) -> str:
    config = run.config
    commit = run.manifest.get("code", {}).get("commit")
    repository = f"Photo geolocation lab, at commit {_code(commit)}" if commit else "Photo geolocation lab"
    papers = [
        f"Müller-Budack, Pustu-Iren, Ewerth, *Geolocation Estimation of Photos using a Hierarchical Model and Scene "
        f"Classification*, ECCV 2018, [doi:10.1007/978-3-030-01258-8_35]({PAPER})"
    ]
    if config["partition"] in ("country", "region", targets.COORDINATES):
        papers.append("what it learns to name is that of *Lost & Found*")
    return f"""### Model Description

{_what(config)}. A backbone that has learned to see looks at the photo, and linear heads on its features answer. \
Nothing but pixels is read of a photo. {_confidence(config)}

- **Developed by:** {_NOT_RECORDED}
- **Model type:** {_code(config["architecture"])} with linear heads for {_heads(config)}
- **License:** {_licence(run)[1]}
- **Finetuned from model:** {_begun_with(config)}

### Model Sources

- **Repository:** {repository}
- **Paper:** {"; ".join(papers)}"""


def _uses(run: Trained) -> str:
    out_of_scope = "\n".join(f"- {use}" for use in OUT_OF_SCOPE)
    return f"""### Direct Use

{INTENDED}

### Downstream Use

Its backbone and heads can be what another run begins with (parameter `weights`), and its guesses an input to a study \
of photos or of models. Whatever is built on it has its errors and its limits: evaluate it anew, on photos of the kind \
that it is to see, calibrate it on such photos, and hand on this section.

### Out-of-Scope Use

{out_of_scope}

**Dual use.** {DUAL_USE}"""


def _limits(run: Trained, results: Results) -> str:
    told = run_results.summary(results)
    parts = [
        f"**How far off it is.** {_said(told, 'accuracy') or _validated(run)}",
        f"**It knows best what was photographed most.** Of the photos that it learned from, {_in_words(run)}.",
    ]
    if "breakdown" in results.tables:
        parts.append(f"**Where it is right, and where it is wrong.** {_said(told, 'continents')} By continent:")
        parts.append(run_results.by_factor(results, "continent").markdown())
        scenes = run_results.by_factor(results, "scene")
        parts += ["By scene:", scenes.markdown()] if scenes.rows else ["No scene of the test photos is known."]
    else:
        parts.append(f"**Where it is right, and where it is wrong**, was not looked at yet: {_command(results)}")
    sure = _said(told, "radii", "surest") or "By itself it is not calibrated."
    parts.append(f"**How sure it is.** {_confidence(run.config)} {sure}")
    parts.append(_told_by_the_folder(run.config))
    return "\n\n".join([*parts, "### Recommendations", "\n".join(f"- {each}" for each in RECOMMENDATIONS)])


def _start(run: Trained) -> str:
    folder = f"04_training/runs/{run.name}"
    return f"""Put this folder into `04_training/runs/` of a checkout of Photo geolocation lab, and judge it on photos \
whose places you know:

```
papermill 01_data/make_list.ipynb out.ipynb -p dataset mine -p photo_root ~/Pictures -p test_share 1
papermill 05_evaluation/evaluate.ipynb out.ipynb -p run {run.name} -p dataset mine -p photo_root ~/Pictures
```

or ask it in Python:

```python
from pathlib import Path

import pandas as pd

from helpers import predict

runs = predict.load({{"all": [Path("{folder}")]}})
photos = pd.DataFrame({{"id": ["first"], "path": ["first.jpg"]}})
placed = predict.locate(runs, photos, Path("folder-of-photos"), batch_size=8)
guesses = placed.answers[list(placed.answers)[-1]]  # latitude, longitude and confidence
radii = placed.spread  # how far off they may be
```

What it says there of how sure it is, is not calibrated: `05_evaluation/calibrate.ipynb` writes a `calibration.json`, \
which `predict.load` takes as its second argument."""


def _training(run: Trained, speed: footprint.Speed | None) -> str:
    config, counts = run.config, run.manifest.get("counts", {})
    left_out = counts.get("training photos without a class or of other scenes")
    others = f" {left_out:,} more have no class, or are of other scenes, and were left out." if left_out else ""
    list_hash = run.manifest.get("inputs", {}).get("data list", {}).get("sha256")
    fingerprint = f" Its data list has the SHA-256 {_code(list_hash)}." if list_hash else ""
    unreadable = int(run.curves["unreadable_photos"].iloc[-1])
    spoilt = f" {unreadable:,} photos could not be read (`unreadable.csv`)." if unreadable else ""
    trained_on = config.get("trained_on", {})
    settings = [
        f"| {_code(name)} | {_code(value).replace('|', '')} |"
        for name, value in config.items()
        if name not in _NOT_SHOWN
    ]
    table = "\n".join(["| parameter | value |", "|---|---|", *settings])
    return f"""### Training Data

{len(run.training_places):,} photos of dataset {_code(config["dataset"])}, whose list names their sources, authors and \
licences.{others}{spoilt}{fingerprint}

{_by_continent(run.training_places).markdown()}

### Training Procedure

{_procedure(config)} After each epoch the validation photos were placed, one crop each; kept were the weights of epoch \
{best_epoch(run.curves)} of {len(run.curves)}, the best by {_code(config["best_by"])}. {_validated(run)}

#### Preprocessing

{_preprocessing(config)}

#### Training Hyperparameters

- **Training regime:** {_code(str(trained_on.get("number_format", "not recorded")).removeprefix("torch."))}

{table}

What each of them means, `04_training/train.ipynb` says.

#### Speeds, Sizes, Times

- **Size:** {run.size.parameters:,} parameters; `model.safetensors` has {run.size.file_bytes:,} bytes
- **Training time:** {progress.duration(float(run.curves["seconds"].sum()))} for {len(run.curves)} epochs with their \
validation
- **Training speed:** {_training_speed(run)}
- **Speed of prediction:** {speed or "not measured yet: `05_evaluation/report.ipynb` measures it"}"""


def _evaluation(run: Trained, results: Results, companions: Sequence[str]) -> str:
    if results.best is None:
        return f"Not evaluated yet: {_command(results)}\n\n{_validated(run)}"
    together = f", of {_code(results.run)} together" if companions else ""
    told = run_results.summary(results)
    own = results.dataset == run.config["dataset"]
    of_list = "of the same list as the training photos" if own else "of another list than the training photos"
    factors = [title.lower() for title in breakdown.FACTORS.values() if title]
    parts = [
        "### Testing Data, Factors & Metrics",
        "#### Testing Data",
        f"The {results.best['photos']:,} test photos of dataset {_code(results.dataset)}{together}, {of_list}. "
        f"{_said(told, 'training')}",
        "#### Factors",
        f"{', '.join(factors).capitalize()}: groups of fewer than {breakdown.LEAST_PHOTOS} photos or "
        f"{breakdown.LEAST_AUTHORS} authors have no interval.",
        "#### Metrics",
        "The share of photos whose guess is within 1, 25, 200, 750 and 2,500 km of where they were taken, by "
        "great-circle distance, which stand for the right street, city, region, country and continent; the median "
        "distance; of the uncertainty, the share of photos that radii hold, and the expected calibration error.",
        "### Results",
        run_results.accuracy(results).markdown(),
    ]
    for heading, table in _result_tables(results):
        if table.rows:
            parts += [f"**{heading}**", table.markdown()]
    return "\n\n".join([*parts, "#### Summary", "\n".join(f"- {escaped(sentence)}" for sentence in told.values())])


def _result_tables(results: Results) -> list[tuple[str, Table]]:
    factors = [name for name in breakdown.FACTORS if name not in ("all", "continent", "scene", "region")]
    by_factor = [(breakdown.FACTORS[name], run_results.by_factor(results, name, shown=10)) for name in factors]
    return [
        ("What radii promise, and what they hold", run_results.coverage(results)),
        ("Confidence, before calibration and after", run_results.errors(results)),
        ("If only the surest guesses are given", run_results.abstention(results)),
        *by_factor,
        ("Without test photos that share something with training", run_results.leakage(results)),
    ]


def _impact(run: Trained) -> str:
    trained_on = run.config.get("trained_on", {})
    device, processes = str(trained_on.get("device", "not recorded")), int(trained_on.get("processes", 1))
    epochs, notebook = float(run.curves["seconds"].sum()), run.manifest.get("seconds")
    hours = f"{epochs / 3600:.3f} h in the epochs (`metrics.jsonl`)"
    if notebook is not None:
        resumed = " of which an earlier, interrupted part is not" if run.manifest["parameters"].get("resume") else ""
        hours += f"; {notebook / 3600:.3f} h from start to finish of the notebook (`manifest.json`){resumed}"
    power = footprint.power(device, processes)
    drawn = energy = f"not known: {escaped(power.basis)}"
    if power.watts is not None:
        drawn = f"{power.watts:,} W, an estimate: {escaped(power.basis)}"
        used = footprint.kwh(max(epochs, notebook or 0.0), power.watts)
        energy = f"about {used:.2g} kWh, an estimate: that power for the longer of these times"
    return f"""Time is measured, power is not. What is not in it: other runs and attempts, features of photos that \
were kept from an earlier run, evaluation, the rest of the machine and its cooling.

- **Hardware Type:** {processes} x {_code(device)}
- **Hours used:** {hours}
- **Power:** {drawn}
- **Energy:** {energy}
- **Cloud Provider:** not recorded
- **Compute Region:** not recorded
- **Carbon Emitted:** not estimated. It is the energy in kWh times the carbon intensity of the grid in kg CO2eq per \
kWh, which is another at every place and hour"""


def _specifications(run: Trained) -> str:
    config, trained_on = run.config, run.config.get("trained_on", {})
    versions = {"Python": run.manifest.get("python"), **run.manifest.get("libraries", {})}
    software = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    processes = int(trained_on.get("processes", 1))
    return f"""### Model Architecture and Objective

{_code(config["architecture"])} with linear heads for {_heads(config)}; squares of {config["image_size"]} pixels; \
{run.size.parameters:,} parameters; objective {_code(config["objective"])}.

### Compute Infrastructure

#### Hardware

{processes} {"process" if processes == 1 else "processes"} on {_code(str(trained_on.get("device", "not recorded")))}\
{f"; machine: {_code(run.manifest['processor'])}" if "processor" in run.manifest else ""}

#### Software

{escaped(software) or "The versions of all libraries are in `manifest.json`."}"""


def _what(config: Mapping[str, Any]) -> str:
    partition = config["partition"]
    answer = {"country": "the country", "region": "the state or province", targets.COORDINATES: "the coordinates"}
    kinds = ", ".join(targets.heads(partition))
    what = f"A network that guesses {answer.get(partition, f'the cell ({kinds})')} where a photo was taken"
    if config["scene"] != "all":
        what += f", for photos of {escaped(config['scene'])} scenes"
    if config.get("segmentation"):
        what += " from the photo and its segmentation map"
    return f"{what}, and its scene (indoor, natural, urban)" if targets.SCENE in config["classes"] else what


def _confidence(config: Mapping[str, Any]) -> str:
    if config["objective"] == "degrees_mse":
        return "It gives no confidence: it names one place for every photo, however little the photo shows."
    if config["partition"] == targets.COORDINATES:
        return "Its confidence is the length of the vector it gives, which is short where it wavers."
    return "Its confidence is the probability that it gives to the class it names."


def _said(told: Mapping[str, str], *about: str) -> str:
    """Those sentences of `run_results.summary` that are there, for Markdown."""
    return escaped(" ".join(told[each] for each in about if each in told))


def _validated(run: Trained) -> str:
    best = run.curves[run.curves["epoch"] == best_epoch(run.curves)].iloc[0]
    if "median_km" not in run.curves:
        return "There were no validation photos that could tell how good it is."
    shares = ", ".join(f"{100 * best[f'within_{km}km']:.1f} % within {km:,} km" for km in metrics.THRESHOLDS_KM)
    return (
        f"On validation photos, one crop, at the epoch that was kept: {shares}; half of the guesses are more than "
        f"{best['median_km']:,.0f} km off."
    )


def _continents(training_places: pd.DataFrame) -> pd.Series:
    """How many photos a run learned from on each continent, the most first."""
    at = training_places.groupby(["latitude", "longitude"]).size()
    codes = places.country_codes(*at.index.to_frame().to_numpy().T)
    continent = pd.Series(codes, dtype=object).map(places.countries()["continent"].str.partition(" (")[0])
    return at.reset_index(drop=True).groupby(continent.fillna(_AT_SEA)).sum().sort_values(ascending=False)


def _by_continent(training_places: pd.DataFrame) -> Table:
    photos = _continents(training_places)
    rows = [(str(name), f"{count:,}", f"{100 * count / photos.sum():.1f}") for name, count in photos.items()]
    caption = "The photos that it learned from, by the rounded coordinates that the run keeps."
    return Table(("continent", "training photos", "per cent"), rows, caption)


def _in_words(run: Trained) -> str:
    photos = _continents(run.training_places)
    return ", ".join(f"{100 * count / photos.sum():.1f} % are from {name}" for name, count in photos.items())


def _told_by_the_folder(config: Mapping[str, Any]) -> str:
    cells = targets.heads(config["partition"]) and config["partition"] not in ("country", "region")
    means = " `classes/` holds the mean coordinate of the training photos of each cell." if cells else ""
    gallery = (
        " `gallery.safetensors` holds for each of these photos numbers that tell how it looks to the network, from "
        "which it could be recognised."
        if "search" in config["classes"]
        else ""
    )
    return (
        "**What this folder tells of others.** No photo is in it, and nothing of the EXIF data of one. "
        "`training_places.parquet` holds the coordinates of the training photos, rounded to 0.01 degrees, about 1 km."
        f"{means}{gallery} `manifest.json` and the executed `train.ipynb` hold the parameters as they were given, with "
        "names of folders; `train.log` and `unreadable.csv` may name photos."
    )


def _heads(config: Mapping[str, Any]) -> str:
    kinds = {"country": "countries", "region": "regions", targets.COORDINATES: "numbers", targets.SCENE: "scenes"}
    kinds["search"] = "numbers to compare photos by"
    return ", ".join(
        f"{_code(name)} ({count:,} {kinds.get(name, 'cells')})" for name, count in config["classes"].items()
    )


def _begun_with(config: Mapping[str, Any]) -> str:
    architecture, weights = _code(config["architecture"]), config["weights"]
    if weights == "none":
        begun = "none: its weights began as random numbers"
    elif weights != "default":
        begun = f"the weights of {_code(weights)}"
    elif config["architecture"].startswith(_LITE):
        begun = f"{architecture} with ImageNet weights"
    else:
        begun = f"{architecture} with the weights that its library offers"
    return f"{begun}; the backbone was left as it is" if config["train_layers"] == "heads" else begun


def _licence(run: Trained) -> tuple[str, str]:
    """Licence as the Hub calls it, and in words."""
    weights, lite = run.config["weights"], run.config["architecture"].startswith(_LITE)
    chosen = "Whoever publishes this run decides, in keeping with that and with the licences of its photos"
    if weights == "none":
        return "apache-2.0", f"the code that made it is under Apache-2.0. {chosen}"
    if weights == "default" and lite:
        return "apache-2.0", f"the code that made it and its ImageNet weights are under Apache-2.0. {chosen}"
    return (
        "other",
        f"the code that made it is under Apache-2.0; the weights that it began with are under a licence of their own, "
        f"which may not be a free one, and is not recorded. {chosen}",
    )


def _procedure(config: Mapping[str, Any]) -> str:
    if config["train_layers"] == "heads":
        return (
            "The backbone stayed as it is; it was asked once for the features of each photo, and the heads learned "
            "from these."
        )
    factor = config["backbone_learning_rate_factor"]
    return f"All layers learned, the backbone at {factor:g} times the learning rate of the heads."


def _preprocessing(config: Mapping[str, Any]) -> str:
    size, augmentation = config["image_size"], escaped(config["augmentation"])
    learned = f"another square of {size} pixels of each photo in every epoch (augmentation {augmentation})"
    if config["train_layers"] == "heads":
        learned = f"a square of {size} pixels from the middle of each photo"
    return (
        f"It learned from {learned}, of photos shrunk to 8/7 of that on their shorter side. To place a photo it is "
        "shown five such squares, of the corners and the middle. Pixels are normalised as the backbone was trained."
    )


def _training_speed(run: Trained) -> str:
    rates = run.curves["photos_per_second"]
    if run.config["train_layers"] != "heads" or len(rates) == 1:
        return f"{rates.median():,.0f} photos/s, the median of the epochs, without validation"
    asked = run.curves.get("seconds_features", pd.Series([0.0])).iloc[0]
    return (
        f"{rates.iloc[0]:,.0f} photos/s in the first epoch, of which {asked:,.0f} s went into features; "
        f"{rates.iloc[1:].median():,.0f} photos/s in the later ones, the median, when heads alone learn"
    )


def _command(results: Results) -> str:
    return f"`{results.command('report')}`"


def _code(text: str) -> str:
    """Text as code in Markdown, which has no way to end it."""
    return f"`{' '.join(str(text).replace('`', '').split())}`"
