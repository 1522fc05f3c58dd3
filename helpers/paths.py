"""Where stages and outputs live.

Nothing here depends on the current directory. Outputs go beside the notebooks of this checkout, or below the
folder that the environment variable ``PHOTO_GEOLOCATION_ROOT`` names, which tests use to keep the checkout clean.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
NETWORKS_OF_SCENES = "isn"  # stands in the name of their results, where those of the networks have their scenes
_LONGEST_NAME = 200  # bytes; file systems allow 255
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def root() -> Path:
    """Folder that holds ``data-lists`` and the outputs of every stage."""
    return Path(os.environ.get("PHOTO_GEOLOCATION_ROOT") or SOURCE).resolve()


def notebook(name: str) -> Path:
    """Source notebook of a stage, e.g. ``04_training/train``."""
    return SOURCE / f"{name}.ipynb"


def ablation() -> Path:
    """Committed figure of what each step of a search gains, which ``benchmarks.ablation`` draws."""
    return SOURCE / "benchmarks" / "ablation.png"


def data_list(dataset: str) -> Path:
    """The list that says which photos a dataset has, compressed where it is very long."""
    path = root() / "data-lists" / f"{checked_name(dataset)}.csv"
    compressed = path.with_name(f"{path.name}.gz")
    if path.exists() and compressed.exists():
        raise ValueError(f"there are two lists of {dataset!r}, {path} and {compressed}: keep one of them")
    return compressed if compressed.exists() else path


def list_notes(dataset: str) -> Path:
    """Folder with the manifest and the figures of a dataset's list."""
    return root() / "01_data" / "lists" / checked_name(dataset)


def photos(dataset: str) -> Path:
    """Folder of a dataset's photos, unless a ``photo_root`` is given."""
    return root() / "01_data" / "photos" / checked_name(dataset)


def shards(dataset: str) -> Path:
    """Folder of a dataset's photos as they were prepared for training, a folder for each preparation."""
    return root() / "01_data" / "shards" / checked_name(dataset)


def download_notes(dataset: str) -> Path:
    """Folder with the report of a dataset's download, and the rows that are missing."""
    return root() / "01_data" / "downloads" / checked_name(dataset)


def pack_notes(dataset: str) -> Path:
    """Folder with the manifest of a dataset's packing."""
    return root() / "01_data" / "packed" / checked_name(dataset)


def collected(dataset: str) -> Path:
    """Folder with the table of photos that a dataset is to be downloaded from."""
    return root() / "01_data" / "collected" / checked_name(dataset)


def enriched(dataset: str) -> Path:
    """Folder with the manifest and the maps of a list that got countries and regions."""
    return root() / "01_data" / "enriched" / checked_name(dataset)


def cleaned(dataset: str) -> Path:
    """Folder with what cleaning removed for a list, and why."""
    return root() / "01_data" / "cleaned" / checked_name(dataset)


def balanced(dataset: str) -> Path:
    """Folder with the distribution of countries of a balanced list."""
    return root() / "01_data" / "balanced" / checked_name(dataset)


def explored(dataset: str) -> Path:
    """Folder with tables and figures about a list."""
    return root() / "01_data" / "explored" / checked_name(dataset)


def measures(dataset: str) -> Path:
    """File of what the photos of a dataset measure, kept from one look at them to the next."""
    return root() / "01_data" / "measures" / f"{checked_name(dataset)}.parquet"


def scenes(dataset: str) -> Path:
    """Folder with the scenes of a dataset's photos."""
    return root() / "02_scenes" / "scenes" / checked_name(dataset)


def scene_weights() -> Path:
    """Folder with published networks that classify scenes, once they were fetched."""
    return root() / "02_scenes" / "weights"


def segmentations(dataset: str) -> Path:
    """Folder that tells of the segmentation maps of a dataset's photos."""
    return root() / "02_scenes" / "segmentations" / checked_name(dataset)


def maps(dataset: str) -> Path:
    """Folder with the segmentation maps of a dataset's photos, a folder of shards for each segmenter."""
    return root() / "02_scenes" / "maps" / checked_name(dataset)


def cells(dataset: str) -> Path:
    """Folder with the partitions of a dataset and the labels of its photos."""
    return root() / "03_partitioning" / "cells" / checked_name(dataset)


def regions(dataset: str) -> Path:
    """Folder with the countries and regions of a dataset as classes, and the labels of its photos."""
    return root() / "03_partitioning" / "regions" / checked_name(dataset)


def features(backbone: str) -> Path:
    """Folder with what a frozen backbone says of photos, kept from one run to the next."""
    return root() / "04_training" / "features" / checked_name(backbone)


def checkpoints(run_name: str) -> Path:
    """Folder with what an unfinished training run goes on from."""
    return root() / "04_training" / "checkpoints" / checked_name(run_name)


def run(run_name: str) -> Path:
    """Folder of one training run."""
    if run_name == published().name or run_name.endswith(f"-{NETWORKS_OF_SCENES}"):
        raise ValueError(f"a run cannot be named {run_name!r}, as other results are: choose another run_name")
    return root() / "04_training" / "runs" / checked_name(run_name)


def exported(run_name: str) -> Path:
    """Folder with the network of a run as files that other software runs.

    Raises
    ------
    ValueError
        If the name stands for several networks, ``a+b`` or ``{scene}``.
    """
    if "+" in run_name or "{scene}" in run_name:
        raise ValueError(f"{run_name!r} stands for several networks, and a file holds one: export each by its own name")
    return root() / "04_training" / "exported" / checked_name(run_name)


def sweep(sweep_name: str) -> Path:
    """Folder of a sweep over parameters of training: its database, its trials, and its results."""
    return root() / "04_training" / "sweeps" / checked_name(sweep_name)


def evaluated_name(run_name: str) -> str:
    """Name that the results of a run have, or of several that answer together.

    Parameters
    ----------
    run_name : str
        ``{scene}`` in it stands for the networks of all scenes; ``+`` joins networks that answer together.

    Examples
    --------
    >>> evaluated_name("toy-earth-multi-{scene}"), evaluated_name("first+second")
    ('toy-earth-multi-isn', 'first+second')
    """
    return "+".join(checked_name(part.replace("{scene}", NETWORKS_OF_SCENES)) for part in run_name.split("+"))


def results(run_name: str, dataset: str) -> Path:
    """Folder with the results of a run, or of the networks of several scenes, on a dataset."""
    return root() / "05_evaluation" / "results" / evaluated_name(run_name) / checked_name(dataset)


def countries(run_name: str, dataset: str) -> Path:
    """Folder with how often a run names the right country, and the right region, on a dataset."""
    return root() / "05_evaluation" / "countries" / evaluated_name(run_name) / checked_name(dataset)


def calibration(run_name: str) -> Path:
    """Folder with how the confidence of a run, or of several networks together, was calibrated."""
    return root() / "05_evaluation" / "calibrations" / evaluated_name(run_name)


def predictions(run: str, name: str) -> Path:
    """Folder with where a run, given by its name or by the path of its folder, puts photos of somebody's."""
    last = "+".join(Path(part).name for part in run.split("+"))
    return root() / "05_evaluation" / "predictions" / evaluated_name(last) / checked_name(name)


def uncertainty(run_name: str, dataset: str) -> Path:
    """Folder with how well a run knows how sure it is, on a dataset."""
    return root() / "05_evaluation" / "uncertainty" / evaluated_name(run_name) / checked_name(dataset)


def breakdown(run_name: str, dataset: str) -> Path:
    """Folder with where in the world, and on what photos, a run is right and wrong."""
    return root() / "05_evaluation" / "breakdowns" / evaluated_name(run_name) / checked_name(dataset)


def explanations(run_name: str, dataset: str) -> Path:
    """Folder with what in photos of a dataset speaks for the places that a run names."""
    return root() / "05_evaluation" / "explanations" / evaluated_name(run_name) / checked_name(dataset)


def leakage(run_name: str, dataset: str) -> Path:
    """Folder with how near test photos are to those that a run has learned from."""
    return root() / "05_evaluation" / "leakage" / evaluated_name(run_name) / checked_name(dataset)


def comparison(dataset: str) -> Path:
    """Folder with runs, and published predictions, compared on the photos of a dataset."""
    return root() / "05_evaluation" / "comparisons" / checked_name(dataset)


def report(run_name: str, dataset: str) -> Path:
    """Folder with the report about a run on a dataset."""
    return root() / "05_evaluation" / "reports" / evaluated_name(run_name) / checked_name(dataset)


def paper_table(dataset: str) -> Path:
    """Folder with the paper's table for runs that were evaluated on a dataset."""
    return root() / "05_evaluation" / "paper_table" / checked_name(dataset)


def published() -> Path:
    """Folder with the accuracies of published predictions."""
    return root() / "05_evaluation" / "results" / "published"


def games() -> Path:
    """File with the games that people have played against models."""
    return root() / "06_demo" / "games.sqlite"


def human_baseline(dataset: str) -> Path:
    """Folder with what people know of the photos of a dataset, beside models."""
    return root() / "06_demo" / "human_baselines" / checked_name(dataset)


def page(run_name: str, dataset: str) -> Path:
    """Folder with a page that shows a run's guesses for photos of a dataset, to be shared."""
    return root() / "06_demo" / "pages" / evaluated_name(run_name) / checked_name(dataset)


def checked_name(name: str) -> str:
    """Return `name` if it is safe as one file name, else raise ``ValueError``.

    Examples
    --------
    >>> checked_name("my-photos_2024")
    'my-photos_2024'
    >>> checked_name("../secret")
    Traceback (most recent call last):
    ...
    ValueError: '../secret' cannot name a dataset or a run: use letters, digits, '.', '_' and '-', at most 100
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a dataset or a run: use letters, digits, '.', '_' and '-', at most 100")
    return name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it becomes `path` on success and vanishes on any failure.

    So a reader sees the old file or the new one, never a half, even when the disk fills up.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "table.csv") as temporary:
    ...     _ = temporary.write_text("id\\n")
    >>> [file.name for file in folder.iterdir()]
    ['table.csv']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:  # the temporary one would be too long; a hash keeps it another for each
        name = name[:32] + hashlib.sha256(os.fsencode(name)).hexdigest()
    temporary = path.with_name(f".{name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
