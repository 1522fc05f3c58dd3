"""Published predictions: read them photo by photo, and check what they state against what their coordinates give.

The published form is a CSV file for each model: a row for each photo with where it was taken, where the model puts it
and the distance stated. After the last row there may be a summary: a heading and a line of numbers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from helpers import bootstrap, data_lists, metrics, photo_tables

COLUMNS = ("img_id", "gt_lat", "predicted_lat", "gt_long", "predicted_long", "great_circle_distance")
"""Headings of the published form."""
SUMMARY = {
    "street acc (1km)": "within_1km",
    "city acc (25km)": "within_25km",
    "region acc (200km)": "within_200km",
    "country acc (750km)": "within_750km",
    "continent acc (2500km)": "within_2500km",
    "mean deviation (km)": "mean_km",
}
"""Headings of the summary, and our names for its figures."""
SAME_PLACE_KM = 0.1
"""Published coordinates are rounded; farther apart they are two truths."""

_NAMES = {
    "img_id": "id",
    "gt_lat": "latitude",
    "gt_long": "longitude",
    "predicted_lat": "predicted_latitude",
    "predicted_long": "predicted_longitude",
    "great_circle_distance": "stated_km",
}
_PLACES = ["latitude", "longitude", "predicted_latitude", "predicted_longitude"]
_LIMITS = {"gt_lat": 90, "predicted_lat": 90, "gt_long": 180, "predicted_long": 180}
_AUTHOR = r"_(?P<author>[0-9]+@N[0-9]+)(?:\.[A-Za-z]+)?$"
_FILL = ' \t",'
_SUFFIX = r"\.(?i:jpe?g|png|webp|tiff?|bmp)$"  # of a photo
_FOLDERS = r"^.*[/\\]"
_OTHER_KINDS = {
    b"\x1f\x8b": "is packed with gzip: unpack it",
    b"PK\x03\x04": "is a workbook of a spreadsheet or a zip: save its sheet as CSV in UTF-8, or unpack it",
    b"\xd0\xcf\x11\xe0": "is a workbook of a spreadsheet: save its sheet as CSV in UTF-8",
}
"""What files that are no CSV begin with, and what to do."""
_MOST_BYTES = 1 << 28  # two and a half million photos
_KM_PER_DEGREE = np.pi * metrics.EARTH_RADIUS_KM / 180


class Predictions(NamedTuple):
    """What one model was published to predict."""

    file: Path
    rows: pd.DataFrame
    """``id, author, latitude, longitude, predicted_latitude, predicted_longitude`` (degrees), ``distance_km`` computed
    from these, ``stated_km``; sorted by id. ``author`` is empty where the id does not tell."""
    rounding_km: float
    """How far a stated distance may be from the computed one because the file rounds both."""
    summary: dict[str, str]
    """Figures that the file states about itself, as written, by our names; empty where it has no summary."""

    @property
    def distance_km(self) -> pd.Series:
        """Distance of each photo's prediction from the truth, by id."""
        return self.rows.set_index("id")["distance_km"]


def files(predictions: str | Path) -> list[Path]:
    """Files of published predictions: the one that is given, or all ``.csv`` files of a folder.

    Raises
    ------
    ValueError
        If there is none.
    """
    form = f"CSV files with the columns {', '.join(COLUMNS)}"
    if not str(predictions).strip():
        raise ValueError(f"predictions is empty: give a file or a folder with the predictions of models, {form}")
    path = Path(predictions).expanduser().resolve()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"there is no file or folder {str(path)!r}: give one with the predictions of models, {form}")
    csv_files = [
        file
        for file in path.iterdir()
        if file.suffix.lower() == ".csv" and file.is_file() and not file.name.startswith(".")
    ]
    found = sorted(csv_files, key=lambda file: file.name)  # paths themselves sort by the platform's rules
    if not found:
        raise ValueError(f"the folder {str(path)!r} has no file that ends in .csv: give one that holds {form}")
    return found


def read(file: Path) -> Predictions:
    """Read the predictions of one model.

    Parameters
    ----------
    file : Path
        In the published form: text in UTF-8 with commas, the headings `COLUMNS` in any order and case, with or without
        others beside them, a row for each photo, and where there is one the summary after the last.

    Raises
    ------
    ValueError
        If the file is no such table, a column is missing, a photo comes twice, a coordinate is none, or columns look
        exchanged. The message names the file, and the line where it is one line's fault.
    """
    lines = pa.array(_text(file).split("\n"))
    # Spreadsheets fill blank lines up with commas.
    blank = pc.equal(pc.utf8_trim_whitespace(pc.utf8_trim(lines, _FILL)), "").to_numpy(zero_copy_only=False)
    if blank.all():
        raise ValueError(f"{file} is empty: give a file with the columns {', '.join(COLUMNS)}")
    starts = pc.starts_with(pc.utf8_ltrim(lines, _FILL), next(iter(SUMMARY)), ignore_case=True)
    end = pc.index(starts, True).as_py()
    heading = int(np.argmin(blank))
    if lines[heading].as_py().startswith("sep=") and not blank[heading + 1 :].all():  # written for a spreadsheet
        heading += 1 + int(np.argmin(blank[heading + 1 :]))
    if end == heading:
        raise ValueError(
            f"{file}, line {end + 1}: a summary stands before the headings. Move it to the end or remove it"
        )
    columns = _columns(lines[heading].as_py(), file)
    end = len(lines) if end < 0 else end
    number = np.flatnonzero(~blank)
    in_summary = number[number >= end]
    summary = _summary([lines[int(line)].as_py() for line in in_summary[:3]], file, in_summary)
    number = number[(number > heading) & (number < end)]
    if not len(number):
        raise ValueError(f"{file} has no photo: give a file with a row for each below its headings")
    fields = _fields(lines.take(pa.array(number)), columns, file, number)
    rows = pd.DataFrame({_NAMES[name]: _numbers(fields[name], name, file, number) for name in COLUMNS[1:]})
    rows.insert(0, "id", fields["img_id"])
    _check_ids(rows["id"], file, number)
    _check_coordinates(rows, file, number)
    _refuse_exchanged(rows, file)
    rows["author"] = _authors(rows["id"])
    rows["distance_km"] = metrics.great_circle_km(*(rows[name] for name in _PLACES))
    rows = rows[["id", "author", *_PLACES, "distance_km", "stated_km"]].sort_values("id", ignore_index=True)
    rounding_degrees = sum(_half_unit(fields[name]) for name in _LIMITS)
    rounding_km = _half_unit(fields["great_circle_distance"]) + rounding_degrees * _KM_PER_DEGREE
    return Predictions(file, rows, rounding_km, summary)


def read_all(predictions: str | Path) -> dict[str, Predictions]:
    """Read every model's predictions, by the name of its file without ``.csv``.

    Raises
    ------
    ValueError
        If a file cannot be read, two models share no photo, or they disagree about where a photo was taken.

    Notes
    -----
    A photo has the id that the first file with it gives it, where others name it with or without its suffix or folders
    (:func:`matched`).
    """
    found: dict[str, Predictions] = {}
    known = pd.Series(dtype=object)
    for file in files(predictions):
        if file.stem in found:
            raise ValueError(f"{found[file.stem].file} and {file.name} would have the same name: rename one")
        each = read(file)
        ids = matched(each.rows["id"], known).fillna(each.rows["id"])
        known = pd.concat([known, ids]).drop_duplicates()
        found[file.stem] = each._replace(rows=each.rows.assign(id=ids).sort_values("id", ignore_index=True))
    rows = pd.concat([predictions.rows.assign(model=model) for model, predictions in found.items()], ignore_index=True)
    has_photo = rows.pivot_table(index="id", columns="model", aggfunc="size", fill_value=0)[list(found)].to_numpy()
    apart = np.argwhere(has_photo.T @ has_photo == 0)
    if len(apart):
        one, two = (list(found.values())[number].file for number in apart[0])
        raise ValueError(f"{one} and {two.name} share no photo: give the files of one test set at a time")
    first = rows.drop_duplicates("id").set_index("id").loc[rows["id"]]
    places = [rows["latitude"], rows["longitude"], first["latitude"], first["longitude"]]
    disagrees = metrics.great_circle_km(*(np.asarray(place) for place in places)) > SAME_PLACE_KM
    if disagrees.any():
        photo, other = rows[disagrees].iloc[0], first[disagrees].iloc[0]
        raise ValueError(
            f"{found[photo['model']].file} has photo {photo['id']!r} at {photo['latitude']}, {photo['longitude']}, and "
            f"{found[other['model']].file.name} at {other['latitude']}, {other['longitude']}, as with "
            f"{disagrees.sum()} photos: compare models on the same truth"
        )
    return found


def matched(ids: pd.Series, known: pd.Series) -> pd.Series:
    """What other ids of the same photos are: equal ones, or else those that differ in a photo's suffix or in folders.

    Parameters
    ----------
    ids, known : Series of str
        Each without duplicates.

    Returns
    -------
    Series
        In the order of `ids`: one of `known`, or missing. None of `known` comes twice: where a name without suffix or
        folders could be two photos, it is none. An id with folders can be one without, but not one with other folders.

    Examples
    --------
    >>> ids = pd.Series(["1.jpg", "set/2.JPG", "set/3", "4.jpg"])
    >>> matched(ids, pd.Series(["1", "2.jpg", "other/3"])).fillna("").tolist()
    ['1', '2.jpg', '', '']
    """
    found = pd.Series(ids.where(ids.isin(known), None).to_numpy(dtype=object), index=ids.to_numpy(dtype=object))
    for ours, theirs in ((_stems, _stems), (_without_folders, _stems_of_plain), (_stems_of_plain, _without_folders)):
        one, two = _by_unique_key(ids, ours), _by_unique_key(known, theirs)
        one, two = one[one.map(found).isna()], two[~two.isin(found)]
        shared = one.index.intersection(two.index)
        found[one[shared]] = two[shared].to_numpy()
    return found.reset_index(drop=True)


def _stems(names: pd.Series) -> pd.Series:
    return names.str.replace(_SUFFIX, "", regex=True)


def _stems_of_plain(names: pd.Series) -> pd.Series:
    return _stems(names[~names.str.contains(_FOLDERS)])


def _without_folders(names: pd.Series) -> pd.Series:
    return _stems(names[names.str.contains(_FOLDERS)]).str.replace(_FOLDERS, "", regex=True)


def _by_unique_key(names: pd.Series, key: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """Names by their keys, but those that share one."""
    names = names.reset_index(drop=True).astype(object)
    keys = key(names)
    keys = keys[~keys.duplicated(keep=False)]
    return names[keys.index].set_axis(keys.to_numpy())


def read_truth(truth: str | Path) -> photo_tables.PhotoTable:
    """Table that says where the photos were taken, see `photo_tables.read`; without rows where none is given."""
    if not str(truth).strip():
        return photo_tables.PhotoTable(pd.DataFrame(columns=["id", "latitude", "longitude", "author"]), {}, [])
    return photo_tables.read(Path(truth).expanduser(), "id")


def distances(published: Mapping[str, Predictions]) -> pd.DataFrame:
    """Distance in km of every photo (row, by id) for every model (column), NaN where a model has no prediction."""
    return pd.DataFrame({model: predictions.distance_km for model, predictions in published.items()}).sort_index()


def authors(published: Mapping[str, Predictions], truth: pd.DataFrame) -> pd.Series:
    """Author of every photo by id: the one that its id ends in, else that of the truth, else empty."""
    rows = pd.concat([predictions.rows[["id", "author"]] for predictions in published.values()])
    rows = rows.drop_duplicates("id").sort_values("id", ignore_index=True)
    known = truth.set_index("id")["author"].astype(str).reindex(matched(rows["id"], truth["id"])).fillna("")
    author = rows["author"].where(rows["author"] != "", known.to_numpy())
    return author.set_axis(rows["id"])


def interval_table(
    published: Mapping[str, Predictions], author: pd.Series, resamples: int, *, seed: int
) -> pd.DataFrame:
    """Give `bootstrap.interval_table` of models that need not have the same photos."""
    parts = []
    for model, predictions in published.items():
        distance = predictions.distance_km
        parts.append(bootstrap.interval_table({model: distance}, author[distance.index], resamples, seed=seed))
    return pd.concat(parts, ignore_index=True)


def summaries(published: Mapping[str, Predictions]) -> pd.DataFrame:
    """Every figure that a file states about itself beside the one that its coordinates give.

    Returns
    -------
    DataFrame
        Columns ``model, figure, stated, computed, agrees``; a stated figure agrees if it is the computed one but for
        the rounding of the file's numbers. No rows for files without a summary.
    """
    rows = []
    for model, predictions in published.items():
        computed = metrics.accuracy_table({model: predictions.distance_km}).iloc[0]
        shares = [text for figure, text in predictions.summary.items() if figure in metrics.SHARES]
        for figure, text in predictions.summary.items():
            rounding = _half_unit(shares) if figure in metrics.SHARES else _half_unit([text]) + predictions.rounding_km
            agrees = abs(float(text) - computed[figure]) <= rounding + 1e-12
            rows.append([model, figure, float(text), computed[figure], agrees])
    return pd.DataFrame(rows, columns=["model", "figure", "stated", "computed", "agrees"])


def checks(published: Mapping[str, Predictions], author: pd.Series) -> pd.DataFrame:
    """What to know of each file: its photos and authors, and where what it states is not what its coordinates give.

    Returns
    -------
    DataFrame
        Columns ``model, photos, authors, author_unknown, distance_differs`` (photos whose stated distance is off the
        computed one by more than the rounding of the file's numbers), ``largest_difference_km`` (between the two), and
        ``summary`` in words.
    """
    stated = summaries(published)
    rows = []
    for model, predictions in published.items():
        difference = (predictions.rows["distance_km"] - predictions.rows["stated_km"]).abs()
        whose = author[predictions.rows["id"]]
        agrees = stated.loc[stated["model"] == model, "agrees"]
        wrong = f"{(~agrees).sum()} of {len(agrees)} figures differ" if not agrees.all() else "as computed"
        rows.append(
            {
                "model": model,
                "photos": len(difference),
                "authors": whose[whose != ""].nunique(),
                "author_unknown": int((whose == "").sum()),
                "distance_differs": int((difference > predictions.rounding_km).sum()),
                "largest_difference_km": float(difference.max()),
                "summary": wrong if len(agrees) else "none",
            }
        )
    return pd.DataFrame(rows)


def truth_differences(published: Mapping[str, Predictions], truth: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Photos whose true place in the predictions is not that of another table.

    Parameters
    ----------
    published : mapping of str to Predictions
    truth : DataFrame
        ``id, latitude, longitude``, as `photo_tables.read` gives them; ids match as in :func:`matched`.

    Returns
    -------
    differences : DataFrame
        ``id, latitude, longitude, truth_latitude, truth_longitude, difference_km`` of photos that lie more than 0.1 km
        apart, the farthest first.
    counts : dict
        Photos of the predictions by what was found. Said in a line where most are not in the truth.

    Raises
    ------
    ValueError
        If the truth has rows, and none is of a photo of the predictions.
    """
    rows = pd.concat([predictions.rows for predictions in published.values()]).drop_duplicates("id")
    rows = rows[["id", "latitude", "longitude"]].reset_index(drop=True)
    known = truth.set_index("id")[["latitude", "longitude"]].add_prefix("truth_")
    rows["key"] = matched(rows["id"], truth["id"])
    both = rows.dropna(subset="key").join(known.astype(np.float64), on="key").drop(columns="key")
    if both.empty and len(truth):
        raise ValueError(
            f"the truth has none of the photos of the predictions, such as {rows['id'].iloc[0]!r}: it has "
            f"{truth['id'].iloc[0]!r}; give the table of the same test set"
        )
    both["difference_km"] = metrics.great_circle_km(*both.drop(columns="id").to_numpy(dtype=np.float64).T)
    apart = both[both["difference_km"] > SAME_PLACE_KM]
    counts = {"without a truth to check them against": len(rows)}
    if len(truth):
        counts = {
            "at the same place as in the truth": len(both) - len(apart),
            "elsewhere than in the truth": len(apart),
            "not in the truth": len(rows) - len(both),
        }
        if 2 * len(both) < len(rows):
            print(
                f"most photos of the predictions, {len(rows) - len(both):,} of {len(rows):,}, are not in the truth: "
                "see that it is the table of the same test set",
                flush=True,
            )
    return apart.sort_values(["difference_km", "id"], ascending=[False, True], ignore_index=True), counts


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(
            f"{file} has more than {_MOST_BYTES >> 20} MiB, which no table of a test set has: leave it out"
        )
    for start, problem in _OTHER_KINDS.items():
        if data.startswith(start):
            raise ValueError(f"{file} {problem}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}, line {line}, is not text in UTF-8: export it as CSV in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{file} holds NUL bytes and is no CSV file in UTF-8: export it as one")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _columns(heading: str, file: Path) -> list[str]:
    columns = [name.lower() for name in _split(heading)]
    form = f"the published form has {', '.join(COLUMNS)}"
    other = next((name for separator, name in ((";", "semicolons"), ("\t", "tabs")) if separator in heading), "")
    if len(columns) == 1 and other:
        raise ValueError(f"{file} has {other} between its columns: export it with commas, and points in its numbers")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        shown = ", ".join(_split(heading)) if len(heading) < 500 else f"{heading[:100]}…"
        raise ValueError(f"{file} has no column {', '.join(missing)}: {form}. Name its columns so. It has: {shown}")
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise ValueError(f"{file} has the column {', '.join(twice)} twice: {form}. Remove one")
    return columns


def _split(line: str) -> list[str]:
    return [field.strip(' "\t') for field in line.split(",")]


def _summary(lines: list[str], file: Path, number: NDArray[np.intp]) -> dict[str, str]:
    """Figures of a summary, of which these are the first three lines that are not blank."""
    if not lines:
        return {}
    names, values = [_split(line.rstrip(_FILL)) for line in [*lines, ""][:2]]
    is_published = [name.lower() for name in names] == list(SUMMARY) and len(values) == len(SUMMARY)
    if not is_published or not all(map(_is_number, values)):
        raise ValueError(
            f"{file}, line {number[0] + 1}: a summary begins there, which is not that of the published form, "
            f"a line {','.join(SUMMARY)} and a line of as many numbers: mend it or remove it"
        )
    if len(lines) > 2:
        raise ValueError(
            f"{file}, line {number[2] + 1}: there are lines after the summary, which belongs at the end. Move it "
            "there or remove it, and give the predictions of each model a file of their own"
        )
    return dict(zip(SUMMARY.values(), values, strict=True))


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text))


def _fields(lines: pa.Array, columns: list[str], file: Path, number: NDArray[np.intp]) -> dict[str, pd.Series]:
    """Text of each column of `COLUMNS`."""
    fields = pc.split_pattern(lines, ",")
    wrong = pc.not_equal(pc.list_value_length(fields), len(columns)).to_numpy(zero_copy_only=False)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, line {number[first] + 1}, has {len(fields[first])} values for {len(columns)} columns: mend it "
            "(a summary belongs after the last photo, and no value may hold a comma)"
        )
    values = pc.utf8_trim(pc.list_flatten(fields), ' "\t')
    return {
        name: values.take(pa.array(np.arange(columns.index(name), len(values), len(columns)))).to_pandas()
        for name in COLUMNS
    }


def _authors(ids: pd.Series) -> pd.Series:
    """Flickr user that each id ends in, "" where it ends in none."""
    found = pc.struct_field(pc.extract_regex(pa.array(ids, type=pa.string()), _AUTHOR), "author")
    return pc.fill_null(found, "").to_pandas()


def _numbers(texts: pd.Series, name: str, file: Path, number: NDArray[np.intp]) -> pd.Series:
    values = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(values.to_numpy())
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"{file}, line {number[first] + 1}: {name} is {texts[first]!r}, which is no number: mend it")
    return values


def _check_ids(ids: pd.Series, file: Path, number: NDArray[np.intp]) -> None:
    empty = (ids == "").to_numpy()
    if empty.any():
        raise ValueError(f"{file}, line {number[np.argmax(empty)] + 1}: img_id is empty: name the photo")
    again = ids.duplicated().to_numpy()
    if again.any():
        photo = ids[np.argmax(again)]
        lines = number[ids == photo] + 1
        raise ValueError(
            f"{file} has photo {photo!r} in lines {lines[0]} and {lines[1]}, and {again.sum()} rows of photos that "
            "came before: leave one of each, and give the predictions of each model a file of their own"
        )
    odd = pc.match_substring_regex(pa.array(ids, type=pa.string()), r'["\x00-\x1f\x7f\x{2028}\x{2029}]')
    strange = odd.to_numpy(zero_copy_only=False)
    if strange.any():
        first = int(np.argmax(strange))
        raise ValueError(
            f"{file}, line {number[first] + 1}: img_id is {ids[first]!r}, which has a quote or a control character in "
            "it: mend it"
        )


def _check_coordinates(rows: pd.DataFrame, file: Path, number: NDArray[np.intp]) -> None:
    for latitude, longitude in (_PLACES[:2], _PLACES[2:]):
        try:
            data_lists.refuse_swapped(
                pd.DataFrame({"id": rows["id"], "latitude": rows[latitude], "longitude": rows[longitude]})
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    for name, limit in _LIMITS.items():
        wrong = (rows[_NAMES[name]].abs() > limit).to_numpy()
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"{file}, line {number[first] + 1}: photo {rows['id'][first]!r} has {name} "
                f"{rows[_NAMES[name]][first]}, which lies off the Earth: it must be from -{limit} to {limit} degrees"
            )
    negative = (rows["stated_km"] < 0).to_numpy()
    if negative.any():
        first = int(np.argmax(negative))
        raise ValueError(
            f"{file}, line {number[first] + 1}: great_circle_distance is {rows['stated_km'][first]}: no distance is "
            "negative; mend it"
        )


def _refuse_exchanged(rows: pd.DataFrame, file: Path) -> None:
    """Raise ``ValueError`` if the stated distances are those of exchanged latitudes and longitudes.

    Nothing else tells of that where all longitudes are within ±90°, as in Europe.
    """
    if _share_as_stated(rows) > 0.5:
        return
    pairs = {"gt_lat and gt_long": _PLACES[:2], "predicted_lat and predicted_long": _PLACES[2:]}
    for headings, places in {**pairs, " and ".join(pairs): _PLACES}.items():
        exchanged = rows.rename(columns=dict(zip(places, [places[n ^ 1] for n in range(len(places))], strict=True)))
        if (exchanged[[_PLACES[0], _PLACES[2]]].abs() <= 90).all(axis=None) and _share_as_stated(exchanged) > 0.95:
            raise ValueError(
                f"{file} states the distances that its coordinates have with the headings {headings} exchanged: "
                "exchange them"
            )


def _share_as_stated(rows: pd.DataFrame) -> float:
    """Share of the photos whose distance is the stated one to the kilometre."""
    computed = metrics.great_circle_km(*(rows[name] for name in _PLACES))
    return float((np.abs(computed - rows["stated_km"]) <= 1).mean())


def _half_unit(texts: pd.Series | Sequence[str]) -> float:
    """Half a unit of the last decimal that most numbers of a column are written with.

    Some have fewer, for zeros at their end are often left out, and few have more, where a computer's sums show.
    """
    after_point = pc.replace_substring_regex(pa.array(texts, type=pa.string()), r"^[^.]*\.?([0-9]*).*$", r"\1")
    decimals = pc.utf8_length(after_point).to_numpy()
    return 0.5 * 10.0 ** -int(np.quantile(decimals, 0.5, method="higher"))
