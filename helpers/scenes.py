"""Scene classes of a photo."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from helpers import data_lists, manifests, paths, photo_stores, photos, toy_earth

SCENES = ("indoor", "natural", "urban")  # S3 of the ECCV 2018 paper, in the order of its labels 0, 1, 2
_PROBABILITIES = [f"p_{scene}" for scene in SCENES]
COLUMNS = ("id", "scene", *_PROBABILITIES, "s16", "s365")

_CLASSES = {"s3_label": 3, "s16_label": 16, "s365_label": 365}
_OFFICIAL_PROBABILITIES = [f"prob_{scene}" for scene in SCENES]
_OFFICIAL = (*_CLASSES, *_OFFICIAL_PROBABILITIES)
_IDS = ("id", "img_id")
_PHOTO_SUFFIX = r"(?i)\.(?:jpe?g|png)$"
_ROUNDING, _SUM_ERROR = 1e-6, 1e-3  # published probabilities exceed 1 by rounding
_MAX_TABLE_BYTES = 4 << 30  # that of MP-16 has half a GB


class MissingScenes(FileNotFoundError):
    """Scenes that were not recorded, or are those of other photos."""


def are_known(rows: pd.DataFrame, dataset: str, scene_table: str) -> bool:
    """Whether the scenes of a dataset need no classifier: its renderer, a table or its list `rows` knows them."""
    return bool(scene_table) or data_lists.has_rendered_photos(dataset) or bool(_named_in(rows).any())


def sources(dataset: str, scene_table: str) -> dict[str, Path]:
    """Files that the scenes of a dataset are read from."""
    files = {"data list": paths.data_list(dataset)}
    return {**files, "scene table": _table_path(scene_table)} if scene_table else files


def known(rows: pd.DataFrame, dataset: str, scene_table: str) -> pd.DataFrame:
    """Scenes of the photos of a list, as far as they are known.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list. Where it has the columns ``s3_label`` or ``prob_indoor, prob_natural, prob_urban``, texts
        or numbers, blank where unknown, they are used unless there is a better source.
    dataset : str
        ``toy-earth`` knows what it has drawn.
    scene_table : str
        For any other dataset a CSV file with ``id`` (or ``img_id``) and ``s3_label`` or ``prob_indoor,
        prob_natural, prob_urban``, and where known ``s16_label, s365_label``; capital letters do not matter. Ids match
        with or without the suffix of a photo.

    Returns
    -------
    DataFrame
        :data:`COLUMNS`, a row for each photo in the order of `rows`; missing values where nothing is known.

    Raises
    ------
    ValueError
        If nothing knows their scenes, see :func:`are_known`; if a label or a probability is none, the probabilities
        do not sum to one, or a photo's ``s3_label`` is not its likeliest scene; if the table cannot be read, lacks
        columns, repeats an id or knows none of the photos.
    """
    if data_lists.has_rendered_photos(dataset):
        scene = toy_earth.scenes(rows["id"], rows["latitude"], rows["longitude"])
        shares = {f"p_{name}": (scene == name).astype(float) for name in SCENES}
        return pd.DataFrame({"id": rows["id"], "scene": scene, **shares, "s16": pd.NA, "s365": pd.NA}).astype(
            {"s16": "Int64", "s365": "Int64"}
        )
    if scene_table:
        known_ones = _table_scenes(_table_path(scene_table))
        names = _stems(rows["id"])  # of a list that was fetched by a published table, ids are files' too
    elif are_known(rows, dataset, scene_table):
        known_ones, names = _official_scenes(rows[_named_in(rows)], f"the list of {dataset!r}"), rows["id"]
    else:
        raise ValueError(f"the scenes of dataset {dataset!r} are not known: name a table of them with -p scene_table")
    joined = known_ones.set_index("id").reindex(names).reset_index(drop=True)
    joined.insert(0, "id", rows["id"].to_numpy())
    if joined["scene"].isna().all():
        raise ValueError(f"{scene_table} knows none of the photos of {dataset!r}: its ids are not those of the list")
    return joined


def counted(scenes: pd.DataFrame, rows: pd.DataFrame, dataset: str, scene_table: str) -> dict[str, int]:
    """Numbers of photos by where their scene is from, and of those without one by why.

    Parameters
    ----------
    scenes : DataFrame
        A row for each photo, with its ``scene``.
    rows, dataset, scene_table
        As for :func:`known`.
    """
    if data_lists.has_rendered_photos(dataset):
        found, missing = "known to the renderer", "unknown to the renderer"
    elif scene_table:
        found, missing = "from the table", "not in the table"
    elif are_known(rows, dataset, scene_table):
        found, missing = "from the list", "not in the list"
    else:
        found, missing = "classified", "unreadable"
    without = int(scenes["scene"].isna().sum())
    return {"photos": len(scenes), found: len(scenes) - without, missing: without}


def photos_by_scene(
    rows: pd.DataFrame, scenes: pd.DataFrame, photo_root: Path, photos_each: int
) -> dict[str, tuple[list[NDArray[np.uint8]], list[str]]]:
    """Photos of each scene, for :func:`helpers.plots.photo_rows`.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    scenes : DataFrame
        A row for each of them, in their order.
    photo_root : Path
        Where the photos are.
    photos_each : int
        Most photos of each scene: the surest, the least sure, and those at equal steps between.

    Returns
    -------
    dict
        Small copies of the photos that can be read, and as captions the probability of the scene.
    """
    store = photo_stores.open_store(photo_root)
    path_of = rows.set_index("id")["path"]
    shown = {}
    for scene in SCENES:
        of_scene = scenes[scenes["scene"] == scene].sort_values([f"p_{scene}", "id"], ascending=[False, True])
        steps = np.linspace(0, max(len(of_scene) - 1, 0), min(photos_each, len(of_scene))).round().astype(int)
        chosen = of_scene.iloc[steps]
        images, captions = [], []
        for path, share in zip(path_of[chosen["id"]], chosen[f"p_{scene}"], strict=True):
            with contextlib.suppress(photos.PhotoError):  # a table knows the scene of photos that are not here, too
                images += photos.thumbnails(store, [path])
                captions.append(f"{share:.2f}")
        shown[scene] = images, captions
    return shown


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


def table(rows: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Recorded scenes of photos.

    Parameters
    ----------
    rows : DataFrame
        Rows of the data list of `dataset`, or some of them.
    dataset : str

    Returns
    -------
    DataFrame
        ``id, scene, p_indoor, p_natural, p_urban``, a row for each photo in the order of `rows`; missing values for
        a photo whose scene is not known.

    Raises
    ------
    MissingScenes
        If ``02_scenes/classify_scenes.ipynb`` has not run for the dataset, or what it wrote lacks photos of the list,
        which are then those of another dataset; names the command.
    StaleOutput
        If the data list or the scene table has changed since.
    """
    remedy = manifests.command("02_scenes/classify_scenes", {"dataset": dataset})
    files = recorded(dataset)
    if not files:
        raise MissingScenes(f"the scenes of {dataset!r} are not there yet. Make them first: {remedy}")
    scenes = pd.read_parquet(files["scenes"], columns=["id", "scene", *_PROBABILITIES])
    absent = rows["id"][~rows["id"].isin(scenes["id"])]
    if len(absent):
        raise MissingScenes(
            f"{files['scenes']} has the scenes of another dataset than {dataset!r}: it lacks {len(absent)} of "
            f"{len(rows)} photos, the first of them {absent.iloc[0]!r}. Make it again: {remedy}"
        )
    return rows[["id"]].merge(scenes, on="id", how="left", validate="one_to_one")


def joined(predictions: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """`predictions` with the ``scene`` of each photo, missing where it is not known.

    Raises
    ------
    MissingScenes
        If the recorded scenes are those of other photos.
    StaleOutput
        As :func:`recorded`.
    """
    if not recorded(dataset):
        return predictions.assign(scene=None)
    return predictions.assign(scene=table(predictions, dataset)["scene"].to_numpy())


def _table_path(scene_table: str) -> Path:
    path = Path(scene_table).expanduser()
    if not path.is_file():
        raise ValueError(f"scene_table {scene_table!r} is no file: give a CSV file with the scene of each photo")
    return path


def _table_scenes(path: Path) -> pd.DataFrame:
    """:data:`COLUMNS` of the photos of a table, whose ids have no suffix."""
    table = _read(path)
    absent = ~_named_in(table)
    if absent.any():
        raise ValueError(
            f"{path}: photo {table['id'][absent].iloc[0]!r} has neither s3_label nor probabilities: add one of them, "
            "or leave out its row"
        )
    table["id"] = _stems(table["id"])
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{path} names photo {repeated.iloc[0]!r} twice: keep one row for each photo")
    return _official_scenes(table, str(path))


def _read(path: Path) -> pd.DataFrame:
    """``id`` and official columns of a table, as text."""
    if path.stat().st_size > _MAX_TABLE_BYTES:
        raise ValueError(f"{path} has over {_MAX_TABLE_BYTES >> 30} GiB: keep the rows and columns that are needed")
    with path.open("rb") as stream:
        quotes = sum(block.count(b'"') for block in iter(lambda: stream.read(1 << 24), b""))
    if quotes % 2:  # Arrow would take all rows from an open one on for one value
        raise ValueError(f"{path} has a quotation mark that is not closed: close it, or take it out")
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)  # a title may have some
    try:
        with pa.OSFile(str(path)) as file:  # a name ending in .gz would have Arrow unpack it, to whatever size
            headings = pyarrow.csv.open_csv(file, parse_options=parsing).schema.names
        wanted = [name for name in headings if name.strip().lower() in (*_IDS, *_OFFICIAL)]
        columns = pd.Series(wanted, dtype=str).str.strip().str.lower().replace("img_id", "id")
        _check_headings(columns, headings, path)
        reading = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.large_string()), include_columns=wanted
        )
        with pa.OSFile(str(path)) as file:
            table = pyarrow.csv.read_csv(file, parse_options=parsing, convert_options=reading)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no CSV file in UTF-8 with commas and as many values in each row as there are headings "
            f"({error}): mend it"
        ) from None
    found = table.rename_columns(columns.tolist()).to_pandas()
    blank = _blank(found["id"])
    if blank.any():
        raise ValueError(f"{path}: row {int(blank.argmax()) + 1} below the headings has no id: add it")
    return found


def _check_headings(columns: pd.Series, headings: list[str], path: Path) -> None:
    named = set(columns)
    if "id" not in named or not ("s3_label" in named or set(_OFFICIAL_PROBABILITIES) <= named):
        raise ValueError(
            f"{path} has the columns {', '.join(headings)}; it needs id and s3_label, or id and prob_indoor, "
            "prob_natural, prob_urban"
        )
    repeated = columns[columns.duplicated()]
    if len(repeated):
        raise ValueError(f"{path} has the column {repeated.iloc[0]} twice (img_id is one of ids): keep one")


def _stems(ids: pd.Series) -> pd.Series:
    return pc.replace_substring_regex(_text(ids), _PHOTO_SUFFIX, "").to_pandas().set_axis(ids.index)


def _named_in(rows: pd.DataFrame) -> pd.Series:
    """Whether official columns say something of the scene of each photo."""
    said = pd.Series(False, index=rows.index)
    for group in (["s3_label"], _OFFICIAL_PROBABILITIES):
        if set(group) <= set(rows):
            for name in group:
                said |= ~_blank(rows[name])
    return said


def _blank(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        return values.isna()
    return pc.equal(_text(values), "").to_pandas().set_axis(values.index)


def _text(values: pd.Series) -> pa.Array:
    """Text without spaces around it, "" where there is none; in Arrow, for there may be millions."""
    if not isinstance(values.dtype, pd.StringDtype):
        values = values.astype(object).where(values.notna(), "").astype(str)
    text = pa.array(values, pa.large_string(), from_pandas=True)
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _official_scenes(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """:data:`COLUMNS` of photos that official columns say something of; `source` is what errors call them."""
    table = table.reset_index(drop=True)
    numbers = pd.DataFrame(
        {name: _numbers(table, name, source) if name in table else np.nan for name in _OFFICIAL}, index=table.index
    )
    shares = _shares(numbers, table["id"], source)
    label = numbers["s3_label"].fillna(pd.Series(shares.argmax(axis=1))).to_numpy(int)
    unsure = ~(shares[np.arange(len(shares)), label] >= shares.max(axis=1, initial=0) - _ROUNDING)
    if unsure.any():
        place = int(unsure.argmax())
        raise ValueError(
            f"{source}: photo {table['id'][place]!r} has s3_label {label[place]}, but its likeliest scene is "
            f"{shares[place].argmax()}: correct one of them"
        )
    fine = {name: numbers[f"{name}_label"].astype("Int64") for name in ("s16", "s365")}
    return pd.DataFrame(
        {
            "id": table["id"],
            "scene": np.array(SCENES)[label],
            **dict(zip(_PROBABILITIES, shares.T, strict=True)),
            **fine,
        }
    )


def _numbers(table: pd.DataFrame, name: str, source: str) -> pd.Series:
    """An official column as float64, NaN where it is blank."""
    blank = _blank(table[name])
    numbers = table[name] if pd.api.types.is_numeric_dtype(table[name]) else _parsed(table[name])
    numbers = numbers.astype("float64")
    if name in _CLASSES:
        what = f"must be a whole number from 0 to {_CLASSES[name] - 1}, or blank"
        sound = numbers.between(0, _CLASSES[name] - 1) & (numbers % 1 == 0)
    else:
        what = "is no probability: it must be from 0 to 1"
        sound = numbers.between(0, 1 + _ROUNDING)
    unsound = ~sound & ~blank
    if unsound.any():
        place = int(unsound.argmax())
        raise ValueError(
            f"{source}: photo {table['id'][place]!r} has {name} {str(table[name][place])!r}, which {what}. Correct it"
        )
    return numbers


def _parsed(values: pd.Series) -> pd.Series:
    text = _text(values)
    try:
        return pc.cast(pc.if_else(pc.equal(text, ""), None, text), pa.float64()).to_pandas()
    except pa.ArrowInvalid:  # of one that is no number; pandas is slow, and goes on
        return pd.to_numeric(text.to_pandas(), errors="coerce")


def _shares(numbers: pd.DataFrame, ids: pd.Series, source: str) -> NDArray[np.float64]:
    """Probabilities of the scenes, of shape (n, 3); certainty where there is a label only."""
    shares = numbers[_OFFICIAL_PROBABILITIES].to_numpy(copy=True)
    absent = np.isnan(shares).all(axis=1)
    certain = absent & numbers["s3_label"].notna().to_numpy()
    shares[certain] = np.eye(len(SCENES))[numbers["s3_label"].to_numpy()[certain].astype(int)]
    unsound = ~(np.abs(shares.sum(axis=1) - 1) <= _SUM_ERROR)
    if unsound.any():
        place = int(unsound.argmax())
        found = ", ".join(f"{share:g}" for share in shares[place])
        raise ValueError(
            f"{source}: photo {ids[place]!r} has the probabilities {found}: they must be three that sum to 1. Mend them"
        )
    return shares
