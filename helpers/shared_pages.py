"""A page that shows a run's guesses, photo by photo: a folder that opens from the disk, and asks no other machine.

``index.html`` holds styles, scripts, the map and the data; ``photos/`` holds small copies, decoded and encoded anew, so
without EXIF. Neither tells ids, paths or names of files, and places are rounded to about a kilometre. Texts come from
data lists, which may come from anywhere: all of them are data to the script, which writes them as text.
"""

import base64
import hashlib
import html
import itertools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from torchvision.io import encode_jpeg

from helpers import data_lists, fetch, maps, metrics, paths, photo_stores, photos, places, run_results, web_maps

PAGE, PHOTOS = "index.html", "photos"
LONG_SIDE = 480  # pixels of a copy
UNKNOWN_SCENE = "unknown"
"""Stands for the scene of photos that have none."""
CHANGED = "not the photo of the list"
"""Reason of photos whose bytes are others than the list names: its author and licence are not theirs."""
DESCRIBED = ("id", "path", "sha256", "attribution", "licence", "url")

_JPEG_QUALITY = 80  # for a page: half the bytes of 90
_DECIMALS = 2  # of coordinates: a hundredth of a degree is a kilometre at most
_LEAST_RADIUS_KM = 1.0  # drawn, for places are no more exact
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src 'self' file:; base-uri 'none'; "
    "form-action 'none'"
)
"""Content security policy: the scripts that the page was made with, its own pictures, and no request."""
_USE = (
    "This page is for research and teaching, and for people who weigh a guess as a guess: every guess here is "
    "uncertain, and many are far off. Do not use it, or the model behind it, to find, track or identify people, or to "
    "decide anything about a person."
)
_RENDERED = (
    "These pictures are rendered, they are not photographs: toy-earth is a known world to develop and test on, and "
    "nothing that is said here of accuracy holds for real photos."
)


class Written(NamedTuple):
    """What a page shows."""

    shown: pd.DataFrame
    """A row for each photo, best first: its ``number`` on the page, which names its copy, and the ``id`` that the page
    does not tell; ``scene``, ``km``, ``within`` (how many of `metrics.THRESHOLDS_KM` hold the distance) and names."""
    unread: dict[str, list[str]]
    """Ids of the photos that could not be read, by reason."""
    size: int
    """Bytes of the page and its photos."""


def drawn(predictions: pd.DataFrame, rows: pd.DataFrame, most_photos: int, seed: int) -> pd.DataFrame:
    """Draw the photos that a page is to show.

    Parameters
    ----------
    predictions : DataFrame
        From :func:`helpers.predict.table`.
    rows : DataFrame
        Rows of the data list, among them all of these photos.
    most_photos : int
        How many at most.
    seed : int
        Which ones are drawn, whatever the order of the rows.

    Returns
    -------
    DataFrame
        Their predictions sorted by id, with the ``path``, ``sha256``, ``attribution``, ``licence`` and ``url`` of the
        list, "" where it does not know. The author stands for an attribution that is not there.

    Raises
    ------
    ValueError
        If none would be drawn, or the list does not have a photo.
    """
    if most_photos < 1 or predictions.empty:
        raise ValueError(f"{most_photos} of {len(predictions)} photos: a page needs at least one")
    known = predictions.sort_values("id", ignore_index=True)
    chosen = known.iloc[np.sort(np.random.default_rng(seed).permutation(len(known))[:most_photos])]
    listed = rows.reindex(columns=[*DESCRIBED, "author"], fill_value="")
    listed["attribution"] = listed["attribution"].where(listed["attribution"] != "", listed["author"])
    found = chosen.drop(columns=[*DESCRIBED[1:], "author"], errors="ignore").merge(
        listed.drop(columns="author"), on="id", how="left", validate="one_to_one"
    )
    lacking = found["id"][found["path"].isna()]
    if len(lacking):
        raise ValueError(
            f"the list does not have {len(lacking)} photos that were evaluated, such as {lacking.iloc[0]!r}: evaluate "
            "the run again with 05_evaluation/evaluate.ipynb"
        )
    return found


def find_photos(rows: pd.DataFrame, dataset: str, photo_root: str) -> Path:
    """Folder of the photos of some rows, of which :func:`write` counts those that are not there.

    They are fetched, or rendered, as `fetch.ensure` does.

    Raises
    ------
    ChangedPhoto
        If the bytes of a photo are not those that the list names, and all are there.
    """
    try:
        return fetch.ensure(rows, dataset, photo_root)
    except data_lists.MissingPhotos as error:
        print(f"not all photos can be shown: {error}", flush=True)
        return fetch.photo_folder(dataset, photo_root)


def write(
    found: pd.DataFrame, photo_root: photo_stores.PhotoRoot, folder: Path, run: str, dataset: str, remark: str = ""
) -> Written:
    """Write a page.

    Parameters
    ----------
    found : DataFrame
        From :func:`drawn`.
    photo_root : Path or PhotoStore
        What the paths are relative to.
    folder : Path
        Where ``index.html`` and ``photos/`` go.
    run, dataset : str
        For the title.
    remark : str
        Why the run is not calibrated, "" where it is.

    Raises
    ------
    ValueError
        If no photo can be read.
    """
    (folder / PHOTOS).mkdir(parents=True)
    store = photo_stores.reopened(photo_root)
    ordered = _facts(found).sort_values(["distance_km", "id"], kind="stable", ignore_index=True)
    asked = [(row["path"], row["sha256"]) for row in ordered[["path", "sha256"]].to_dict("records")]
    number, numbers, unread = 0, [], dict[str, list[str]]()
    for name, small in zip(
        ordered["id"], data_lists.in_threads(lambda photo: _small(store, *photo), asked, "photos"), strict=True
    ):
        if isinstance(small, photos.PhotoError):
            unread.setdefault(small.reason, []).append(name)
            numbers.append(0)
            continue
        number += 1
        numbers.append(number)
        with paths.replacing(folder / PHOTOS / f"{number}.jpg") as temporary:
            temporary.write_bytes(small)
    if not number:
        raise ValueError(
            f"none of {len(ordered)} photos can be read: {data_lists.counted(unread)}. Give the folder that holds them "
            "as photo_root"
        )
    shown = ordered.assign(number=numbers)[np.array(numbers) > 0].reset_index(drop=True)
    rendered = run_results.rendered(dataset)
    told = [_told(row, rendered) for row in shown.to_dict("records")]
    with paths.replacing(folder / PAGE) as temporary:
        temporary.write_text(_page(told, unread, run, dataset, remark, rendered), encoding="utf-8")
    size = sum(file.stat().st_size for file in [folder / PAGE, *(folder / PHOTOS).iterdir()])
    columns = ["number", "id", "scene", "km", "within", "confidence", "radius_50_km", "radius_90_km", "guess", "truth"]
    return Written(shown[columns], unread, size)


def remark(evaluation: Mapping[str, Any]) -> str:
    """Why a run is not calibrated, as the manifest of its evaluation says; "" where it is.

    Examples
    --------
    >>> remark({"counts": {"not calibrated": {"all": "too few photos"}}}), remark({"counts": {}})
    ('too few photos', '')
    """
    return "; ".join(dict.fromkeys(map(str, (evaluation["counts"].get("not calibrated") or {}).values())))


def summary(shown: pd.DataFrame) -> pd.DataFrame:
    """How far off the guesses of a page are, by scene and in all.

    Parameters
    ----------
    shown : DataFrame
        Of :class:`Written`.

    Returns
    -------
    DataFrame
        ``photos``, the median distance ``median_km``, and the shares within each distance, 0 to 1, as in `metrics`.
    """
    groups = {"all": shown, **dict(iter(shown.groupby("scene")))}
    rows = {
        name: {
            "photos": len(group),
            "median_km": group["km"].median(),
            **{share: (group["within"] >= len(metrics.SHARES) - at).mean() for at, share in enumerate(metrics.SHARES)},
        }
        for name, group in groups.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def link(url: str) -> str:
    """An address if a page may link to it, else "".

    Examples
    --------
    >>> link("https://example.org/photo?id=1"), link("javascript:alert(1)"), link("https://"), link("http://a b/")
    ('https://example.org/photo?id=1', '', '', '')
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    sound = re.fullmatch(r"[!-~]+", url) and parts.scheme in ("http", "https") and parts.hostname
    return url if sound else ""


def _facts(found: pd.DataFrame) -> pd.DataFrame:
    """What the page tells of photos, for all of them at once."""
    facts = found.reset_index(drop=True)
    # Whether a distance is within a threshold is told apart from it: rounded, it could be on the other side.
    facts["within"] = (facts["distance_km"].to_numpy()[:, None] <= np.array(metrics.THRESHOLDS_KM)).sum(axis=1)
    facts["km"] = facts["distance_km"].round(1)
    scene = facts["scene"].astype(object) if "scene" in facts else pd.Series(None, facts.index, dtype=object)
    facts["scene"] = scene.where(scene.notna() & (scene != ""), UNKNOWN_SCENE)
    facts["guess"] = _place_names(facts["predicted_latitude"], facts["predicted_longitude"])
    facts["truth"] = _place_names(facts["latitude"], facts["longitude"])
    return facts


def _place_names(latitude: pd.Series, longitude: pd.Series) -> list[str]:
    known, number = places.regions(), places.locate(latitude, longitude)
    country = known["country"].map(places.countries()["name"]).to_numpy(object)
    region = known["region"].str.rpartition(", ")[0].to_numpy(object)
    return [
        maps.place_name(north, east, *(("", "") if at == places.NOWHERE else (country[at], region[at])))
        for north, east, at in zip(latitude, longitude, number, strict=True)
    ]


def _small(store: photo_stores.PhotoStore, path: str, sha256: str) -> bytes | photos.PhotoError:
    """A photo's small copy, or why there is none."""
    try:
        data = photos.read_bytes(store, path)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise photos.PhotoError(f"photo {path!r} is not that of the list: restore it", CHANGED)
        width, height = photos.opened(data, path).size
        short_side = max(1, round(LONG_SIDE * min(width, height) / max(width, height)))
        photo = photos.decode(data, path, short_side)
    except photos.PhotoError as error:
        return error
    small = photos.resize(photo, short_side) if min(photo.shape[1:]) > short_side else photo
    return encode_jpeg(small.contiguous(), quality=_JPEG_QUALITY).numpy().tobytes()


def _told(photo: dict[Any, Any], rendered: bool) -> dict[str, Any]:
    """What the script is told of a photo."""
    guess, truth = _rounded(photo, "predicted_"), _rounded(photo, "")
    radii = {percent: _finite(photo.get(f"radius_{percent}_km")) for percent in (50, 90)}
    areas = [
        {
            **{"kind": kind, "rings": web_maps.area(*guess, max(radius, _LEAST_RADIUS_KM))},
            **{"dashed": kind == "most", "fit": kind == "half"},
        }
        for kind, radius in (("most", radii[90]), ("half", radii[50]))
        if radius is not None
    ]
    sure = float(photo.get("confidence", np.nan))
    owned = {"attribution": photo["attribution"], "licence": photo["licence"], "url": link(photo["url"])}
    return {
        **{"number": photo["number"], "scene": photo["scene"], "km": photo["km"], "within": photo["within"]},
        **{"guess": guess, "truth": truth, "guessName": photo["guess"], "trueName": photo["truth"]},
        **{"sure": None if _finite(sure) is None else web_maps.in_percent(sure), "radii": list(radii.values())},
        **{"areas": areas, "line": web_maps.arc(guess, truth)},
        **({} if rendered else owned),
    }


def _rounded(photo: dict[Any, Any], what: str) -> tuple[float, float]:
    return round(photo[f"{what}latitude"], _DECIMALS), round(photo[f"{what}longitude"], _DECIMALS)


def _finite(value: Any) -> float | None:
    return round(float(value), 1) if value is not None and np.isfinite(value) else None


def _bands() -> list[dict[str, str]]:
    """How far off a guess can be: in the order of ``within``, from none of the distances to all but the least."""
    ends = metrics.THRESHOLDS_KM[1:]
    names = [f"within {ends[0]:,} km", *(f"{low:,} to {high:,} km" for low, high in itertools.pairwise(ends))]
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0, 1, len(ends) + 1))  # dark is lost, as on other maps
    return [{"name": name, "colour": to_hex(shade)} for name, shade in zip([*names, "farther"], shades, strict=True)]


def _page(
    told: list[dict[str, Any]], unread: dict[str, list[str]], run: str, dataset: str, remark: str, rendered: bool
) -> str:
    folder = resources.files("helpers") / "shared_page"
    body, style, script = ((folder / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    data = {"photos": told, "bands": _bands(), "thresholds": list(metrics.THRESHOLDS_KM), "rendered": rendered}
    head = web_maps.head()
    scripts = [*re.findall(r"<script>(.*?)</script>", head, re.DOTALL), script]
    hashes = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    policy = POLICY.format(scripts=" ".join(f"'sha256-{each}'" for each in hashes))
    what = "pictures" if rendered else "photos"
    lead = (
        f"A model has looked at {len(told):,} {what} and guessed where each was taken. Here its guesses stand beside "
        "the true places."
    )
    page = Template(body).substitute(
        title=_text(f"Where was it taken? {run} on {dataset}"),
        policy=html.escape(policy, quote=False),
        head=f"{head}<style>{style}</style>",
        lead=_text(lead),
        use=_text(_USE),
        rendered=f'<p class="warning">{_text(_RENDERED)}</p>' if rendered else "",
        notes="\n".join(f"<li>{_text(note)}</li>" for note in _notes(len(told), unread, what, remark)),
        data=web_maps.in_script(data),
    )
    # Last and alone: a dollar in the script is no placeholder.
    return f"{page}<script>{script}</script>\n</body>\n</html>\n"


def _notes(shown: int, unread: dict[str, list[str]], what: str, remark: str) -> list[str]:
    notes = [
        f"The numbers are about the {what} that are shown, and no others. Of few they say little.",
        "Places are rounded to about 1 km, and distances to 100 m.",
        f"This run is not calibrated ({remark}): its confidence and its areas promise too much."
        if remark
        else "The areas around a guess hold the true place with 50 and 90 %, if the promise is kept: it is made for "
        "photos of the kind that the model was calibrated on.",
    ]
    if unread:
        count = sum(map(len, unread.values()))
        reasons = ", ".join(f"{reason} ({len(names):,})" for reason, names in sorted(unread.items()))
        notes.append(
            f"{count:,} of {shown + count:,} {what} that were drawn cannot be read, and are not shown: {reasons}."
        )
    if what == "photos":
        notes.append(
            "Photos belong to those who took them: beside each stand its author and its licence, as far as known."
        )
    return notes


def _text(text: str) -> str:
    return html.escape(" ".join(text.split()))
