"""Scene classes of a photo."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import data_lists, manifests, paths, toy_earth

SCENES = ("indoor", "natural", "urban")  # S3 of the ECCV 2018 paper, in the order of its labels 0, 1, 2
_PROBABILITIES = [f"p_{scene}" for scene in SCENES]
COLUMNS = ("id", "scene", *_PROBABILITIES, "s16", "s365")


def sources(dataset: str, scene_table: str) -> dict[str, Path]:
    """Files that the scenes of a dataset are read from."""
    files = {"data list": paths.data_list(dataset)}
    return {**files, "scene table": _table_path(scene_table)} if scene_table else files


def known(photos: pd.DataFrame, dataset: str, scene_table: str) -> pd.DataFrame:
    """Scenes of the photos of a list, as far as they are known.

    Parameters
    ----------
    photos : DataFrame
        Rows of a data list.
    dataset : str
        ``toy-earth`` knows what it has drawn.
    scene_table : str
        For any other dataset a CSV file with ``id`` (or ``img_id``) and ``s3_label`` or ``prob_indoor,
        prob_natural, prob_urban``, and where known ``s16_label, s365_label``; capital letters do not matter.

    Returns
    -------
    DataFrame
        :data:`COLUMNS`, a row for each photo in the order of `photos`; missing values where nothing is known.

    Raises
    ------
    ValueError
        If there is no table for photos that need one, or it lacks columns, repeats an id or knows none of the photos.
    """
    if data_lists.has_rendered_photos(dataset):
        scene = toy_earth.scenes(photos["id"], photos["latitude"], photos["longitude"])
        shares = {f"p_{name}": (scene == name).astype(float) for name in SCENES}
        return pd.DataFrame({"id": photos["id"], "scene": scene, **shares, "s16": pd.NA, "s365": pd.NA}).astype(
            {"s16": "Int64", "s365": "Int64"}
        )
    if not scene_table:
        raise ValueError(f"the scenes of dataset {dataset!r} are not known: name a table of them with -p scene_table")
    table = _normalised(_table_path(scene_table))
    joined = photos[["id"]].merge(table, on="id", how="left", validate="one_to_one")
    if joined["scene"].isna().all():
        raise ValueError(f"{scene_table} knows none of the photos of {dataset!r}: its ids are not those of the list")
    return joined


def recorded(dataset: str) -> dict[str, Path]:
    """File that ``02_scenes/classify_scenes.ipynb`` has written for a dataset; nothing if it has not run.

    Raises
    ------
    StaleOutput
        If the data list or the scene table has changed since.
    """
    folder = paths.scenes(dataset)
    if not (folder / "manifest.json").exists():
        return {}
    manifests.check(folder)
    return {"scenes": folder / "scenes.parquet"}


def joined(predictions: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """`predictions` with the ``scene`` of each photo, missing where it is not known."""
    files = recorded(dataset)
    if not files:
        return predictions.assign(scene=None)
    table = pd.read_parquet(files["scenes"])
    return predictions.merge(table[["id", "scene"]], on="id", how="left", validate="one_to_one")


def _table_path(scene_table: str) -> Path:
    path = Path(scene_table).expanduser()
    if not path.is_file():
        raise ValueError(f"scene_table {scene_table!r} is no file: give a CSV file with the scene of each photo")
    return path


def _normalised(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str).rename(columns=str.lower)
    table = table.rename(columns={"img_id": "id", **{f"prob_{scene}": f"p_{scene}" for scene in SCENES}})
    if "id" not in table or not ({"s3_label"} <= set(table) or set(_PROBABILITIES) <= set(table)):
        raise ValueError(
            f"{path} has the columns {', '.join(table.columns)}; it needs id and s3_label, or id and prob_indoor, "
            "prob_natural, prob_urban"
        )
    table["id"] = table["id"].str.removesuffix(".jpg")  # the published tables name files
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{path} names photo {repeated.iloc[0]!r} twice: keep one row for each photo")
    if set(_PROBABILITIES) <= set(table):
        shares = table[_PROBABILITIES].apply(pd.to_numeric, errors="coerce")
        unsound = ~((shares >= 0) & (shares <= 1 + 1e-6)).all(axis=1)  # published ones exceed 1 by rounding
        if unsound.any():
            raise ValueError(
                f"{path}: photo {table['id'][unsound].iloc[0]!r} has a probability that is none: correct it"
            )
        label = shares.to_numpy().argmax(axis=1)
    else:
        unsound = ~table["s3_label"].isin(["0", "1", "2"])
        if unsound.any():
            photo, found = table.loc[unsound, ["id", "s3_label"]].iloc[0]
            raise ValueError(f"{path}: photo {photo!r} has s3_label {found!r}: it must be 0, 1 or 2")
        label = table["s3_label"].astype(int).to_numpy()
        shares = pd.DataFrame(np.eye(len(SCENES))[label], columns=_PROBABILITIES)
    fine = {
        name: table[f"{name}_label"].astype("Int64") if f"{name}_label" in table else pd.NA for name in ("s16", "s365")
    }
    return pd.DataFrame({"id": table["id"], "scene": np.array(SCENES)[label], **shares, **fine})[list(COLUMNS)]
