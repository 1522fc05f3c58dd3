"""What a run learns to tell of a photo: its cell, its country, its region or its coordinates."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from helpers import cells, manifests, paths, places, regions

COORDINATES, SCENE = "coordinates", "scene"  # heads of a network that stand for no classes on the map
PARTITIONS = (*cells.PARTITIONS, "multi", *regions.PARTITIONS, COORDINATES)

Classes = cells.Partition | regions.Classes


def heads(partition: str) -> tuple[str, ...]:
    """Names of the heads that learn the classes of a partition; none for coordinates, which have no classes.

    Examples
    --------
    >>> heads("multi"), heads("region"), heads("coordinates")
    (('coarse', 'middle', 'fine'), ('region',), ())
    """
    if partition == "multi":
        return cells.PARTITIONS
    return () if partition == COORDINATES else (partition,)


def finest(partition: str) -> str:
    """Name of the head with the finest classes of a partition that has classes."""
    return heads(partition)[-1]


def notebook(partition: str) -> str:
    """Notebook that makes the classes of a partition and the labels of photos; empty for coordinates."""
    if partition == COORDINATES:
        return ""
    return f"03_partitioning/{'build_regions' if partition in regions.PARTITIONS else 'build_cells'}"


def folder(partition: str, dataset: str) -> Path:
    """Folder with the classes of a partition of a dataset, and with the labels of its photos."""
    return paths.regions(dataset) if partition in regions.PARTITIONS else paths.cells(dataset)


def read(source: Path, names: Iterable[str]) -> dict[str, Classes]:
    """Classes of each head, from the folder that holds their lists.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`helpers.cells.read` and :func:`helpers.regions.read` do.
    """
    return {
        name: (regions if name in regions.PARTITIONS else cells).read(source / f"{name}.csv", name) for name in names
    }


def labels(classes: Classes, latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.int64]:
    """Class of each coordinate, -1 for one that is in none.

    Examples
    --------
    >>> france = regions.build(pd.DataFrame({"country": ["FR"]}), "country", min_photos=1)
    >>> labels(france, [48.9, 35.7], [2.4, 139.7]).tolist()
    [0, -1]
    """
    if isinstance(classes, cells.Partition):
        return cells.labels(classes, cells.leaf_ids(latitude, longitude))
    column = "country" if classes.name == "country" else "region"
    key = np.append(places.regions()[column].to_numpy(dtype=object), "")  # which the number of nowhere, -1, finds
    return (
        pd.Index(classes.keys, dtype=object)
        .get_indexer(pd.Index(key[places.locate(latitude, longitude)]))
        .astype(np.int64)
    )


def write(classes: Mapping[str, Classes], target: Path) -> None:
    """Write the classes of each head into a folder, where :func:`read` finds them."""
    for name, each in classes.items():
        if isinstance(each, cells.Partition):
            cells.write(each, target / f"{name}.csv")
        else:
            regions.write(each, target / f"{name}.csv")


def fingerprints(source: Path, outputs: Mapping[str, int]) -> dict[str, str]:
    """What tells the classes of one head from other classes: the fingerprint of their list where there is one.

    Parameters
    ----------
    source : Path
        Folder with the lists of classes.
    outputs : mapping of str to int
        Heads of a network with their numbers of outputs.
    """
    lists = {name: source / f"{name}.csv" for name in outputs}
    return {name: manifests.fingerprint(path) if path.exists() else name for name, path in lists.items()}
