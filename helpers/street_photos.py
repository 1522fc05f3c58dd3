"""Collect open street-level photos: where they were taken, by whom, and under which licence.

Mapillary and Wikimedia Commons are asked through their public interfaces for photos around places. What comes out is a
table of URLs for ``01_data/download``, in which licence and attribution stay with each photo.
"""

import difflib
import hashlib
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import pandas as pd
from yarl import URL

from helpers import metrics, paths, progress, toy_earth, web

COLUMNS = ("id", "url", "latitude", "longitude", "author", "licence", "attribution", "captured_at")
TOKEN = "MAPILLARY_TOKEN"
MAX_RADIUS_KM = 10  # what a search on Commons allows
MAX_PHOTOS_PER_PLACE = 500
PHOTOS_PER_SEQUENCE = 3  # a sequence is one drive: its photos show one street, a few metres apart

_MOST_PLACES = 25_000
_PLACES_IN_VAIN = 3
_ATTEMPTS = 5
_SILENCE_S = 60
_MAX_ANSWER_BYTES = 64 << 20
_LONGEST_PAUSE_S = 120
_WITH_COMPLAINT = (200, 400, 401, 403, 404, 500)  # statuses of answers that may say what is wrong
# Of MediaWiki, and of the Graph API: unknown and passing faults, limits of an application, a user and a page.
_BUSY = ("maxlag", "ratelimited", "readonly", "1", "2", "4", "17", "32", "613")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/[!-~]{1,2000}")  # no credentials, no spaces, nothing to be rewritten


class ApiError(RuntimeError):
    """An interface that refuses, fails, or answers what it should not.

    Attributes
    ----------
    code : str
        What the interface calls the error, else ``HTTP 503``, ``time-out`` and the like.
    temporary : bool
        Whether the same question may be answered later.
    """

    def __init__(self, message: str, code: str, temporary: bool) -> None:
        super().__init__(message)
        self.code = code
        self.temporary = temporary


class Collected(NamedTuple):
    """Photos around places."""

    rows: pd.DataFrame
    """`COLUMNS`, sorted by ``id``; what is not known is empty."""
    left_out: dict[str, list[str]]
    """Ids of the photos that were found and not taken, by reason."""
    notes: list[str]
    """What one should know about the photos, in words."""


class _Spot(NamedTuple):
    latitude: float
    longitude: float

    def name(self) -> str:
        return f"place {self.latitude:.5f},{self.longitude:.5f}"


class _Photo(NamedTuple):
    id: str
    reason: str = ""  # why it cannot be taken, "" if it can
    url: str = ""
    latitude: float = math.nan
    longitude: float = math.nan
    author: str = ""
    licence: str = ""
    attribution: str = ""
    captured_at: str = ""
    sequence: str = ""  # photos that are near duplicates of one another share it


@dataclass(frozen=True)
class _Provider:
    title: str
    api: str
    headers: Callable[[], dict[str, str]]
    near: Callable[["_Api", _Spot, float, int], Awaitable[list[_Photo]]]
    """Photos within a radius in km, more than the number that is wanted."""
    notes: Callable[[], Iterable[str]]
    remedy: str


def places(count: int, seed: int) -> pd.DataFrame:
    """Draw places where people live, in and around towns all over the world.

    Parameters
    ----------
    count : int
        Number of places, 1 to 25,000.
    seed : int
        Same count and seed, same places.

    Returns
    -------
    DataFrame, `count` rows
        Columns ``latitude, longitude`` in degrees.

    Raises
    ------
    ValueError
        If `count` is out of range.

    Examples
    --------
    >>> places(2, seed=7).columns.tolist()
    ['latitude', 'longitude']
    """
    if not 1 <= count <= _MOST_PLACES:
        raise ValueError(f"count is {count}: ask for 1 to {_MOST_PLACES:,} places")
    # toy-earth is drawn where people live, and has at most 40 photos of an author: one of each gives enough places.
    drawn = toy_earth.sample(40 * count, seed).drop_duplicates("author")
    return drawn[["latitude", "longitude"]].head(count).reset_index(drop=True)


def collect(
    provider: str, places: pd.DataFrame, radius_km: float, photos_per_place: int, *, api: str = ""
) -> Collected:
    """Collect photos around places.

    Parameters
    ----------
    provider : str
        ``commons`` or ``mapillary``. For the latter the environment variable ``MAPILLARY_TOKEN`` holds an access token.
    places : DataFrame
        Columns ``latitude, longitude`` in degrees.
    radius_km : float
        Great-circle distance from a place within which photos are taken, 0.01 to `MAX_RADIUS_KM`.
    photos_per_place : int
        At most so many, 1 to `MAX_PHOTOS_PER_PLACE`. Which ones does not depend on the order in which they are listed.
    api : str, optional
        Address of the interface, by default the provider's own.

    Returns
    -------
    Collected
        A photo that lies within reach of two places is there once. A place for which there was no answer is in
        ``left_out`` too, as ``place latitude,longitude``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or there are no such places on the Earth.
    RuntimeError
        If the token is missing.
    ApiError
        If the interface refuses or is away from the start. If that happens later, what was collected is kept.
    """
    source = _provider(provider)
    spots = _spots(places, radius_km, photos_per_place)
    return web.run_async(_collected(source, _safe(api or source.api), spots, radius_km, photos_per_place))


async def _collected(
    source: _Provider, address: URL, spots: list[_Spot], radius_km: float, photos_per_place: int
) -> Collected:
    taken = _Selection(radius_km, photos_per_place)
    answered = in_vain = empty = 0
    headers = source.headers()
    async with web.Client(local=web.is_private(str(address.host)), attempts=_ATTEMPTS, timeout_s=_SILENCE_S) as client:
        api = _Api(client, source, address, headers)
        for spot in progress.track(spots, f"asking {source.title} for photos", unit="places"):
            if in_vain == _PLACES_IN_VAIN:  # what was collected is kept, but nobody is pestered
                taken.reasons[spot.name()] = "not asked, because the places before it had no answer"
                continue
            try:
                found = await source.near(api, spot, radius_km, photos_per_place)
            except ApiError as error:
                in_vain += 1
                if not answered and (not error.temporary or in_vain == min(_PLACES_IN_VAIN, len(spots))):
                    raise
                taken.reasons[spot.name()] = f"no answer ({error.code})"
                continue
            answered, in_vain = answered + 1, 0
            empty += not found
            taken.choose(found, spot)
    notes = list(source.notes())
    if empty:
        notes.append(f"{empty:,} of {len(spots):,} places have no photos within {radius_km:g} km")
    if answered < len(spots):
        notes.append(
            f"{len(spots) - answered:,} of {len(spots):,} places had no answer: collect their photos another day"
        )
    return Collected(taken.table(), taken.left_out(), notes)


def write(collected: Collected, path: Path) -> Path:
    """Write the photos as a CSV file that ``01_data/download`` reads, and return its path."""
    with paths.replacing(path) as temporary:
        collected.rows.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    return path


def _provider(name: str) -> _Provider:
    if name not in PROVIDERS:
        near = difflib.get_close_matches(name, PROVIDERS, 1, 0) or PROVIDERS
        raise ValueError(f"there is no provider {name!r}: did you mean {near[0]!r}? There are {', '.join(PROVIDERS)}")
    return _PROVIDERS[name]


def _spots(places: pd.DataFrame, radius_km: float, photos_per_place: int) -> list[_Spot]:
    if not 0.01 <= radius_km <= MAX_RADIUS_KM:
        raise ValueError(f"radius_km is {radius_km}: give 0.01 to {MAX_RADIUS_KM}")
    if not 1 <= photos_per_place <= MAX_PHOTOS_PER_PLACE:
        raise ValueError(f"photos_per_place is {photos_per_place}: give 1 to {MAX_PHOTOS_PER_PLACE}")
    lacking = [name for name in ("latitude", "longitude") if name not in places]
    if lacking or places.empty:
        raise ValueError(f"places have no {' and no '.join(lacking) or 'rows'}: give latitude and longitude in degrees")
    spots = [_Spot(_number(row.latitude), _number(row.longitude)) for row in places.itertuples()]
    for number, (latitude, longitude) in enumerate(spots, 1):
        if not _on_earth(latitude, longitude):
            raise ValueError(
                f"place {number} is at latitude {latitude}, longitude {longitude}: give degrees within ±90, ±180"
            )
    return spots


class _Selection:
    """The photos that are taken, and why the others are not."""

    def __init__(self, radius_km: float, per_place: int) -> None:
        self.radius_km, self.per_place = radius_km, per_place
        self.photos: dict[str, _Photo] = {}
        self.reasons: dict[str, str] = {}
        self.of_sequence: Counter[str] = Counter()

    def choose(self, found: Iterable[_Photo], spot: _Spot) -> None:
        """Take photos of a place: drawn by their ids, so not by the order in which they are listed."""
        new = {photo.id: photo for photo in found if photo.id not in self.photos}
        full = len(self.photos) + self.per_place
        for photo in sorted(new.values(), key=lambda photo: hashlib.blake2b(photo.id.encode()).digest()):
            reason = photo.reason or self._surplus(photo, spot, len(self.photos) == full)
            if reason:
                self.reasons[photo.id] = reason
            else:
                self.photos[photo.id] = photo
                self.of_sequence[photo.sequence] += 1

    def _surplus(self, photo: _Photo, spot: _Spot, full: bool) -> str:
        if metrics.great_circle_km(*spot, photo.latitude, photo.longitude) > self.radius_km:
            return "outside the radius"
        if photo.sequence and self.of_sequence[photo.sequence] == PHOTOS_PER_SEQUENCE:
            return "more of the same sequence"
        return "more than wanted at the place" if full else ""

    def table(self) -> pd.DataFrame:
        rows = [{name: getattr(photo, name) for name in COLUMNS} for photo in self.photos.values()]
        return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("id", ignore_index=True)

    def left_out(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name, reason in sorted(self.reasons.items()):
            if name not in self.photos:  # one place may take what another left
                names.setdefault(reason, []).append(name)
        return dict(sorted(names.items()))


# Mapillary: https://www.mapillary.com/developer/api-documentation

_MAX_BOX = 0.0095  # square degrees, below the 0.01 that are allowed by more than rounding
_MAPILLARY_LIMIT = 2000
_ASKED_OF_MAPILLARY = 20  # for each photo wanted, because neighbours in an answer come from the same drive
_FIELDS = "id,thumb_1024_url,geometry,computed_geometry,captured_at,creator,is_pano,sequence"
_MAP_ENDS = 85  # degrees of latitude, as in Web Mercator


def boxes(latitude: float, longitude: float, radius_km: float) -> list[tuple[float, float, float, float]]:
    """Boxes that together hold everything within a radius, each small enough for Mapillary.

    Parameters
    ----------
    latitude, longitude : float
        Degrees.
    radius_km : float
        Great-circle distance.

    Returns
    -------
    list of tuple of float
        West, south, east and north in degrees, of less than 0.01 square degrees each; none crosses ±180°. There are
        none for a circle that reaches beyond 85° of latitude, where Mapillary's map ends.

    Examples
    --------
    >>> [[round(side, 3) for side in box] for box in boxes(0, 180, 1)]
    [[179.991, -0.009, 180.0, 0.009], [-180.0, -0.009, -179.991, 0.009]]
    """
    radius = radius_km / metrics.EARTH_RADIUS_KM
    high = math.degrees(radius)
    if abs(latitude) + high > _MAP_ENDS:
        return []
    # The farthest meridian that touches the circle, which at high latitudes is not met at the centre's latitude.
    wide = math.degrees(math.asin(math.sin(radius) / math.cos(math.radians(latitude))))
    edges = np.linspace(longitude - wide, longitude + wide, math.ceil(4 * wide * high / _MAX_BOX) + 1).tolist()
    edges = sorted({*edges, *(edge for edge in (-180.0, 180.0) if edges[0] < edge < edges[-1])})
    # Asked of the sides, because the middle of a very narrow box at the date line is rounded across it.
    turned = [(west, east, 360 * (west >= 180) - 360 * (east <= -180)) for west, east in pairwise(edges)]
    return [(west - turn, latitude - high, east - turn, latitude + high) for west, east, turn in turned]


def _mapillary_headers() -> dict[str, str]:
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise RuntimeError(
            "Mapillary wants an access token: register an application, which is free, at "
            f"https://www.mapillary.com/dashboard/developers, and set the environment variable {TOKEN} to its token"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise RuntimeError(f"the environment variable {TOKEN} holds spaces or odd characters: copy the token again")
    return {"Authorization": f"OAuth {token}"}


async def _near_on_mapillary(api: "_Api", spot: _Spot, radius_km: float, wanted: int) -> list[_Photo]:
    limit = min(_MAPILLARY_LIMIT, _ASKED_OF_MAPILLARY * wanted)
    found = []
    for box in boxes(*spot, radius_km):
        sides = ",".join(f"{side:.6f}" for side in box)
        records = _at(await api.get({"bbox": sides, "fields": _FIELDS, "limit": str(limit)}), "data")
        if not isinstance(records, list):
            raise api.error("no data", "its answer has no list 'data'")
        found += [_mapillary_photo(record) for record in records]
    return found


def _mapillary_photo(record: object) -> _Photo:
    key = str(_at(record, "id"))
    if not re.fullmatch(r"[0-9]{1,30}", key):
        return _Photo(f"mapillary-{_line(key)}", "no id")
    id, url, position = f"mapillary-{key}", _at(record, "thumb_1024_url"), _geometry(record)
    if _at(record, "is_pano") is True:
        return _Photo(id, "panorama")
    if position is None:
        return _Photo(id, "no coordinates")
    if not _is_url(url):
        return _Photo(id, "no URL")
    creator = _line(_at(record, "creator", "username"))
    return _Photo(
        id,
        url=url,
        latitude=position[0],
        longitude=position[1],
        author=creator,
        licence="CC BY-SA 4.0",
        attribution=f"{creator} / Mapillary".removeprefix(" / ")
        + f", CC BY-SA 4.0, https://www.mapillary.com/app/?pKey={key}",
        captured_at=_time_of_epoch(_at(record, "captured_at")),
        sequence=_line(_at(record, "sequence")),
    )


def _geometry(record: object) -> tuple[float, float] | None:
    """Position as reconstructed from neighbouring photos, else as the camera said."""
    for name in ("computed_geometry", "geometry"):
        position = _position(_at(record, name, "coordinates", 1), _at(record, name, "coordinates", 0))
        if position:
            return position
    return None


def _time_of_epoch(milliseconds: object) -> str:
    """Time in ISO 8601, or ``""`` where there is none.

    Examples
    --------
    >>> _time_of_epoch(1612606959408), _time_of_epoch("soon")
    ('2021-02-06T10:22:39+00:00', '')
    """
    seconds = _number(milliseconds) // 1000
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


# Wikimedia Commons: https://www.mediawiki.org/wiki/API:Geosearch and API:Imageinfo

_COMMONS_LIMIT = 500
_ASKED_OF_COMMONS = 4  # for each photo wanted, because some fall away
_MOST_ANSWERS = 100
_THUMBNAIL_WIDTH = 960  # Wikimedia serves a few widths alone: https://www.mediawiki.org/wiki/Common_thumbnail_sizes
_MIME_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff")
# A port of a licence to a country's law is named after its version: CC BY-SA 3.0 de.
_FREE = re.compile(r"cc0.*|(?:cc[ -])?pd\b.*|public domain|cc[ -]by(?:[ -]sa)?(?:[ -]\d\.\d.*)?", re.IGNORECASE)
_NOT_FREE = re.compile(r"\b(?:nc|nd)\b", re.IGNORECASE)
_CC_DEED = re.compile(r"https?://creativecommons\.org/[\w./-]{1,80}", re.ASCII)
_DAY = re.compile(r"(?<!\d)(\d{4})([-:])(\d\d)\2(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?(?!\d)")
_YEAR_AND_MONTH = re.compile(r"\d{4}(?:-(?:0[1-9]|1[0-2]))?")


async def _near_on_commons(api: "_Api", spot: _Spot, radius_km: float, wanted: int) -> list[_Photo]:
    question = {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "maxlag": "5",
        "generator": "geosearch",
        "ggscoord": f"{spot.latitude:.6f}|{spot.longitude:.6f}",
        "ggsradius": str(round(1000 * radius_km)),
        "ggslimit": str(min(_COMMONS_LIMIT, _ASKED_OF_COMMONS * wanted)),
        "ggsnamespace": "6",
        "prop": "imageinfo|coordinates",
        "colimit": "max",
        "iiprop": "url|size|mime|extmetadata|user",
        "iiurlwidth": str(_THUMBNAIL_WIDTH),
        "iiextmetadatafilter": "Artist|Attribution|LicenseShortName|LicenseUrl|DateTimeOriginal",
    }
    pages: dict[str, dict[str, Any]] = {}
    more: dict[str, str] = {}
    for _ in range(_MOST_ANSWERS):
        answer = await api.get(question | more)
        listed = _at(answer, "query", "pages")
        for page in listed if isinstance(listed, list) else ():
            # A page comes again with each part of an answer, with what that part knows of it.
            known = pages.setdefault(str(_at(page, "pageid")), {})
            known |= page if isinstance(page, dict) else {}
        going_on = answer.get("continue")
        if not isinstance(going_on, dict):
            return [_commons_photo(key, page) for key, page in pages.items()]
        more = {str(name): str(value) for name, value in going_on.items()}
    raise api.error("continue", "it goes on without an end")


def _commons_photo(key: str, page: dict[str, Any]) -> _Photo:
    if not re.fullmatch(r"[0-9]{1,30}", key):
        return _Photo(f"commons-{_line(page.get('title')) or key}", "no id")
    id, image = f"commons-{key}", _at(page, "imageinfo", 0)

    def about(name: str) -> object:
        return _at(image, "extmetadata", name, "value")

    position = _position(_at(page, "coordinates", 0, "lat"), _at(page, "coordinates", 0, "lon"))
    url, licence = _at(image, "thumburl"), _line(about("LicenseShortName"))
    if _at(image, "mime") not in _MIME_TYPES:
        return _Photo(id, "no photo by its type")
    if position is None or _at(page, "coordinates", 0, "globe") not in (None, "earth"):
        return _Photo(id, "no coordinates")
    if not _is_url(url):
        return _Photo(id, "no URL")
    if not _FREE.fullmatch(licence) or _NOT_FREE.search(licence):
        return _Photo(id, "no free licence")
    author = _seen(about("Artist")) or _line(_at(image, "user"))
    deed = str(about("LicenseUrl"))
    credit = [
        _seen(about("Attribution")) or author or "unknown author",
        f"{licence} ({deed})" if _CC_DEED.fullmatch(deed) else licence,
        f"via Wikimedia Commons, https://commons.wikimedia.org/?curid={key}",
    ]
    return _Photo(
        id,
        url=url,
        latitude=position[0],
        longitude=position[1],
        author=author,
        licence=licence,
        attribution=", ".join(credit),
        captured_at=_time_in_words(about("DateTimeOriginal")),
    )


def _commons_notes() -> list[str]:
    notes = [
        "Commons does not tell photos from drawings, maps, scans and old photos: look at a sample of what you take"
    ]
    if not web.contact():
        notes.append(
            f"Wikimedia asks clients to say whom to write to: set the environment variable {web.CONTACT} to an address"
        )
    return notes


def _time_in_words(text: object) -> str:
    """As much of a date and time as is written in full, in ISO 8601.

    Examples
    --------
    >>> _time_in_words('<time class="dtstart" datetime="2013-03-18">18 March 2013</time>')
    '2013-03-18'
    >>> _time_in_words("2013:03:18 11:49"), _time_in_words("1998"), _time_in_words("2013-02-30"), _time_in_words(None)
    ('2013-03-18T11:49:00', '1998', '', '')
    """
    words = str(text or "")[:1000]
    if match := _DAY.search(words):
        year, _, month, day, hour, minute, second = match.groups()
        try:
            moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
        except ValueError:
            return ""
        return moment.isoformat() if hour else moment.date().isoformat()
    plain = _seen(words)
    return plain if _YEAR_AND_MONTH.fullmatch(plain) else ""


def _seen(html: object) -> str:
    """What a reader sees of a piece of HTML, on one line of at most 200 characters.

    Examples
    --------
    >>> _seen('<a href="javascript:alert(1)">A.&nbsp;Example</a><script>steal()</script>')
    'A. Example'
    >>> _seen('Unknown author<span style="display: none;">Unknown author</span>')
    'Unknown author'
    """
    parser = _SeenText()
    try:
        parser.feed(str(html or "")[:20_000])
        parser.close()
    except AssertionError:  # what Python's parser does on a marked section that it does not know: the rest is lost
        pass
    return _line("".join(parser.pieces))


class _SeenText(HTMLParser):
    _VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.hidden = 0  # open elements, from the outermost one that is not shown

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._VOID:
            self.pieces.append(" ")
            return
        style = re.sub(r"\s", "", dict(attrs).get("style") or "").lower()
        if self.hidden or tag in ("script", "style") or "display:none" in style:
            self.hidden += 1

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(self.hidden - 1, 0)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.pieces.append(data)


# Values from outside


def _at(value: Any, *keys: str | int) -> Any:
    """What lies at a path of names and indices in parsed JSON, or None.

    Examples
    --------
    >>> _at({"a": [{"b": 1}]}, "a", 0, "b"), _at({"a": []}, "a", 0, "b"), _at("text", "a")
    (1, None, None)
    """
    for key in keys:
        held = isinstance(value, dict) and key in value if isinstance(key, str) else isinstance(value, list)
        if not held or (isinstance(key, int) and key >= len(value)):
            return None
        value = value[key]
    return value


def _number(value: object) -> float:
    """A number or a text that is one; else NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _on_earth(latitude: float, longitude: float) -> bool:
    return abs(latitude) <= 90 and abs(longitude) <= 180  # and so no NaN


def _position(latitude: object, longitude: object) -> tuple[float, float] | None:
    position = round(_number(latitude), 7), round(_number(longitude), 7)
    return position if _on_earth(*position) and position != (0, 0) else None  # 0° N 0° E stands for unknown


def _is_url(value: object) -> bool:
    return isinstance(value, str) and bool(_URL.fullmatch(value))


def _line(value: object, longest: int = 200) -> str:
    """Text from outside on one line, without characters that steer a terminal or turn the direction of writing.

    Examples
    --------
    >>> _line(" A.\\n\\x1b[31mExample\\u202e "), _line(None)
    ('A. [31mExample', '')
    """
    if not isinstance(value, str | int | float):
        return ""
    joiners = "\u200c\u200d"  # part of names in Persian and in Indian scripts
    spaced = " ".join(str(value)[: 10 * longest].split())
    return "".join(
        letter for letter in spaced if letter in joiners or not unicodedata.category(letter).startswith("C")
    )[:longest].strip()


# Asking


class _Complaint(web.Unfetched):
    """What an interface says is wrong, or what is wrong with its answer."""

    def __init__(self, code: str, words: str, again: bool = False) -> None:
        super().__init__(code, again=again)
        self.code = code
        self.words = words


@dataclass(frozen=True)
class _Api:
    """Asks one interface, one question at a time."""

    client: web.Client
    provider: _Provider
    address: URL
    headers: Mapping[str, str]

    async def get(self, question: Mapping[str, str]) -> dict[str, Any]:
        """JSON object that the interface answers, asking again where that may help.

        Raises
        ------
        ApiError
            If it refuses, or keeps failing.
        """
        address = str(self.address.with_query(question))
        try:
            return await self.client.persistently(address, lambda: self._asked(address))
        except web.Unfetched as failure:
            if isinstance(failure, _Complaint):
                raise self.error(failure.code, failure.words, failure.again) from None
            away = not failure.final and (failure.status in (0, 429) or failure.status >= 500)
            raise self.error(failure.reason, "", away) from None

    def error(self, code: str, words: str, temporary: bool = False) -> ApiError:
        remedy = "it is busy or cannot be reached: run this again later" if temporary else self.provider.remedy
        said = ": ".join(filter(None, (f"{self.provider.title} ({self.address.host})", code, words)))
        return ApiError(f"{said}; {remedy}", code, temporary)

    async def _asked(self, address: str) -> dict[str, Any]:
        async with self.client.answer(address, self.headers, _WITH_COMPLAINT) as response:
            if response.url.origin() != self.address.origin():
                raise _Complaint("redirect", f"it leads to {response.url.host}")
            text = await _body(response)
        token = self.headers.get("Authorization", "").removeprefix("OAuth ")
        answer = _parsed(text.replace(token, "TOKEN") if token else text)  # should it be echoed
        if complaint := _at(answer, "error"):
            code = _line(_at(complaint, "code")) or f"HTTP {response.status}"
            pause = response.headers.get("Retry-After", "")
            if code in _BUSY and pause.isdecimal():
                self.client.host(self.address).pause(min(float(pause), _LONGEST_PAUSE_S))
            words = _line(_at(complaint, "info") or _at(complaint, "message"), 400)
            raise _Complaint(code, words, again=code in _BUSY or response.status == 500)
        if response.status != 200:
            raise _Complaint(f"HTTP {response.status}", _line(response.reason), again=response.status == 500)
        if not isinstance(answer, dict):
            raise _Complaint("no JSON", f"{_line(response.content_type)} came instead of a JSON object")
        return answer


async def _body(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise _Complaint("too large", f"more than {_MAX_ANSWER_BYTES >> 20} MiB came")
    return body.decode("utf-8", "replace")


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _safe(api: str) -> URL:
    url = URL(api)
    if url.host and (url.scheme == "https" or (url.scheme == "http" and web.is_private(url.host))):
        return url
    raise ValueError(f"api is {api!r}: give an https address, because a token and what is collected go that way")


_PROVIDERS = {
    "commons": _Provider(
        "Wikimedia Commons",
        "https://commons.wikimedia.org/w/api.php",
        dict,
        _near_on_commons,
        _commons_notes,
        "its interface may have changed: see https://commons.wikimedia.org/w/api.php",
    ),
    "mapillary": _Provider(
        "Mapillary",
        "https://graph.mapillary.com/images",
        _mapillary_headers,
        _near_on_mapillary,
        lambda: (
            "Mapillary's URLs expire after some days: download the photos soon, or collect them again",
            "where there are more photos than are asked for, Mapillary decides which it lists",
        ),
        f"check the token in {TOKEN} at https://www.mapillary.com/dashboard/developers, or ask for a smaller radius",
    ),
}
PROVIDERS = tuple(_PROVIDERS)
