"""World maps in the style of :mod:`helpers.plots`: Equal Earth, right at the date line and the poles."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyproj
import shapely
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from helpers import metrics, places
from helpers.plots import DOUBLE_COLUMN, EVIDENCE, GREY, PALETTE, SPLIT_COLORS, finished, overlaid, styled

# From right to lost. The last is dark because most photos of a hard test set are lost, and should be seen to be.
ERROR_COLORS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#4A1942")
STATE_COLORS = {
    "inside a region": "#56B4E9",
    "off its coast": "#E69F00",
    "off every coast, country as named": "#D55E00",
    "no country": "#4A1942",
}
_LAND, _SEA = "#DCD9D2", "#F6F8FA"

HEXAGON_KM2 = 500_000  # about Spain
_FEWEST = {"1 to 4 photos": 1, "5 to 19": 5, "20 or more": 20}
_SIZES = (0.5, 0.75, 1.0)  # of a hexagon with so many
_ERRORS = "viridis_r"  # dark is lost, as in the colours above
_TRUTH, _GUESS = PALETTE[:2]
_LINES = 6  # beside the map of a guess that is explained

# Equal Earth (Šavrič, Patterson & Jenny, 2019) keeps areas, so densities on it are honest. Its unit here is the km.
_EQUAL_EARTH = pyproj.Proj(f"+proj=eqearth +R={metrics.EARTH_RADIUS_KM}")
_EAST_KM, _NORTH_KM = _EQUAL_EARTH(180, 0)[0], _EQUAL_EARTH(0, 90)[1]


@styled
def error_map(
    latitude: ArrayLike,
    longitude: ArrayLike,
    predicted_latitude: ArrayLike,
    predicted_longitude: ArrayLike,
    title: str = "",
    *,
    drawn: int = 150,
    seed: int = 0,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """World map of the true places, each joined to its prediction by the great circle between them.

    Parameters
    ----------
    latitude, longitude, predicted_latitude, predicted_longitude : array_like of float, shape (n,)
        Degrees.
    title : str
    drawn : int
        Most photos to draw: with more, lines hide one another. The legend's shares are of all photos.
    seed : int
        Which photos those are; it is the same ones whatever the order of the rows.
    width : float
        Of the figure, in inches.
    """
    coordinates = np.column_stack([latitude, longitude, predicted_latitude, predicted_longitude]).astype(np.float64)
    coordinates = coordinates[np.lexsort(coordinates.T)]
    distance = metrics.great_circle_km(*coordinates.T)
    bounds = metrics.THRESHOLDS_KM[1:]
    # "left" because a distance equal to the threshold is within it.
    error_class = np.searchsorted(bounds, distance, side="left")
    shares = np.bincount(error_class, minlength=len(ERROR_COLORS)) / max(len(distance), 1)
    names = [f"≤ {bound:,} km" for bound in bounds] + [f"> {bounds[-1]:,} km"]

    sample = np.sort(np.random.default_rng(seed).permutation(len(distance))[:drawn])
    sample = sample[np.argsort(-distance[sample], kind="stable")]  # so that the near ones lie on top
    columns = 5 if width > 5 else 3
    figure, (axes,) = _maps([title], width, below=0.55 if width > 5 else 0.75)
    for photo in sample:
        color = ERROR_COLORS[error_class[photo]]
        arc = [project(*piece.T) for piece in great_circle_arc(*coordinates[photo])]
        axes.add_collection(LineCollection(arc, colors=color, linewidths=0.6, alpha=0.35, zorder=3))
    x, y = project(*coordinates[sample, :2].T).T
    axes.scatter(
        x,
        y,
        s=9 if width > 5 else 5,
        c=[ERROR_COLORS[index] for index in error_class[sample]],
        edgecolors="white",
        linewidths=0.3,
        clip_on=False,
        zorder=4,
    )
    entries = [
        _dot(color, f"{name}: {100 * share:.0f} %")
        for color, name, share in zip(ERROR_COLORS, names, shares, strict=True)
    ]
    some = f"{len(sample):,} of {len(distance):,} photos, drawn at random." if len(sample) < len(distance) else ""
    _below(figure, entries, columns, f"Dot: true place. Line: great circle to the prediction. {some}")
    return finished(figure)


@styled
def radius_maps(
    predictions: pd.DataFrame, likeliest: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """World maps of four photos, from the surest to the least sure: guess, truth and what radii hold.

    Parameters
    ----------
    predictions : DataFrame
        From :func:`helpers.predict.table`.
    likeliest : DataFrame
        The table of that name of :class:`helpers.predict.Placed`.
    title : str
    width : float
        Of the figure, in inches.
    """
    ordered = predictions.sort_values(["radius_50_km", "id"], ignore_index=True)
    shown = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, 4).round().astype(int))]
    titles = [
        f"radii {row['radius_50_km']:,.0f} and {row['radius_90_km']:,.0f} km; {row['distance_km']:,.0f} km off"
        for row in shown.to_dict("records")
    ]
    figure, panels = _maps(titles, width, below=0.55 if width > 5 else 0.75)
    for axes, row in zip(panels, shown.to_dict("records"), strict=True):
        guess = row["predicted_latitude"], row["predicted_longitude"]
        _draw_radii(axes, guess, row["radius_50_km"], row["radius_90_km"])
        places = likeliest[likeliest["id"] == row["id"]]
        thin: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.4}
        marks: list[tuple[NDArray[np.float64], dict[str, Any]]] = [
            (project(places["latitude"], places["longitude"]), {"s": 8, "color": PALETTE[1], "linewidths": 0}),
            (project(*guess), {"s": 22, "marker": "D", "color": PALETTE[1], **thin}),
            (project(row["latitude"], row["longitude"]), {"s": 45, "marker": "*", "color": "black", **thin}),
        ]
        for order, (dots, look) in enumerate(marks):
            axes.scatter(dots[:, 0], dots[:, 1], zorder=6 + order, **look)
    entries = [
        Line2D([], [], color="black", marker="*", linestyle="none", label="truth"),
        Line2D([], [], color=PALETTE[1], marker="D", markersize=3.5, linestyle="none", label="guess"),
        _dot(PALETTE[1], "likeliest places"),
        Patch(color=PALETTE[0], alpha=0.4, linewidth=0, label="holds 50 %"),
        Patch(color=PALETTE[5], alpha=0.4, linewidth=0, label="holds 90 %"),
    ]
    caption = f"{title}. " if title else ""
    _below(
        figure,
        entries,
        5 if width > 5 else 3,
        f"{caption}From the photo with the smallest radius to that with the largest.",
    )
    return finished(figure)


@styled
def guess_map(photo: pd.Series, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """World map of one photo whose true place is not known: the likeliest places, and what radii hold.

    Parameters
    ----------
    photo : Series
        A row of the table of :class:`helpers.placing.Predictions` without an error.
    title : str
    width : float
        Of the figure, in inches.
    """
    ranks = [number for number in range(1, 6) if np.isfinite(photo[f"place_{number}_latitude"])]
    wide = width > 5
    radii = [photo["radius_50_km"], photo["radius_90_km"]]
    known = bool(np.isfinite(radii[1]))
    apart = names_a_place_of_its_own(photo)
    line = 0.15  # inches
    legend = 0.42 if wide else 0.6
    below = legend + 0.14 + line * (len(ranks) + apart)
    figure, (axes,) = _maps([title], width, below=below)
    _draw_radii(axes, (photo["latitude"], photo["longitude"]), *radii)
    for number in reversed(ranks):
        ((x, y),) = project(photo[f"place_{number}_latitude"], photo[f"place_{number}_longitude"])
        first = number == 1 and not apart
        axes.scatter(x, y, s=85 if first else 55, color=PALETTE[1] if first else "white", zorder=10 - number,
                     edgecolors="white" if first else PALETTE[1], linewidths=0.8, clip_on=False)  # fmt: skip
        color = "white" if first else PALETTE[1]
        axes.text(x, y, str(number), fontsize=6.5, color=color, ha="center", va="center_baseline", zorder=10 - number)
    look: dict[str, Any] = {"fontsize": 7 if wide else 6, "va": "top"}
    if apart:
        ((x, y),) = project(photo["latitude"], photo["longitude"])
        axes.scatter(x, y, s=85, color=PALETTE[1], zorder=11, edgecolors="white", linewidths=0.8, clip_on=False)
        height = (below - 0.1) / figure.get_figheight()
        figure.text(0.2 / width, height, "guess", weight="bold", color=PALETTE[1], **look)
        figure.text(0.9 / width, height, guess_name(photo), **look)
    for row, number in enumerate(ranks, int(apart)):
        height = (below - 0.1 - row * line) / figure.get_figheight()
        share = photo[f"place_{number}_probability"]
        place = (photo[f"place_{number}_{what}"] for what in ("latitude", "longitude", "country", "region"))
        figure.text(0.2 / width, height, str(number), weight="bold", color=PALETTE[1], **look)
        figure.text(0.75 / width, height, f"{100 * share:.1f} %" if np.isfinite(share) else "", ha="right", **look)
        figure.text(0.9 / width, height, place_name(*place), **look)
    entries: list[Artist] = [
        _dot(PALETTE[1], "guess"),
        _dot(PALETTE[1], "likeliest places" if apart else "next likeliest places"),
    ]
    entries[1].set(markerfacecolor="white")
    if known:
        entries += [
            Patch(color=PALETTE[place], alpha=0.4, linewidth=0, label=f"holds {share} %: {in_km(radius)}")
            for place, share, radius in ((0, 50, radii[0]), (5, 90, radii[1]))
        ]
    caption = "Per cent: how likely the photo is of each place. Of places close together the likelier is on top."
    if not photo["calibrated"]:
        caption = "NOT CALIBRATED: radii and per cents promise too much."
    _below(figure, entries, 4 if wide else 2, caption)
    return finished(figure)


def names_a_place_of_its_own(photo: pd.Series) -> bool:
    """Whether the guess is not the likeliest place, as that of a search need not be.

    Parameters
    ----------
    photo : Series
        A row of the table of :class:`helpers.placing.Predictions` without an error.
    """
    likeliest = np.array([photo["place_1_latitude"], photo["place_1_longitude"]], np.float64)
    guess = np.array([photo["latitude"], photo["longitude"]], np.float64)
    return bool(np.isfinite(likeliest).all()) and not np.allclose(guess, likeliest, rtol=0, atol=1e-5)


def guess_name(photo: Mapping[Any, Any] | pd.Series) -> str:
    """The guess in words: its region, country and degrees, of a row like that of :func:`names_a_place_of_its_own`."""
    return place_name(*(photo[what] for what in ("latitude", "longitude", "country", "region")))


def place_name(latitude: float, longitude: float, country: str, region: str) -> str:
    """A place in words.

    Examples
    --------
    >>> place_name(-33.8567, 151.2152, "Australia", "New South Wales")
    'New South Wales, Australia (33.86° S, 151.22° E)'
    >>> place_name(0.0, -30.0, "", "")
    'at sea (0.00° N, 30.00° W)'
    """
    north, east = "S" if latitude < 0 else "N", "W" if longitude < 0 else "E"
    degrees = f"{abs(latitude):.2f}° {north}, {abs(longitude):.2f}° {east}"
    return f"{', '.join(part for part in (region, country) if part) or 'at sea'} ({degrees})"


def _draw_radii(axes: Axes, guess: tuple[float, float], inner_km: float, outer_km: float) -> None:
    """Shade what lies within two radii of a guess, on the sphere; nothing where they are not known."""
    if not np.isfinite(outer_km):
        return
    latitude, longitude = np.meshgrid(np.linspace(-90, 90, 181), np.linspace(-180, 180, 361), indexing="ij")
    x, y = project(latitude.ravel(), longitude.ravel()).T.reshape(2, *latitude.shape)
    distance = metrics.great_circle_km(*guess, latitude, longitude)
    inner = max(inner_km, 1e-6)  # contours need room between them
    levels = [0, inner, max(outer_km, 2 * inner)]
    axes.contourf(x, y, distance, levels=levels, colors=[PALETTE[0], PALETTE[5]], alpha=0.35, zorder=3)


@styled
def density_map(latitude: ArrayLike, longitude: ArrayLike, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """World map of the number of photos per hexagon of equal area.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.
    title : str
    width : float
        Of the figure, in inches.
    """
    figure, (axes,) = _maps([title], width, below=0.5)
    across = 120
    down = round(across * _NORTH_KM / _EAST_KM / np.sqrt(3))
    photos = project(latitude, longitude)
    hexagons = axes.hexbin(
        *photos.T,
        gridsize=(across, down),
        extent=(-_EAST_KM, _EAST_KM, -_NORTH_KM, _NORTH_KM),
        mincnt=1,
        linewidths=0.1,
        zorder=3,
        cmap="viridis",
    )
    area_km2 = 2 * _EAST_KM / across * 2 * _NORTH_KM / down / 2  # two hexagons to each step of the lattice
    norm = _count_norm(np.asarray(hexagons.get_array()))
    hexagons.set_norm(norm)
    _color_bar(figure, norm, f"Photos per hexagon of {round(area_km2, -3):,.0f} km²; {len(photos):,} photos in all")
    return finished(figure)


@styled
def median_error_map(
    latitude: ArrayLike,
    longitude: ArrayLike,
    distance_km: ArrayLike,
    title: str = "",
    *,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """World map of how far off guesses are: hexagons of equal area, coloured by the median over the photos in each.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Where photos were taken, in degrees.
    distance_km : array_like of float, shape (n,)
        Great-circle distance of each guess from there. Colours end at 25 and 10,000 km.
    title : str
    width : float
        Of the figure, in inches. Hexagons with few photos are smaller, for their median says little.
    """
    photos = project(latitude, longitude)
    centres, hexagon = np.unique(_hexagon_centres(photos), axis=0, return_inverse=True)
    distances = pd.Series(np.asarray(distance_km, dtype=np.float64)).groupby(hexagon.ravel())
    median_km, count = distances.median().to_numpy(), distances.size().to_numpy()
    size = np.array(_SIZES)[np.searchsorted(list(_FEWEST.values()), count, side="right") - 1]
    wide = width > 5
    figure, (axes,) = _maps([title], width, below=0.72 if wide else 0.88)
    norm = LogNorm(25, 10_000)
    angle = np.radians(30 + 60 * np.arange(6))
    corners = _hexagon_spacing_km() / np.sqrt(3) * np.column_stack([np.cos(angle), np.sin(angle)])
    axes.add_collection(
        PolyCollection(
            centres[:, None] + size[:, None, None] * corners,
            array=median_km,
            norm=norm,
            cmap=_ERRORS,
            edgecolors="white",
            linewidths=0.3,
            clip_on=False,
            zorder=3,
        )
    )
    label = f"Median distance of the guess (km) in hexagons of {HEXAGON_KM2:,} km²; {len(photos):,} photos"
    label = textwrap.fill(label, 100 if wide else 45)
    look: dict[str, Any] = {"cmap": _ERRORS, "ticks": (25, 200, 750, 2500, 10_000), "extend": "both"}
    _color_bar(figure, norm, label, bottom=0.58 if wide else 0.72, **look)
    entries = [
        Line2D([], [], color=GREY, marker="h", markersize=6.5 * share, linestyle="none", label=name)
        for name, share in zip(_FEWEST, _SIZES, strict=True)
    ]
    _below(figure, entries, len(entries), "")
    return finished(figure)


@styled
def photo_gallery(
    images: Sequence[NDArray[np.uint8]], photos: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """Photos, below each a small map of where it was taken and where the guess lies, how far off, and the countries.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (height, width, 3)
    photos : DataFrame
        A row for each image, from :func:`helpers.breakdown.best` or `worst`: ``latitude, longitude,
        predicted_latitude, predicted_longitude, distance_km, country, guessed_country``.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there are not as many rows as images, or no image.
    """
    if len(images) != len(photos) or not len(images):
        raise ValueError(f"{len(images)} images and {len(photos)} rows: give one row per image, at least one")
    columns = 8 if width > 5 else 4
    gap = 0.03 * width / columns  # inches, as all below
    side = width / columns - 2 * gap
    size = float(np.clip(side * 6.7, 4.5, 6.5))  # points
    fitting = int(side * 72 / (size * 0.55))  # characters
    map_height, caption_height = side * _NORTH_KM / _EAST_KM, 3 * size * 1.25 / 72 + 2 * gap
    shapes = [np.array(image.shape[:2]) / max(image.shape[:2]) for image in images]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    # Of 4:3 at most: an upright photo would make a row of maps that are far from the others.
    photo_heights = [side * min(max(shapes[number][0] for number in row), 0.75) for row in rows]
    head, below = 0.24 if title else 0.04, 0.36 if width > 5 else 0.48
    height = head + sum(photo_heights) + len(rows) * (map_height + caption_height + 4 * gap) + below
    figure = plt.figure(figsize=(width, height))
    top = height - head
    for row, photo_height in zip(rows, photo_heights, strict=True):
        under = top - photo_height - gap - map_height
        for number in row:
            photo, left = photos.iloc[number], (number - row.start) * width / columns + gap
            high, wide = shapes[number] * min(side, photo_height / shapes[number][0])
            axes = _axes(figure, left + (side - wide) / 2, top - photo_height, wide, high)
            axes.imshow(images[number], aspect="auto", interpolation="antialiased")
            axes.set_axis_off()
            _guess_map(_axes(figure, left, under, side, map_height), photo)
            lines = (in_km(photo["distance_km"]), photo["country"], f"→ {photo['guessed_country']}")
            figure.text(
                (left + side / 2) / width,
                (under - gap) / height,
                "\n".join(line if len(line) <= fitting else f"{line[: fitting - 1].rstrip()}…" for line in lines),
                fontsize=size,
                ha="center",
                va="top",
                linespacing=1.1,
            )
        top = under - caption_height - 3 * gap
    _below(
        figure,
        _guess_entries(),
        3,
        "Below each map: how far off, the true country, and the one that the guess lies in.",
    )
    figure.text(0.06 / width, 1 - 0.06 / height, title, fontsize=8.5, va="top")
    return finished(figure)


@styled
def explained_gallery(
    views: Sequence[NDArray[np.uint8]],
    evidence: Sequence[NDArray[np.float32]],
    photos: pd.DataFrame,
    title: str = "",
    *,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """Photos, beside each what in it speaks for the guess, below a small map, and what the guess is.

    Parameters
    ----------
    views : sequence of ndarray of uint8, shape (side, side, 3)
    evidence : sequence of ndarray of float32, shape (side, side)
        From 0 to 1, for the same photos.
    photos : DataFrame
        A row for each, from :func:`helpers.explaining.facts`.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there are not as many maps and rows as photos, or no photo.
    """
    if not len(views) == len(evidence) == len(photos) > 0:
        raise ValueError(
            f"{len(views)} photos, {len(evidence)} maps and {len(photos)} rows: give one of each, at least one"
        )
    columns = 3 if width > 5 else 2
    across = width / columns  # inches, as all below
    gap = 0.025 * across
    side = across / 2 - 1.5 * gap
    size = float(np.clip(side * 6.2, 4.5, 6.5))  # points
    fitting = int(side * 72 / (size * 0.56))  # characters
    map_height = side * _NORTH_KM / _EAST_KM
    under_height = max(map_height, _LINES * size * 1.15 / 72)
    rows = -(-len(views) // columns)
    caption = (
        "Right of each photo: what in it speaks for the guess. Below: the guess, its probability, the radius that "
        "holds the truth with 50 %, how far off it is, and the true country."
    )
    head, below = 0.26 if title else 0.06, 1.1 if width > 5 else 1.32
    row_height = side + gap + under_height + 3 * gap
    height = head + rows * row_height + below
    figure = plt.figure(figsize=(width, height))
    for number in range(len(views)):
        row, column = divmod(number, columns)
        left, top, photo = column * across + gap, height - head - row * row_height, photos.iloc[number]
        for place, image in enumerate((views[number], overlaid(views[number], evidence[number]))):
            axes = _axes(figure, left + place * (side + gap), top - side, side, side)
            axes.imshow(image, aspect="auto", interpolation="antialiased")
            axes.set_axis_off()
        under = top - side - gap
        _guess_map(_axes(figure, left, under - map_height, side, map_height), photo)
        lines = _told(photo)
        figure.text(
            (left + side + gap) / width,
            under / height,
            "\n".join(line if len(line) <= fitting else f"{line[: fitting - 1].rstrip()}…" for line in lines),
            fontsize=size,
            va="top",
            linespacing=1.1,
        )
    look: dict[str, Any] = {"cmap": EVIDENCE, "ticks": (0, 1), "width": 0.4, "bottom": below - 0.14}
    _color_bar(figure, Normalize(0, 1), "Speaks for the guess (1: no place says more)", **look)
    _below(figure, _guess_entries(), 3, caption)
    figure.text(0.06 / width, 1 - 0.06 / height, title, fontsize=8.5, va="top")
    return finished(figure)


def _told(photo: pd.Series) -> list[str]:
    """Lines beside a map: the guess, how sure it is, how far off, the truth."""
    country = [] if photo["named"] == photo["guessed_country"] else [photo["guessed_country"]]
    sure = [f"{100 * photo['confidence']:.0f} % sure"] if np.isfinite(photo["confidence"]) else []
    radius = [f"50 % in {photo['radius_50_km']:,.0f} km"] if np.isfinite(photo["radius_50_km"]) else []
    off = f"off by {in_km(photo['distance_km'])}"
    return [f"→ {photo['named']}", *country, *sure, *radius, off, f"true: {photo['country']}"]


def _guess_entries() -> list[Line2D]:
    entries = [
        _dot(_TRUTH, "true place"),
        _dot(_GUESS, "guess"),
        Line2D([], [], color=GREY, linewidth=0.8, label="great circle"),
    ]
    entries[0].set(markerfacecolor="none", markersize=4.5)
    entries[1].set(marker="X")
    return entries


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place that is given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _guess_map(axes: Axes, photo: pd.Series) -> None:
    """A map of an inch with the true place of a photo, the guess, and the great circle between them."""
    world_map(axes, small=True)
    coordinates = photo[["latitude", "longitude", "predicted_latitude", "predicted_longitude"]].to_numpy(np.float64)
    lines = [project(*piece.T) for piece in great_circle_arc(*coordinates)]
    axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.7, zorder=6))
    (x, y), (guess_x, guess_y) = project(coordinates[::2], coordinates[1::2])
    look: dict[str, Any] = {"marker": "X", "color": _GUESS, "edgecolors": "white", "linewidths": 0.3}
    axes.scatter(guess_x, guess_y, s=13, clip_on=False, zorder=7, **look)
    axes.scatter(x, y, s=18, facecolors="none", edgecolors=_TRUTH, linewidths=1, clip_on=False, zorder=8)


def in_km(distance_km: float) -> str:
    """Distance as a caption has it.

    Examples
    --------
    >>> in_km(0.04), in_km(3.14159), in_km(9711.7)
    ('< 0.1 km', '3.1 km', '9,712 km')
    """
    if distance_km < 0.1:
        return "< 0.1 km"
    return f"{distance_km:.1f} km" if distance_km < 9.95 else f"{distance_km:,.0f} km"


def _hexagon_spacing_km() -> float:
    """Distance between the centres of neighbouring hexagons."""
    return float(np.sqrt(2 * HEXAGON_KM2 / np.sqrt(3)))


def _hexagon_centres(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of the hexagon that each position on the map lies in: the nearest point of two interleaved grids."""
    step = _hexagon_spacing_km() * np.array([1, np.sqrt(3)])
    corner, middle = np.round(positions / step) * step, (np.floor(positions / step) + 0.5) * step
    to_corner, to_middle = (((positions - centre) ** 2).sum(axis=1) for centre in (corner, middle))
    return np.where((to_corner <= to_middle)[:, None], corner, middle)


@styled
def region_map(photos: ArrayLike, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """World map of the regions, coloured by their number of photos.

    Parameters
    ----------
    photos : array_like of int, shape (regions,)
        Photos of each row of `places.regions`; a region without any keeps the colour of the land.
    title : str
    width : float
        Of the figure, in inches.
    """
    counts = np.asarray(photos, dtype=np.float64)
    figure, (axes,) = _maps([title], width, below=0.5)
    shown = np.flatnonzero(counts)
    norm = _count_norm(counts[shown])
    colors = matplotlib.colormaps["viridis"](norm(counts[shown]))
    outlines = _regions()
    axes.add_collection(
        PathCollection([outlines[region] for region in shown], facecolors=colors, edgecolors="none", zorder=3)
    )
    axes.add_collection(PathCollection(_land(), facecolors="none", edgecolors="white", linewidths=0.2, zorder=4))
    _color_bar(figure, norm, f"Photos per region; {int(counts.sum()):,} photos in {len(shown):,} regions")
    return finished(figure)


@styled
def located_map(
    latitude: ArrayLike, longitude: ArrayLike, state: ArrayLike, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """World map of the photos, coloured by how they came to their country, the rarest on top.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.
    state : array_like of str, shape (n,)
        Of `enriching.STATES`.
    title : str
    width : float
        Of the figure, in inches.
    """
    states, photos = np.asarray(state, dtype=object), project(latitude, longitude)
    figure, (axes,) = _maps([title], width, below=0.4)
    counts = {name: int((states == name).sum()) for name in STATE_COLORS}
    size = _dot_size(len(states), width)
    for number, name in enumerate(sorted(counts, key=lambda name: -counts[name])):
        x, y = photos[states == name].T
        axes.scatter(
            x,
            y,
            s=size * (1 + 2 * number),  # or nobody would find the rare ones
            color=STATE_COLORS[name],
            linewidths=0,
            zorder=3 + number / 10,
            rasterized=True,
        )
    entries = [_dot(STATE_COLORS[name], f"{name}: {count:,}") for name, count in counts.items() if count]
    _below(figure, entries, len(entries) if width > 5 else 2, "")
    return finished(figure)


@styled
def split_map(
    latitude: ArrayLike, longitude: ArrayLike, split: ArrayLike, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """World map of the photos, coloured by split.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.
    split : array_like of str, shape (n,)
        ``train``, ``validation`` or ``test``.
    title : str
    width : float
        Of the figure, in inches.
    """
    splits = list(SPLIT_COLORS)
    index = pd.Index(splits).get_indexer(pd.Index(np.asarray(split, dtype=object)))
    if (index < 0).any():
        raise ValueError(f"{str(np.asarray(split)[index < 0][0])!r} is no split: use {', '.join(splits)}")
    photos = project(latitude, longitude)
    # The held-out photos on top, as they are few, and shuffled, or test would hide validation. Sorted before, so that
    # the rows' order changes nothing.
    order = np.random.default_rng(0).permutation(np.lexsort([index, *photos.T]))
    order = order[np.argsort(index[order] > 0, kind="stable")]
    figure, (axes,) = _maps([title], width, below=0.5)
    size = _dot_size(len(photos), width)
    colors = np.array(list(SPLIT_COLORS.values()), dtype=object)[index[order]]
    x, y = photos[order].T
    axes.scatter(x, y, s=size, c=list(colors), linewidths=0, zorder=3, rasterized=True)
    counts = np.bincount(index, minlength=len(splits))
    entries = [
        _dot(SPLIT_COLORS[name], f"{name}: {count:,}") for name, count in zip(splits, counts, strict=True) if count
    ]
    _below(figure, entries, len(splits), "Held-out photos are drawn on top.")
    return finished(figure)


@styled
def cells_map(
    partitions: Mapping[str, tuple[Sequence[shapely.Polygon], ArrayLike]], *, width: float = DOUBLE_COLUMN
) -> Figure:
    """World maps of partitions, a panel each, cells coloured by their number of photos.

    Parameters
    ----------
    partitions : mapping of str to (sequence of shapely.Polygon, array_like of int)
        Name of each partition; its cells in degrees (x longitude, y latitude), without holes, their edges great
        circles as those of S2 cells are; and the photos per cell.
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If a partition has not as many counts as cells, or a cell holds a pole inside.
    """
    counts = {name: np.asarray(photos, dtype=np.float64) for name, (_, photos) in partitions.items()}
    titles = [f"{name}: {len(photos):,} cells" for name, photos in counts.items()]
    flat = {}
    for name, (cells, _) in partitions.items():
        if len(cells) != len(counts[name]):
            raise ValueError(f"partition {name!r} has {len(cells)} cells but {len(counts[name])} counts of photos")
        flat[name] = flat_polygons(cells)
    free_quarter = width > 5 and len(titles) == 3
    figure, panels = _maps(titles, width, below=0.05 if free_quarter else 0.5)
    norm = _count_norm(np.concatenate(list(counts.values())))
    for axes, (name, (pieces, cell)) in zip(panels, flat.items(), strict=True):
        # Edges as thin as the cell is small, or they would hide the cells of a city.
        size_km = np.array([np.ptp(piece, axis=0).max() for piece in pieces])
        axes.add_collection(
            PolyCollection(
                pieces,
                array=counts[name][cell],
                norm=norm,
                cmap="viridis",
                edgecolors="white",
                linewidths=(size_km / 8000).clip(0.01, 0.2),
                zorder=3,
            )
        )
        axes.add_collection(
            PathCollection(_land(), facecolors="none", edgecolors="black", linewidths=0.12, alpha=0.6, zorder=4)
        )
    where: dict[str, Any] = {"middle": 0.75, "bottom": 0.95, "width": 0.4} if free_quarter else {}
    _color_bar(figure, norm, "Training photos per cell", **where)
    return finished(figure)


def world_map(axes: Axes, *, small: bool = False) -> None:
    """Draw the base of every map: sea, land with its borders, graticule every 30 degrees, Equal Earth projection.

    Draw on it with :func:`project`; units are kilometres at the equator. A small one, of an inch, has the land alone.
    """
    meridian = np.linspace(-90, 90, 91)
    edge = np.concatenate([project(meridian, -180), project(meridian[::-1], 180)])
    axes.add_patch(Polygon(edge, facecolor=_SEA, edgecolor="none", zorder=0))
    lines = [project(meridian, longitude) for longitude in range(-150, 180, 30)]
    lines += [project(latitude, [-180, 180]) for latitude in range(-60, 90, 30)]
    if small:
        axes.add_collection(PathCollection(_plain_land(), facecolors=_LAND, edgecolors="none", zorder=2))
    else:
        axes.add_collection(LineCollection(lines, colors="#DFE4E8", linewidths=0.35, zorder=1))
        axes.add_collection(PathCollection(_land(), facecolors=_LAND, edgecolors="white", linewidths=0.25, zorder=2))
    axes.add_patch(Polygon(edge, facecolor="none", edgecolor="#A9B0B6", linewidth=0.3 if small else 0.6, zorder=5))
    axes.set(aspect="equal", xlim=(-1.005 * _EAST_KM, 1.005 * _EAST_KM), ylim=(-1.01 * _NORTH_KM, 1.01 * _NORTH_KM))
    axes.set_axis_off()


def project(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Equal Earth position of each coordinate.

    Parameters
    ----------
    latitude, longitude : array_like of float
        Degrees; the shapes broadcast to (n,).

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Kilometres east and north of 0° N, 0° E on the map.

    Examples
    --------
    >>> project([0, 90], [180, 0]).round().tolist()
    [[17244.0, 0.0], [0.0, 8393.0]]
    """
    north, east = np.broadcast_arrays(
        np.atleast_1d(np.asarray(latitude, dtype=np.float64)), np.asarray(longitude, dtype=np.float64)
    )
    return np.column_stack(_EQUAL_EARTH(east.copy(), north.copy()))


def great_circle_arc(
    latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float
) -> list[NDArray[np.float64]]:
    """Shortest way between two coordinates, in degrees, at least one point per degree.

    Returns
    -------
    list of ndarray of float64, shape (points, 2)
        Latitude and longitude; cut at the date line and by a pole, so that no piece spans the map. Between opposite
        coordinates, where every way is the shortest, it is one of them.

    Examples
    --------
    >>> [piece[[0, -1]].round(1).tolist() for piece in great_circle_arc(0, 178, 0, -178)]
    [[[0.0, 178.0], [0.0, 180.0]], [[0.0, -179.3], [0.0, -178.0]]]
    """
    start, end = metrics.unit_vectors([latitude_1, latitude_2], [longitude_1, longitude_2])
    angle = np.arctan2(np.linalg.norm(np.cross(start, end)), start @ end)
    ahead = end - (end @ start) * start
    if np.linalg.norm(ahead) < 1e-9:  # same or opposite: no direction of its own, so take any
        ahead = np.cross(start, np.eye(3)[np.argmin(np.abs(start))])
    ahead /= np.linalg.norm(ahead)
    step = np.linspace(0, angle, int(np.ceil(np.degrees(angle))) + 2)[:, None]
    points = _degrees(np.cos(step) * start + np.sin(step) * ahead)
    return np.split(points, np.flatnonzero(np.abs(np.diff(points[:, 1])) > 90) + 1)


def flat_polygons(polygons: Sequence[shapely.Polygon]) -> tuple[list[NDArray[np.float64]], NDArray[np.intp]]:
    """Lay polygons of great-circle edges onto the map, cut where they cross the date line.

    Parameters
    ----------
    polygons : sequence of shapely.Polygon
        Degrees (x longitude, y latitude), without holes; may cross the date line, or have a pole as a corner.

    Returns
    -------
    pieces : list of ndarray of float64, shape (points, 2)
        Outlines as :func:`project` gives them.
    polygon : ndarray of int
        For each piece, the number of the polygon it is of.

    Raises
    ------
    ValueError
        If a polygon holds a pole inside: no outline on this map can.
    """
    if not len(polygons):
        return [], np.empty(0, dtype=np.intp)
    corners, ring = shapely.get_coordinates(shapely.get_exterior_ring(np.asarray(polygons)), return_index=True)
    inside = ring[1:] == ring[:-1]
    start, end, ring = corners[:-1][inside, ::-1], corners[1:][inside, ::-1], ring[1:][inside]

    # A straight line on the map is no great circle: put a point every half degree, for near a pole the bends are sharp.
    a, b = metrics.unit_vectors(*start.T), metrics.unit_vectors(*end.T)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))
    parts = np.maximum(np.ceil(2 * np.degrees(angle)).astype(int), 1)
    edge = np.repeat(np.arange(len(parts)), parts)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(parts) - parts, parts)) / parts[edge]
    points = start[edge]
    between = share > 0
    on, turn = edge[between], (share * angle[edge])[between, None]
    rest = angle[on, None] - turn
    points[between] = _degrees((np.sin(rest) * a[on] + np.sin(turn) * b[on]) / np.sin(angle[on, None]))
    ring = ring[edge]

    # A pole is a line on the map: a corner there becomes two, each due north or south of its neighbour.
    first = np.flatnonzero(np.r_[True, ring[1:] != ring[:-1]])
    last = np.r_[first[1:], len(ring)] - 1
    before, after = np.arange(len(ring)) - 1, np.arange(len(ring)) + 1
    before[first], after[last] = last, first
    pole = np.abs(points[:, 0]) > 90 - 1e-9
    copy = np.repeat(np.arange(len(ring)), 1 + pole)
    second = np.r_[False, copy[1:] == copy[:-1]]
    longitude = np.where(pole[copy], np.where(second, points[after, 1][copy], points[before, 1][copy]), points[copy, 1])
    latitude, ring = points[copy, 0], ring[copy]

    # Go on beyond 180 degrees rather than jump to -180, then cut there.
    first = np.flatnonzero(np.r_[True, ring[1:] != ring[:-1]])
    turns = np.r_[0.0, (np.diff(longitude) + 180) % 360 - 180]
    turns[first] = 0
    gone = np.cumsum(turns)
    size = np.diff(np.r_[first, len(ring)])
    unrolled = np.repeat(longitude[first] - gone[first], size) + gone
    last = first + size - 1
    gap = (longitude[first] - longitude[last] + 180) % 360 - 180
    around = np.abs(unrolled[last] + gap - unrolled[first]) > 180
    if around.any():
        raise ValueError(f"polygon number {ring[first][around][0]} holds a pole inside: split it there")
    flat = shapely.polygons(shapely.linearrings(np.column_stack([unrolled, latitude]), indices=ring))
    west, _, east, _ = shapely.bounds(flat).T
    beyond = np.flatnonzero((west < -180 - 1e-9) | (east > 180 + 1e-9))
    kept = np.setdiff1d(np.arange(len(flat)), beyond)
    geometry, polygon = [flat[kept]], [kept]
    for shift in (-360, 0, 360):
        moved = shapely.transform(flat[beyond], lambda xy, shift=shift: xy + np.array([shift, 0]))
        piece, owner = shapely.get_parts(
            shapely.segmentize(shapely.intersection(moved, shapely.box(-180, -90, 180, 90)), 2), return_index=True
        )
        real = shapely.area(piece) > 1e-9  # the edge they share is a part of some cuts, without area
        geometry.append(piece[real])
        polygon.append(beyond[owner[real]])
    xy, index = shapely.get_coordinates(shapely.get_exterior_ring(np.concatenate(geometry)), return_index=True)
    outlines = project(xy[:, 1], xy[:, 0].clip(-180, 180))
    return np.split(outlines, np.flatnonzero(np.diff(index)) + 1), np.concatenate(polygon)


@cache
def _land() -> tuple[Outline, ...]:
    """Outlines of the countries on the map."""
    return _outlines(places.outlines().geometry.to_numpy())


@cache
def _plain_land() -> tuple[Outline, ...]:
    """Land on a map of an inch: coasts without borders, and no island that would be less than a dot."""
    land = shapely.get_parts(shapely.union_all(shapely.make_valid(places.outlines().geometry.to_numpy())))
    return _outlines(land[shapely.area(land) > 2], coarsest_km=60)  # square degrees


@cache
def _regions() -> tuple[Outline, ...]:
    """Outlines of the regions on the map."""
    return _outlines(places.regions().geometry.to_numpy())


def _outlines(shapes: NDArray[np.object_], coarsest_km: float = 6) -> tuple[Outline, ...]:
    """Shapes on the map, by default as fine as 200 dpi can show."""
    # Before projecting, points along the edge of the map, which is straight in degrees and curved in Equal Earth.
    degrees = shapely.segmentize(shapes, 2)
    flat = shapely.transform(degrees, lambda xy: project(xy[:, 1], xy[:, 0]))
    return tuple(
        Outline.make_compound_path(
            *(Outline(ring.coords, closed=True) for ring in shapely.get_rings(shapely.get_parts(shape)))
        )
        for shape in shapely.normalize(shapely.simplify(flat, coarsest_km))
    )


def _degrees(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = vectors.T
    return np.degrees(np.column_stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)]))


def _maps(titles: Sequence[str], width: float, below: float) -> tuple[Figure, list[Axes]]:
    """World maps, two in a row where there is the width for it; `below` inches stay free."""
    columns = min(len(titles), 2) if width > 5 else 1
    rows = -(-len(titles) // columns)
    head = 0.24 if any(titles) else 0.04
    map_width = width / columns
    map_height = map_width * (1.01 * _NORTH_KM) / (1.005 * _EAST_KM)
    height = rows * (map_height + head) + below
    figure = plt.figure(figsize=(width, height))
    panels = []
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        bottom = height - (row + 1) * (map_height + head)
        axes = figure.add_axes((column / columns, bottom / height, 1 / columns, map_height / height))
        world_map(axes)
        figure.text(
            column / columns + 0.06 / width, (bottom + map_height + head - 0.06) / height, title, fontsize=8.5, va="top"
        )
        panels.append(axes)
    return figure, panels


def _dot_size(photos: int, width: float) -> float:
    """Area of a dot, in square points, on a map of so many."""
    return float(np.clip(4000 / max(photos, 1), 0.6, 8)) * width / DOUBLE_COLUMN


def _dot(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, marker="o", markersize=4, linestyle="none", label=label)


def _below(figure: Figure, entries: Sequence[Artist], columns: int, caption: str) -> None:
    """Legend below the maps, and a caption below the legend."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 17))
    caption_height = (len(lines) * 0.125 + 0.05) if lines else 0
    figure.legend(
        handles=entries,
        loc="lower center",
        bbox_to_anchor=(0.5, (caption_height + 0.06) / height),
        ncols=columns,
        columnspacing=1.4 if width > 5 else 0.8,
        handletextpad=0.2,
        handlelength=1.2,
        borderpad=0,
    )
    figure.text(0.5, 0.05 / height, "\n".join(lines), fontsize=6.5, color=GREY, ha="center", va="bottom")


def _count_norm(counts: ArrayLike) -> LogNorm:
    """Logarithmic, from the smallest to the largest count, and at least a decade."""
    values = np.asarray(counts, dtype=np.float64)
    smallest, largest = (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)
    return LogNorm(smallest, max(largest, 10 * smallest))


def _color_bar(
    figure: Figure,
    norm: Normalize,
    label: str,
    *,
    middle: float = 0.5,
    bottom: float = 0.36,
    width: float = 0.6,
    cmap: str = "viridis",
    ticks: Sequence[float] = (),
    extend: str = "neither",
) -> None:
    """Colour bar below the maps; `middle` and `width` are shares of the figure's width, `bottom` is in inches."""
    height = figure.get_figheight()
    axes = figure.add_axes((middle - width / 2, bottom / height, width, 0.08 / height))
    bar = figure.colorbar(
        ScalarMappable(norm, cmap), cax=axes, orientation="horizontal", label=label, extend=extend, extendfrac=0.03
    )
    bar.ax.xaxis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 3), numticks=20))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.tick_params(pad=1.5)
    bar.outline.set_visible(False)
