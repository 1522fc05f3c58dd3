"""The part of the page in which people play against a model.

Before a round is answered, the page is told its number, and sent a picture that is encoded anew: neither the place nor
the photo's id, its file name or its EXIF. The photo is shown at the model's own resolution, so that people see no more
than it does.
"""

import base64
import hashlib
import json
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from torchvision.io import encode_jpeg

from helpers import (
    app,
    data_lists,
    fetch,
    games,
    manifests,
    maps,
    metrics,
    paths,
    photo_stores,
    photos,
    places,
    run_folders,
    web_maps,
)

Place = Callable[[str, bytes], pd.Series]
"""Row of the table of :class:`helpers.placing.Predictions` of a photo, given what to call it and its bytes."""

_LONGEST_COUNTRY = 100  # letters of what is typed
_GUESS = ["latitude", "longitude", "radius_50_km", "radius_90_km", "calibrated"]
_OF_LIST = [*data_lists.COLUMNS, "url"]


def part(run: str, place: Place) -> app.gradio.HTML:
    """The part of the page in which people play against a run; see :func:`helpers.app.part`.

    Parameters
    ----------
    run : str
        Name of a run, or the path of its folder, as :func:`helpers.run_folders.find` takes it.
    place : callable
        Asked for the run's guess where the run was not evaluated on a photo: ``place(name, data)``. It may be called
        from several threads at once.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    """
    game = Game(run, place)
    return app.part(
        "game", *(app.answering(function, games.Refused) for function in (game.start, game.ask, game.answer))
    )


class Game:
    """What the page of the game asks for. Every request is a dict, as is every answer."""

    def __init__(self, run: str, place: Place) -> None:
        found = run_folders.find(run)
        self.given, self.run = run, run_folders.name(run)
        self.weights = [folder / run_folders.MODEL for folders in found.folders.values() for folder in folders]
        self.settings = json.loads((self.weights[0].parent / "config.json").read_text(encoding="utf-8"))
        self.place = place
        self._lists: dict[str, tuple[int, pd.DataFrame]] = {}
        self._guesses: dict[str, tuple[tuple[int, str], pd.DataFrame | None]] = {}
        self._unshown: set[str] = set()  # ids of photos that cannot be shown, or not be placed by the run
        self._one_at_a_time = threading.Lock()

    def start(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """What can be played: ``datasets`` with their numbers of ``photos``, the ``chosen`` one, ``countries``."""
        files = [file for end in ("csv", "csv.gz") for file in (paths.root() / "data-lists").glob(f"[!.]*.{end}")]
        found = {file.name.partition(".csv")[0] for file in files}
        datasets = [{"name": name, "photos": count} for name in sorted(found) if (count := self._count(name))]
        names = [each["name"] for each in datasets]
        own = self.settings["dataset"]
        return {
            "datasets": datasets,
            "chosen": own if own in names else (names or [""])[0],
            "countries": sorted(places.countries()["name"]),
            "longest": games.LONGEST_NAME,
            "run": self.run,
        }

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Round of a ``player`` on a ``dataset``: its number and ``picture``; or that all ``done``."""
        player, rows = games.checked_player(request.get("player", "")), self._test_photos(_text(request, "dataset"))
        while True:
            asked = games.ask(player, rows, self.run, int(self.settings["image_size"]), without=self._unshown)
            told = {"player": player, "points": self._points(player, rows)}
            if asked is None:
                return {**told, "done": self._done(rows)}
            try:
                picture = self._picture(rows, asked)
                break
            except games.Refused:  # the reason is in the log
                self._unshown.add(asked.photo)
                games.drop(asked.number)
        heading = f"Photo {len(games.of_player(player, asked.dataset)):,}: where was it taken?"
        shown = f"Shown as the model sees it, {asked.image_size} pixels on its shorter side."
        return {**told, "round": asked.number, "heading": heading, "picture": picture, "shown": shown}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Store the ``place`` or the ``countries`` that a ``player`` gives for a ``round``, and tell the truth."""
        player, number = games.checked_player(request.get("player", "")), request.get("round")
        if type(number) is not int or not 0 < number < 2**63:
            raise games.Refused("this is no round: reload the page")
        place, countries = _given(request)
        asked = games.find(number, player)
        rows = self._test_photos(asked.dataset)
        if asked.photo not in set(rows["id"]):
            raise games.Refused("the list of photos has changed since: press Change, then Play")
        guess = self._guess(rows, asked)
        where = (float(guess["latitude"]), float(guess["longitude"]))
        stored = games.answer(number, player, place=place, countries=countries, model=where)
        if stored.model_latitude is not None:  # what was told with the first answer
            guess = guess.where(~guess.index.isin(_GUESS[:2]), pd.Series(stored[-2:], _GUESS[:2]))
        row = games.scored(pd.DataFrame([stored], columns=list(games.Round._fields)), rows).iloc[0]
        return {**_result(row, guess), "points": self._points(player, rows)}

    def _picture(self, rows: pd.DataFrame, asked: games.Round) -> str:
        """The photo of a round as the page shows it, once the run is known to place it too."""
        self._guess(rows, asked)
        try:
            return _picture(self._data(rows, asked), asked.image_size)
        except photos.PhotoError:
            raise _broken(f"This photo of {asked.dataset} cannot be shown") from None

    def _done(self, rows: pd.DataFrame) -> str:
        """What is said when there is no photo more."""
        lost = len(self._unshown.intersection(rows["id"]))
        left = f" {lost:,} cannot be shown: whoever runs this page finds the reason in its log." if lost else ""
        return f"You have seen all {len(rows) - lost:,} test photos of {rows.attrs['dataset']}.{left}"

    def _count(self, dataset: str) -> int:
        try:
            return len(self._test_photos(dataset))
        except games.Refused:
            return 0

    def _test_photos(self, dataset: str) -> pd.DataFrame:
        """Test photos of a list, read anew when it changes."""
        try:
            file = paths.data_list(dataset)
            changed = file.stat().st_mtime_ns
            if self._lists.get(dataset, (0,))[0] != changed:
                rows = data_lists.read(dataset)
                test = rows[rows["split"] == "test"][[name for name in _OF_LIST if name in rows]]
                self._lists[dataset] = (changed, test.reset_index(drop=True))
        except (OSError, ValueError):
            raise _broken(f"The list {dataset!r} cannot be played") from None
        return self._lists[dataset][1]

    def _data(self, rows: pd.DataFrame, asked: games.Round) -> bytes:
        """The photo of a round, as the list names it."""
        row = rows[rows["id"] == asked.photo]
        own_root = self.settings["photo_root"] if self.settings["dataset"] == asked.dataset else ""
        with self._one_at_a_time:  # two that fetch the same photo would write the same file
            try:
                root, path = fetch.photo_folder(asked.dataset, own_root), row["path"].iloc[0]
                try:
                    data = photos.read_bytes(photo_stores.reopened(root), path)
                except photos.PhotoError:
                    data = b""
                if hashlib.sha256(data).hexdigest() != row["sha256"].iloc[0]:
                    if not data_lists.has_rendered_photos(asked.dataset):  # it would be fetched, from another machine
                        raise ValueError(f"photo {path!r} is missing or changed: fetch it with 01_data/download.ipynb")
                    data = photos.read_bytes(photo_stores.open_store(fetch.ensure(row, asked.dataset, own_root)), path)
            except (OSError, ValueError):
                raise _broken(f"This photo of {asked.dataset} cannot be shown") from None
        return data

    def _guess(self, rows: pd.DataFrame, asked: games.Round) -> pd.Series:
        """The run's guess: ``latitude, longitude, radius_50_km, radius_90_km, calibrated``."""
        known = self._evaluated(asked.dataset)
        if known is not None and asked.photo in known.index:
            return known[known.index == asked.photo].iloc[0]
        data = self._data(rows, asked)
        try:
            guess = self.place("photo", data)
        except (ValueError, OSError):
            raise _broken("The model cannot be asked") from None
        if guess["error"]:
            print(f"{self.run} cannot place {asked.photo!r}: {guess['error']}", file=sys.stderr, flush=True)
            raise games.Refused(
                "The model cannot place this photo: whoever runs this page finds the reason in its log."
            )
        return guess[_GUESS]

    def _evaluated(self, dataset: str) -> pd.DataFrame | None:
        """Guesses of the run for a list, by photo; None where there are none of these very weights and this list."""
        folder = paths.results(self.run, dataset)
        try:
            calibration = run_folders.find(self.given).calibration
            fitted = manifests.fingerprint(calibration) if calibration else ""
            changed = (folder / "manifest.json").stat().st_mtime_ns, fitted
        except OSError:
            return None
        if self._guesses.get(dataset, (None,))[0] != changed:
            self._guesses[dataset] = (changed, self._read_guesses(dataset, fitted))
        return self._guesses[dataset][1]

    def _read_guesses(self, dataset: str, calibration: str) -> pd.DataFrame | None:
        """Guesses as the page would make them: of other fusions, or another calibration, none."""
        folder = paths.results(self.run, dataset)
        files = {f"run {file.parent.name}": file for file in self.weights} | {"data list": paths.data_list(dataset)}
        try:
            manifest = manifests.read(folder)
            recorded = manifest["inputs"]
            same = all(recorded[name]["sha256"] == manifests.fingerprint(file) for name, file in files.items())
            fitted = recorded.get("calibration", {}).get("sha256", "")
            if not same or fitted != calibration or manifest["parameters"]["fusion"] != "auto":
                return None
            table = pd.read_parquet(folder / "predictions.parquet").set_index("id")
            names = {f"predicted_{name}": name for name in ("latitude", "longitude")}
            table = table.drop(columns=list(names.values())).rename(columns=names)
            return table.assign(calibrated=not manifest["counts"].get("not calibrated"))[_GUESS]
        except (OSError, ValueError, KeyError):  # of another version: the run is asked instead
            return None

    def _points(self, player: str, rows: pd.DataFrame) -> str:
        return points(games.scored(games.of_player(player, rows.attrs["dataset"]), rows))


def points(scored: pd.DataFrame) -> str:
    """How a player does so far, in a sentence.

    Parameters
    ----------
    scored : DataFrame
        From :func:`helpers.games.scored`.

    Examples
    --------
    >>> rounds = {"distance_km": [10, 500, None], "model_distance_km": [90, 80, 70], "top_1": [1, 0, float("nan")]}
    >>> points(pd.DataFrame(rounds, dtype=float))
    '3 photos played. Median distance 255 km, nearer than the model in 1 of 2. Right country in 1 of 2.'
    """
    if scored.empty:
        return "No photo played yet."
    told = [f"{len(scored):,} {'photo' if len(scored) == 1 else 'photos'} played."]
    distance = scored["distance_km"].dropna()
    if len(distance):
        nearer = int((distance < scored["model_distance_km"].loc[distance.index]).sum())
        median = maps.in_km(float(distance.median()))
        told.append(f"Median distance {median}, nearer than the model in {nearer} of {len(distance)}.")
    on_land = scored["top_1"].dropna()
    if len(on_land):
        told.append(f"Right country in {int(on_land.sum())} of {len(on_land)}.")
    return " ".join(told)


def _result(row: pd.Series, guess: pd.Series) -> dict[str, Any]:
    """What is told of an answered round, in words and as layers of the map."""
    truth, own = _named(row["true_latitude"], row["true_longitude"]), None
    model = _named(guess["latitude"], guess["longitude"])
    model_km = float(metrics.great_circle_km(*row[["true_latitude", "true_longitude"]], *guess[_GUESS[:2]]))
    lines = [f"Taken in {truth}." if row["true_country"] else f"Taken {truth}."]
    if np.isfinite(row["distance_km"]):
        own = _named(row["latitude"], row["longitude"])
        nearer = "You were nearer" if row["distance_km"] < model_km else "The model was nearer"
        nearer = "You were as near as the model" if row["distance_km"] == model_km else nearer
        heading = f"{nearer}: {maps.in_km(min(row['distance_km'], model_km))} away"
        lines.append(f"You: {maps.in_km(row['distance_km'])} away, {own}.")
    else:
        names = [places.countries()["name"][code] for code in row["countries"].split()]
        heading = _of_countries(row)
        lines.append(f"You: {', '.join(names)}.")
    lines.append(f"The model: {maps.in_km(model_km)} away, {model}.")
    if not row["true_country"]:
        lines.append("At sea there is no country, so this photo does not count for countries.")
    else:
        model_country = places.country_codes([guess["latitude"]], [guess["longitude"]])[0]
        right = ("wrong country", "right country")
        lines.append(
            f"Country: {places.countries()['name'][row['true_country']]}. You: {_of_countries(row).lower()}. "
            f"The model: {right[int(model_country == row['true_country'])]}."
        )
    if np.isfinite(guess["radius_90_km"]):
        radii = [maps.in_km(float(guess[f"radius_{percent}_km"])) for percent in (50, 90)]
        warned = "" if guess["calibrated"] else " It is not calibrated: such circles promise too much."
        lines.append(f"The model said: within {radii[0]} with a probability of 50 %, {radii[1]} with 90 %.{warned}")
    return {"heading": heading, "lines": lines, "layers": _layers(row, guess, truth, own, model)}


def _of_countries(row: pd.Series) -> str:
    if not row["true_country"]:
        return "Taken at sea"
    if np.isfinite(row["distance_km"]):
        return "Right country" if row["top_1"] else "Wrong country"
    named = row["countries"].split()
    if row["true_country"] not in named:
        return "Wrong country" if len(named) == 1 else f"None of your {len(named)} countries is right"
    rank = named.index(row["true_country"]) + 1
    return "Right country" if rank == 1 else f"Your country number {rank} is right"


def _layers(
    row: pd.Series, guess: pd.Series, truth: str, own: str | None, model: str
) -> dict[str, list[dict[str, Any]]]:
    at, of_model = (row["true_latitude"], row["true_longitude"]), (guess["latitude"], guess["longitude"])
    layers: dict[str, list[dict[str, Any]]] = {"areas": [], "lines": [], "places": []}
    if np.isfinite(guess["radius_90_km"]):
        for percent in (90, 50):
            rings = web_maps.area(*of_model, max(float(guess[f"radius_{percent}_km"]), 0.1))
            layers["areas"].append({"kind": "guess", "rings": rings, "dashed": percent == 90})
    marked = [("guess", "M", of_model, f"The model: {model}")]
    if own is not None:
        marked.append(("person", "Y", (row["latitude"], row["longitude"]), f"You: {own}"))
    for kind, _, where, _ in marked:
        layers["lines"].append({"kind": kind, "points": web_maps.arc(at, where)})
    for above, (kind, mark, where, label) in enumerate([*marked, ("truth", "T", at, f"Taken here: {truth}")]):
        degrees = {"latitude": float(where[0]), "longitude": float(where[1])}
        layers["places"].append(
            {**degrees, "kind": kind, "mark": mark, "label": label, "fit": True, "above": 100 * above}
        )
    return layers


def _picture(data: bytes, short_side: int) -> str:
    """A photo as a JPEG of its pixels alone, with a shorter side of so many at most, in a data URI."""
    pixels = photos.decode(data, "photo", short_side)
    if min(pixels.shape[1:]) > short_side:
        pixels = photos.resize(pixels, short_side)
    encoded = encode_jpeg(pixels.contiguous(), photos.JPEG_QUALITY).numpy().tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _named(latitude: float, longitude: float) -> str:
    number = places.locate([latitude], [longitude])[0]
    region = "" if number == places.NOWHERE else str(places.regions()["region"].iloc[number])
    return maps.place_name(latitude, longitude, "", region)


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or len(value) > 200:
        raise games.Refused(f"the {name} is missing: reload the page")
    return value


def _given(request: Mapping[str, Any]) -> tuple[tuple[float, float] | None, list[str]]:
    """Place or codes of countries of a request."""
    place, names = request.get("place"), request.get("countries")
    if names is None:
        if not isinstance(place, list) or len(place) != 2:
            raise games.Refused("there is no answer: choose a place on the map, or name countries")
        return games.checked_place(*place), []
    is_text = isinstance(names, list) and all(isinstance(name, str) and len(name) <= _LONGEST_COUNTRY for name in names)
    if place is not None or not is_text or len(names) > games.MOST_COUNTRIES:
        raise games.Refused(f"name one to {games.MOST_COUNTRIES} countries, each in at most {_LONGEST_COUNTRY} letters")
    return None, games.understood(names)


def _broken(what: str) -> games.Refused:
    """Of what only whoever runs the page can mend. The reason may name the photo, and so is not for the player."""
    traceback.print_exc(file=sys.stderr)
    return games.Refused(f"{what}: whoever runs this page finds the reason in its log.")
