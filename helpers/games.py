"""Games of people against models: who was shown which photo, and what they answered, in one local file.

The file is SQLite's. A round is stored when it is asked, so that a reload shows the same photo and none comes twice;
its answer is stored once. Each step is one transaction: any number of processes may play at once, and one that is
killed leaves no half round.
"""

import hashlib
import sqlite3
import time
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import country_names, metrics, paths, places

TOP = (1, 3, 5)
"""An answer counts as right in the top k if the true country is among its k likeliest."""
LONGEST_NAME = 40  # letters, of a player
MOST_COUNTRIES = max(TOP)
SEED = 7
"""Of the orders in which players see photos."""

_VERSION = 1
_BUSY_SECONDS = 30.0
_SCHEMA = (
    """CREATE TABLE rounds (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        player TEXT NOT NULL,
        dataset TEXT NOT NULL,
        photos_of TEXT NOT NULL,
        list TEXT NOT NULL,
        photo TEXT NOT NULL,
        image_size INTEGER NOT NULL,
        run TEXT NOT NULL,
        asked TEXT NOT NULL,
        answered TEXT NOT NULL DEFAULT '',
        latitude REAL,
        longitude REAL,
        countries TEXT NOT NULL DEFAULT '',
        model_latitude REAL,
        model_longitude REAL,
        CHECK ((latitude IS NULL) = (longitude IS NULL)),
        CHECK ((model_latitude IS NULL) = (model_longitude IS NULL)),
        CHECK ((latitude IS NOT NULL) + (countries != '') = (answered != '')),
        UNIQUE (player, photos_of, photo)
    )""",
    "CREATE UNIQUE INDEX pending ON rounds (player, dataset, list, run) WHERE answered = ''",
    "CREATE INDEX of_dataset ON rounds (dataset)",
    f"PRAGMA user_version = {_VERSION}",
)
_VISIBLE = "LNPS"  # letters, numbers, punctuation, symbols
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # what controls how text is shown, and what is none
ALL_PLAYERS = "all players"
"""What tables call them together, so no player is called so."""
_JOINERS = "\u200c\u200d"  # invisible, but Persian and many Indian names are spelt with them


class Refused(ValueError):
    """A name or an answer that a player can mend."""


class Round(NamedTuple):
    """A photo that a player was asked about."""

    number: int
    player: str
    dataset: str
    photos_of: str
    """Dataset whose folder holds the photo: several lists may share photos."""
    list: str
    """Fingerprint of the data list."""
    photo: str
    """Its id in the list."""
    image_size: int
    """Pixels of the shorter side that it was shown with."""
    run: str
    """Model that the player plays against."""
    asked: str
    """When, in UTC."""
    answered: str
    """Likewise, "" while it is pending."""
    latitude: float | None
    longitude: float | None
    """Of the answer, in degrees, if it is a place."""
    countries: str
    """Codes with spaces between, the likeliest first, if the answer is countries."""
    model_latitude: float | None
    model_longitude: float | None
    """Where the model puts it."""


def checked_player(name: str) -> str:
    """Name of a player, trimmed, in any script.

    Raises
    ------
    Refused
        If it is not 1 to 40 characters, or has some that control how others are shown.

    Examples
    --------
    >>> checked_player("  Zoë <3 ")
    'Zoë <3'
    >>> checked_player("a\\nb")
    Traceback (most recent call last):
    ...
    helpers.games.Refused: a name is one line of letters, numbers and signs: leave out '\\n'
    """
    if not isinstance(name, str):
        raise Refused("a name is text: type one")
    trimmed = unicodedata.normalize("NFC", name).strip()
    kinds = [unicodedata.category(letter) for letter in trimmed]
    hidden = [letter for letter, kind in zip(trimmed, kinds, strict=True) if kind in _HIDDEN and letter not in _JOINERS]
    if hidden:
        raise Refused(f"a name is one line of letters, numbers and signs: leave out {hidden[0]!a}")
    if not 1 <= len(trimmed) <= LONGEST_NAME or not any(kind[0] in _VISIBLE for kind in kinds):
        raise Refused(f"a name has 1 to {LONGEST_NAME} characters, and something to be seen: type another")
    if trimmed.casefold() == ALL_PLAYERS:
        raise Refused(f"tables call everybody {ALL_PLAYERS!r}: type another name")
    return trimmed


def checked_place(latitude: Any, longitude: Any) -> tuple[float, float]:
    """A place on the Earth, in degrees.

    Raises
    ------
    Refused
        If one of them is no number, or out of range.

    Examples
    --------
    >>> checked_place(48, 2.35)
    (48.0, 2.35)
    """
    for value, name, limit in ((latitude, "latitude", 90), (longitude, "longitude", 180)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not -limit <= value <= limit:
            raise Refused(f"a {name} is a number from -{limit} to {limit}: choose a place on the map")
    return float(latitude), float(longitude)


def ask(
    player: str,
    photos: pd.DataFrame,
    run: str,
    image_size: int,
    *,
    seed: int = SEED,
    without: Collection[str] = (),
) -> Round | None:
    """Round that a player is to answer: the pending one, else a new one with the next photo.

    Parameters
    ----------
    player : str
        From :func:`checked_player`.
    photos : DataFrame
        Rows of a data list, of which those of the test split are played.
    run : str
        Model that is played against.
    image_size : int
        Pixels of the shorter side that a new photo is shown with.
    seed : int
        With the dataset and the player, it decides the order of the photos.
    without : collection of str
        Ids of photos that cannot be shown.

    Returns
    -------
    Round or None
        None when the player has seen all photos.

    Raises
    ------
    ValueError
        If the list has no test photos.
    """
    dataset, fingerprint = photos.attrs["dataset"], photos.attrs["fingerprint"]
    photos_of = photos.attrs.get("photos of") or dataset
    ids = photos["id"].to_numpy(dtype=object)[photos["split"].to_numpy() == "test"]
    if not len(ids):
        raise ValueError(f"the list of {dataset} has no test photos to play with: make it with a test_share")
    with _opened() as database, _transaction(database):
        pending = "SELECT * FROM rounds WHERE player = ? AND dataset = ? AND list = ? AND run = ? AND answered = ''"
        row = database.execute(pending, (player, dataset, fingerprint, run)).fetchone()
        if row:
            return Round(*row)
        seen = "SELECT photo FROM rounds WHERE player = ? AND photos_of = ?"
        played = set(without) | {photo for (photo,) in database.execute(seen, (player, photos_of))}
        order = _order(len(ids), seed, dataset, player)
        photo = next((ids[number] for number in order if ids[number] not in played), None)
        if photo is None:
            return None
        known = (player, dataset, photos_of, fingerprint, photo, image_size, run, _now())
        insert = (
            "INSERT INTO rounds (player, dataset, photos_of, list, photo, image_size, run, asked) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        return _found(database, database.execute(insert, known).lastrowid or 0, player)


def drop(number: int) -> None:
    """Forget a round that was not answered, because its photo cannot be shown."""
    with _opened() as database, _transaction(database):
        database.execute("DELETE FROM rounds WHERE number = ? AND answered = ''", (number,))


def find(number: int, player: str) -> Round:
    """A round of a player.

    Raises
    ------
    Refused
        If there is none of this number, or it is another player's.
    """
    with _opened() as database:
        return _found(database, number, player)


def answer(
    number: int,
    player: str,
    *,
    place: tuple[float, float] | None = None,
    countries: Sequence[str] = (),
    model: tuple[float, float] | None = None,
) -> Round:
    """Store the answer to a round, once: a second one changes nothing.

    Parameters
    ----------
    number : int
        Of the round.
    player : str
        Whose round it is.
    place : (float, float), optional
        Latitude and longitude, in degrees.
    countries : sequence of str
        Or codes of one to five countries, the likeliest first.
    model : (float, float), optional
        Where the model puts the photo.

    Returns
    -------
    Round
        With the answer that was given first.

    Raises
    ------
    Refused
        If there is no such round, or the answer is none.
    """
    if (place is None) == (not countries):
        raise Refused("an answer is a place or countries: give one of them")
    if place is not None:
        place = checked_place(*place)
    known = places.countries().index
    wrong = [code for code in countries if code not in known]
    if wrong or len(set(countries)) < len(countries) or len(countries) > MOST_COUNTRIES:
        problem = f"{wrong[0]!r} is the code of none" if wrong else f"there are {len(countries)}"
        raise Refused(f"name one to {MOST_COUNTRIES} different countries: {problem}")
    values = (_now(), *(place or (None, None)), " ".join(countries), *(model or (None, None)))
    update = (
        "UPDATE rounds SET answered = ?, latitude = ?, longitude = ?, countries = ?, model_latitude = ?, "
        "model_longitude = ? WHERE number = ? AND answered = ''"
    )
    with _opened() as database, _transaction(database):
        _found(database, number, player)
        database.execute(update, (*values, number))
        return _found(database, number, player)


def understood(names: Sequence[str]) -> list[str]:
    """Codes of countries that a player has typed, in any usual spelling; blank ones are left out.

    Raises
    ------
    Refused
        If a name is nobody's, with the nearest ones; if a country comes twice, or there is none.

    Examples
    --------
    >>> understood(["Deutschland", "", "Ivory Coast"])
    ['DE', 'CI']
    >>> understood(["Slovania"])
    Traceback (most recent call last):
    ...
    helpers.games.Refused: no country is called 'Slovania': did you mean Slovenia, Slovakia or Somalia?
    """
    typed = [name.strip() for name in names if name.strip()]
    if not 1 <= len(typed) <= MOST_COUNTRIES:
        raise Refused(f"name one to {MOST_COUNTRIES} countries, the likeliest first")
    codes = country_names.codes(typed)
    for name, code in zip(typed, codes, strict=True):
        if not code or code not in places.countries().index:
            raise Refused(f"no country is called {name[:60]!r}{_suggested(name)}")
    for number, code in enumerate(codes):
        if code in codes[:number]:
            raise Refused(f"{places.countries()['name'][code]} is named twice: name different countries")
    return codes


def rounds(dataset: str) -> pd.DataFrame:
    """All rounds of a dataset, in the order in which they were asked, pending ones too.

    Returns
    -------
    DataFrame
        The fields of :class:`Round`.

    Examples
    --------
    >>> rounds("a-dataset-that-nobody-played").empty
    True
    """
    rows: list[Any] = []
    if paths.games().exists():
        with _opened() as database:
            rows = database.execute("SELECT * FROM rounds WHERE dataset = ? ORDER BY number", (dataset,)).fetchall()
    table = pd.DataFrame(rows, columns=list(Round._fields))
    degrees = ["latitude", "longitude", "model_latitude", "model_longitude"]
    return table.astype(dict.fromkeys(degrees, np.float64) | {"number": np.int64})


def of_player(player: str, dataset: str) -> pd.DataFrame:
    """Rounds of a player on a dataset, as :func:`rounds` gives them."""
    table = rounds(dataset)
    return table[table["player"] == player].reset_index(drop=True)


def scored(played: pd.DataFrame, photos: pd.DataFrame) -> pd.DataFrame:
    """Answers beside the truth.

    Parameters
    ----------
    played : DataFrame
        From :func:`rounds`.
    photos : DataFrame
        Rows of the data list. Rounds on other photos, and pending ones, are left out.

    Returns
    -------
    DataFrame
        The answered rounds with ``author, true_latitude, true_longitude, true_country`` ("" at sea), ``distance_km`` of
        a place from the truth, ``model_distance_km``, and ``top_1, top_3, top_5``: 1 where the true country is among
        so many, else 0, and NaN at sea. A place stands for its own country in all three.
    """
    truth = photos.set_index("id")[["author", "latitude", "longitude"]].add_prefix("true_")
    truth = truth.rename(columns={"true_author": "author"})
    known = played[(played["answered"] != "") & played["photo"].isin(truth.index)].reset_index(drop=True)
    table = known.join(truth, on="photo")
    for name, of in (("distance_km", ""), ("model_distance_km", "model_")):
        table[name] = _distance_km(table, of)
    table["true_country"] = places.country_codes(table["true_latitude"], table["true_longitude"])
    own = places.country_codes(table["latitude"], table["longitude"])
    named = [[code] if code else codes.split() for code, codes in zip(own, table["countries"], strict=True)]
    at_sea = table["true_country"] == ""
    for most in TOP:
        right = [code in codes[:most] for code, codes in zip(table["true_country"], named, strict=True)]
        table[f"top_{most}"] = np.where(at_sea, np.nan, np.array(right, dtype=np.float64))
    return table


def _distance_km(table: pd.DataFrame, of: str) -> np.ndarray:
    distance = np.full(len(table), np.nan)
    given = table[f"{of}latitude"].notna().to_numpy()
    columns = ("true_latitude", "true_longitude", f"{of}latitude", f"{of}longitude")
    distance[given] = metrics.great_circle_km(*(table.loc[given, name] for name in columns))
    return distance


def _suggested(name: str) -> str:
    english = places.countries()["name"].tolist()
    near = [country_names.nearest(name), *get_close_matches(name[:100], english, n=3, cutoff=0.5)]
    first = [each for each in dict.fromkeys(near) if each][:3]
    *before, last = first or [""]
    return f": did you mean {', '.join(before)}{' or ' * bool(before)}{last}?" if last else ": correct it"


def _order(count: int, seed: int, dataset: str, player: str) -> np.ndarray:
    """Numbers of photos in the order in which a player sees them."""
    digest = hashlib.sha256(f"{dataset}\0{player}".encode()).digest()
    return np.random.default_rng([seed, *digest]).permutation(count)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _found(database: sqlite3.Connection, number: int, player: str) -> Round:
    row = database.execute("SELECT * FROM rounds WHERE number = ? AND player = ?", (number, player)).fetchone()
    if not row:
        raise Refused(f"{player} has no round {number}: reload the page")
    return Round(*row)


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The file, with its table: made if it is not there."""
    path = paths.games()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
        try:
            _prepare(database)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                raise
            raise ValueError(f"{path} holds no games, it is no SQLite file: move it away") from None
        yield database


def _prepare(database: sqlite3.Connection) -> None:
    version = _version(database)
    if version == 0:
        _read_beside_writers(database)
        with _transaction(database):  # what another process has made meanwhile is seen in here
            version = _version(database)
            if version == 0:
                if database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                    raise ValueError(f"{paths.games()} is a database of something else: move it away")
                for statement in _SCHEMA:
                    database.execute(statement)
                return
    if version != _VERSION:
        raise ValueError(
            f"{paths.games()} has games in form {version}, this code knows form {_VERSION}: use the code that wrote "
            "it, or move the file away"
        )


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _read_beside_writers(database: sqlite3.Connection) -> None:
    """Let readers and a writer work at once. The file remembers it."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # SQLite does not wait where two processes want this at once
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, and nobody else's between."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
