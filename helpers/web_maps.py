"""World maps in pages that ask no other machine for anything.

Leaflet and the land that it draws are part of the page. Maps are Equal Earth, as the figures are; coordinates are
``[latitude, longitude]``, as Leaflet has them, and nothing reaches across the date line.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from helpers import cells, maps, metrics, places, placing, plots, targets

COLOURS = {
    **{"guess": plots.PALETTE[1], "truth": plots.PALETTE[2], "person": plots.PALETTE[0]},
    **{"half": plots.PALETTE[0], "most": plots.PALETTE[5]},
    **{"land": "#E9E7E1", "sea": "#F6F9FB", "border": "#8F979E"},
}
"""Of what a map shows; ``half`` and ``most`` are the areas that hold the truth with 50 and 90 %."""
SHOWN = 200
"""Likeliest classes of a photo that a map shows: more are too faint to be seen."""

Ring = list[list[float]]

_LAND_DEGREES = 0.05  # how far a simplified coast may lie from the true one: 6 km
_SMALLEST_ISLAND = 0.004  # square degrees, 50 km²
_WORLD = shapely.box(-180, -90, 180, 90)
_AZIMUTHS = np.radians(np.arange(0, 360, 3))


@cache
def head() -> str:
    """Styles and scripts of a page with maps, for its ``<head>``.

    Then ``geolocationMap(element, label)`` of ``web_map/map.js`` makes a map in an element that has a size.
    """
    folder = resources.files("helpers") / "web_map"
    leaflet, ours, style, own_style = (
        (folder / name).read_text(encoding="utf-8") for name in ("leaflet.js", "map.js", "leaflet.css", "map.css")
    )
    data = in_script({"land": land(), "colours": COLOURS})
    return (
        f"<style>{style}{own_style}</style><script>{leaflet}</script>"
        f"<script>window.geolocationMapData = {data};</script><script>{ours}</script>"
    )


def in_script(content: object) -> str:
    """Content as JSON that can stand in a script of a page, whatever texts are in it.

    Examples
    --------
    >>> in_script({"name": "</script><script>alert(1)</script>"})
    '{"name":"\\\\u003c/script\\\\u003e\\\\u003cscript\\\\u003ealert(1)\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def land() -> list[list[Ring]]:
    """Countries of the world, for maps of a page's size: the rings of each part."""
    simple = shapely.coverage_simplify(places.outlines().geometry.to_numpy(), _LAND_DEGREES)
    parts = shapely.get_parts(simple)
    return _rings(parts[shapely.area(parts) > _SMALLEST_ISLAND], decimals=2)


def area(latitude: float, longitude: float, radius_km: float) -> list[list[Ring]]:
    """Outline of all that lies within a great-circle distance of a place.

    Parameters
    ----------
    latitude, longitude : float
        Degrees.
    radius_km : float
        More than 0.

    Returns
    -------
    list of list of list of [float, float]
        Parts, of each the outer ring and its holes. An area that holds a pole runs along the edge of the map there.
    """
    angle = radius_km / metrics.EARTH_RADIUS_KM
    if angle >= np.pi:
        return _rings([_WORLD])
    north, south = np.degrees(angle) >= 90 - latitude, np.degrees(angle) >= 90 + latitude
    if north and south:  # all but an area around the opposite place, which holds neither
        opposite = (longitude + 360) % 360 - 180
        rest = _on_map(_circle(-latitude, opposite, np.pi - angle))
        return _rings(shapely.get_parts(_WORLD.difference(rest)))
    ring = _circle(latitude, longitude, angle)
    if north or south:  # one latitude at each longitude: from edge to edge of the map, and back along the pole
        ring[:, 0] = (ring[:, 0] + 180) % 360 - 180
        ring = ring[np.argsort(ring[:, 0])]
        edge = np.interp(180, [ring[-1, 0], ring[0, 0] + 360], [ring[-1, 1], ring[0, 1]])
        pole = 90.0 if north else -90.0
        ring = np.vstack([[-180, pole], [-180, edge], ring, [180, edge], [180, pole]])
    return _rings(shapely.get_parts(_on_map(ring)))


def layers(photo: pd.Series) -> dict[str, Any]:
    """What a map shows of a placed photo: the likeliest places, and the areas that hold the truth with 50 and 90 %.

    Parameters
    ----------
    photo : Series
        A row of the table of :class:`helpers.placing.Predictions`, without an error.
    """
    shown: dict[str, Any] = {"areas": [], "places": []}
    if np.isfinite(photo["radius_90_km"]):
        for kind, percent in (("most", 90), ("half", 50)):
            radius_km = max(float(photo[f"radius_{percent}_km"]), 0.1)
            rings = area(photo["latitude"], photo["longitude"], radius_km)
            shown["areas"].append({"kind": kind, "rings": rings, "fit": kind == "most", "dashed": kind == "most"})
    apart = maps.names_a_place_of_its_own(photo)
    for place in reversed(likeliest(photo)):  # the likeliest on top
        first = place["rank"] == 1 and not apart
        shown["places"].append(
            {
                **{"latitude": place["latitude"], "longitude": place["longitude"], "mark": str(place["rank"])},
                **{"kind": "guess" if first else "next", "label": f"{place['name']}: {place['share']}", "fit": first},
                "above": 100 * (placing.PLACES - place["rank"]),
            }
        )
    if apart:
        at = {"latitude": float(photo["latitude"]), "longitude": float(photo["longitude"])}
        shown["places"].append(
            {**at, "kind": "guess", "label": maps.guess_name(photo), "fit": True, "above": 100 * placing.PLACES}
        )
    return shown


def likeliest(photo: pd.Series) -> list[dict[str, Any]]:
    """The likeliest places of a placed photo: ``rank, latitude, longitude, name, share``, the share in words."""
    found = []
    for rank in range(1, placing.PLACES + 1):
        latitude, longitude, probability, *names = (photo[f"place_{rank}_{what}"] for what in placing.OF_PLACES)
        if np.isfinite(latitude):
            share = in_percent(probability) if np.isfinite(probability) else "how likely is not known"
            name = maps.place_name(latitude, longitude, *names)
            found.append({"rank": rank, "latitude": latitude, "longitude": longitude, "name": name, "share": share})
    return found


def heat(distribution: pd.DataFrame, classes: targets.Classes) -> list[dict[str, Any]]:
    """How likely a photo is of each class: the :data:`SHOWN` likeliest.

    Parameters
    ----------
    distribution : DataFrame
        Of one photo, from :class:`helpers.placing.Predictions`.
    classes : Partition or Classes
        Of the model that answered. S2 cells get their outlines; other classes are dots.
    """
    best = distribution.nlargest(SHOWN, "probability").sort_values("probability")
    likely = best[best["probability"] > best["probability"].max() / 1000]
    numbers = likely["cell"].to_numpy(np.int64)
    if isinstance(classes, cells.Partition):
        outlines = {number: _rings([shape]) for number, shape in cells.polygons(classes, numbers).items()}
        names = [f"cell {token}" for token in cells.tokens(classes.ids[numbers])]
    else:
        outlines, names = {}, classes.titles[numbers].tolist()
    return [
        {
            **{"probability": row["probability"], "label": f"{name}: {in_percent(row['probability'])}"},
            **({"rings": outlines[row["cell"]]} if outlines else _place(row)),
        }
        for row, name in zip(likely.to_dict("records"), names, strict=True)
    ]


def in_percent(share: float) -> str:
    """A probability as people read it.

    Examples
    --------
    >>> in_percent(0.4213), in_percent(0.0042), in_percent(0.00001)
    ('42 %', '0.4 %', '< 0.1 %')
    """
    percent = 100 * share
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %"


def arc(one: tuple[float, float], other: tuple[float, float]) -> list[Ring]:
    """Shortest way between two coordinates, in pieces that do not cross the date line."""
    return [piece.round(3).tolist() for piece in maps.great_circle_arc(*one, *other)]


def _place(row: Mapping[Any, Any]) -> dict[str, float]:
    return {what: float(row[what]) for what in ("latitude", "longitude")}


def _circle(latitude: float, longitude: float, angle: float) -> NDArray[np.float64]:
    """Longitude and latitude of points at an angle from a place; longitudes go on beyond 180 degrees."""
    north, east = np.radians([latitude, longitude])
    sine = np.sin(north) * np.cos(angle) + np.cos(north) * np.sin(angle) * np.cos(_AZIMUTHS)
    aside = np.arctan2(np.sin(_AZIMUTHS) * np.sin(angle) * np.cos(north), np.cos(angle) - np.sin(north) * sine)
    return np.degrees(np.column_stack([east + aside, np.arcsin(sine.clip(-1, 1))]))


def _on_map(ring: NDArray[np.float64]) -> shapely.Geometry:
    """A ring in degrees, cut where it crosses the date line."""
    whole = shapely.Polygon(ring)
    moved = [shapely.transform(whole, lambda xy, by=by: xy + np.array([by, 0])) for by in (-360, 0, 360)]
    return shapely.union_all([shapely.intersection(each, _WORLD) for each in moved])


def _rings(parts: Iterable[shapely.Geometry], decimals: int = 4) -> list[list[Ring]]:
    """Rings of polygons as Leaflet has them; long edges get points between, for they bend on the map."""
    polygons = [part for part in shapely.segmentize(list(parts), 2) if part.geom_type == "Polygon"]
    return [
        [np.asarray(ring.coords)[:, ::-1].round(decimals).tolist() for ring in [part.exterior, *part.interiors]]
        for part in polygons
    ]
