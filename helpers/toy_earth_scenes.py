"""What a photo of the embedded world shows: a moment at a place, composed from the parts in `toy_earth_drawing`."""

import bisect
import itertools
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from helpers import toy_earth_drawing as drawing
from helpers import toy_earth_styles as styles
from helpers.toy_earth_drawing import Design, Projection, Uniform, View, mix, showing
from helpers.toy_earth_facts import Place
from helpers.toy_earth_styles import Colour

Thing = TypeVar("Thing")

SHORT_SIDE, LONG_SIDE = 128, 160

# What the camera points at, and the scene class. The first four say little about the place, as many real photos do.
SUBJECTS = {
    "room": "indoor", "table": "indoor", "wall": "urban", "leaves": "natural",
    "street": "urban", "front": "urban", "road": "natural", "wild": "natural", "coast": "natural",
}  # fmt: skip
_SAYING_LITTLE = (0.055, 0.095, 0.125, 0.155)  # cumulative shares of the first four


def subjects(key: NDArray[np.uint64], density: NDArray[np.float64], coast: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Choose what each photo shows, from the hash of its id and from facts about its place.

    Parameters
    ----------
    key : ndarray of uint64, shape (n,)
        Evenly distributed numbers.
    density, coast : ndarray, shape (n,)
        As in :class:`helpers.toy_earth_facts.Place`.

    Returns
    -------
    ndarray of str, shape (n,)
        Keys of :data:`SUBJECTS`.
    """
    first, second, third = ((key >> np.uint64(shift) & np.uint64(0xFFFF)) / 65536 for shift in (48, 32, 16))
    in_town = second < 0.34 + 0.6 * density
    little = [first < share for share in _SAYING_LITTLE]
    seen = [in_town & (third < 0.55), in_town, coast & (third < 0.5), third < 0.75]
    return np.select(
        [*little, *seen], ["room", "table", "wall", "leaves", "street", "front", "coast", "road"], "wild"
    ).astype(object)


# A moment at a place


@dataclass(frozen=True)
class Scene:
    """Everything decided before the first stroke."""

    place: Place
    subject: str
    style: styles.Style
    trees: tuple[str, ...]
    walls: tuple[Colour, ...]  # with the favourites of country and town repeated
    roofs: tuple[Colour, ...]
    ground: Colour
    soil: Colour
    leaf: Colour
    bare: bool
    snow: bool
    sun: int  # height above the horizon in degrees
    weather: str  # clear, broken, overcast, rain, fog
    uniform: Uniform

    def side(self) -> int:
        """Left (-1) or right (1)."""
        return 1 if self.uniform() < 0.5 else -1

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of some things."""
        return things[int(self.uniform() * len(things))]

    def design(self) -> Design:
        """One building in the local taste."""
        uniform, style, density = self.uniform, self.style, self.place.density
        low, high = style.storeys
        jitter = int(uniform() * 24) - 12
        wall = self.pick(self.walls)
        dusty = mix(wall, self.soil, 40 if self.place.climate.startswith("B") else 12)
        return Design(
            wall=(dusty[0] + jitter, dusty[1] + jitter, dusty[2] + jitter),
            roof_colour=self.pick(self.roofs),
            roof="flat" if density > 0.6 and uniform() < 0.3 + 0.04 * high else style.roof,
            storeys=max(1, int(low + (high - low) * density * (0.35 + 0.75 * uniform()) + 0.3)),
            window=style.window,
            texture=style.texture,
            trim=style.trim,
            sign=style.signs[int(uniform() * uniform() * len(style.signs))],
            shop=uniform() < 1.1 * density - 0.1,
            balcony=density > 0.4 and uniform() < 0.3,
            script=self.place.script,
        )


_WEATHER = ("clear", "broken", "overcast", "rain")  # in the order of the shares in `styles.Nature.sky`
_AUTUMN: tuple[Colour, ...] = ((206, 140, 44), (186, 84, 40), (214, 176, 60))


def _season(place: Place, uniform: Uniform) -> tuple[int, float, float]:
    """Sun height in degrees, summer (0 in midwinter, 1 in midsummer), and the months since midsummer."""
    day, hour = int(365 * uniform()), 6.5 + 13.5 * (uniform() + uniform()) / 2
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (day + 10) / 365)
    north = math.radians(place.latitude)
    sine = math.sin(north) * math.sin(declination)
    sine += math.cos(north) * math.cos(declination) * math.cos(math.radians(15 * (hour - 12)))
    since = ((day - 200) if place.latitude >= 0 else (day - 20)) % 365
    return (
        round(math.degrees(math.asin(max(-1, min(1, sine))))),
        round((1 + math.cos(2 * math.pi * since / 365)) / 2, 3),
        since / 30.4,
    )


def moment(place: Place, subject: str, uniform: Uniform) -> Scene:
    """Decide date, weather and local taste; `uniform` gives the chances."""
    nature, trees = styles.nature(place)
    style = styles.STYLES[place.region]
    sun, summer, months = _season(place, uniform)
    mean, swing = styles.TEMPERATURE_C[place.climate]
    celsius = mean + swing * (2 * summer - 1) + 4 * uniform() - 2
    wet = 1 - summer if place.climate.startswith("Cs") else summer
    weather = _WEATHER[bisect.bisect(list(itertools.accumulate(nature.sky)), 100 * uniform())]
    if uniform() < 0.04:
        weather = "fog"
    country, town = random.Random(zlib.crc32(place.country.encode())).random, random.Random(place.town).random

    def favoured(colours: tuple[Colour, ...]) -> tuple[Colour, ...]:
        by_country, by_town = (colours[int(taste() * len(colours))] for taste in (country, town))
        return (*(by_country,) * 7, *(by_town,) * 3, *colours)

    soil = styles.RED_DESERT if place.climate[:2] in ("BW", "BS") and place.continent == "Oceania" else nature.soil
    soil = mix(soil, (int(255 * town()), int(190 * town()), int(120 * town())), 26)
    leaf = mix(nature.leaves, (int(160 * town()), 130, int(90 * town())), 36)
    green = mix(nature.parched, nature.lush, int(256 * wet))
    seasonal = swing >= 6
    if seasonal and 2.2 < months < 4.2 and celsius < 14:
        leaf = mix(leaf, _AUTUMN[int(uniform() * len(_AUTUMN))], 190)
    return Scene(
        place, subject, style, trees, favoured(style.walls), favoured(style.roofs),
        ground=mix(soil, green, nature.cover), soil=soil, leaf=leaf, bare=seasonal and celsius < 5,
        snow=celsius < -1 or place.climate == "EF", sun=sun, weather=weather, uniform=uniform,
    )  # fmt: skip


_CLEAR = ((84, 138, 206), (192, 217, 236))
_SKIES: dict[str, tuple[Colour, Colour, Colour, int]] = {  # zenith, horizon, clouds, cover
    "clear": (*_CLEAR, (250, 250, 252), 40),
    "broken": (*_CLEAR, (250, 250, 252), 165),
    "overcast": ((158, 166, 176), (206, 210, 213), (188, 193, 199), 235),
    "rain": ((120, 128, 138), (176, 182, 188), (138, 144, 152), 245),
    "fog": ((198, 202, 204), (214, 216, 216), (206, 208, 208), 0),
}
_TINTS: dict[str, Colour] = {
    "clear": (266, 258, 242),
    "broken": (258, 255, 246),
    "overcast": (218, 224, 230),
    "rain": (178, 187, 196),
    "fog": (214, 217, 218),
}
_CONTRAST = {"clear": 62, "broken": 44, "overcast": 10, "rain": 6, "fog": 4}


def _view(scene: Scene, mapped: bool) -> View:
    """Sky, light and bare ground of a scene, up to the hills on the horizon."""
    uniform, place = scene.uniform, scene.place
    size = (SHORT_SIDE, LONG_SIDE) if uniform() < 0.2 else (LONG_SIDE, SHORT_SIDE)
    zenith, skyline, cloud, cover = _SKIES[scene.weather]
    tint = _TINTS[scene.weather]
    if place.climate.startswith("BW") and scene.weather in ("clear", "broken"):
        skyline, zenith = (228, 218, 196), mix(zenith, (150, 176, 200), 70)
    elif place.climate.startswith("A") and scene.weather in ("clear", "broken"):
        skyline = (214, 226, 230)
    if place.elevation_m > 1500 and scene.weather in ("clear", "broken"):
        zenith = mix(zenith, (40, 88, 176), min(200, int(place.elevation_m) // 20))
    night = scene.sun < -4
    if night:
        zenith, skyline, cloud, tint = (12, 16, 36), (44, 46, 74), (40, 42, 60), (112, 114, 150)
    elif scene.sun < 7:
        glow = (246, 176, 116) if scene.weather in ("clear", "broken") else (196, 176, 168)
        skyline, zenith, cloud = (
            mix(skyline, glow, 200),
            mix(zenith, (88, 84, 134), 130),
            mix(cloud, (236, 150, 120), 130),
        )
        tint = mix(tint, (206, 160, 140), 170)
    elif scene.sun < 22 and scene.weather in ("clear", "broken"):
        tint, skyline = mix(tint, (276, 244, 200), 150), mix(skyline, (240, 222, 190), 90)
    thickness = {"fog": 20 + int(34 * uniform()), "rain": 14, "overcast": 6}.get(scene.weather, 3)
    if place.climate[0] == "A" or place.climate.startswith("BW"):
        thickness += 3
    light = drawing.Light(tint, scene.side(), 0 if night else _CONTRAST[scene.weather], skyline, thickness, night)
    ground: Colour = (232, 237, 244) if scene.snow else scene.ground
    if scene.subject in ("street", "front") and not scene.snow and place.density > 0.45:
        ground = mix(ground, (150, 146, 140), 120)
    horizon = int(size[1] * ({"front": 0.6, "street": 0.46, "road": 0.46}.get(scene.subject, 0.4) + 0.14 * uniform()))
    far = mix(_lit(ground, tint), skyline, 150 if scene.weather == "fog" else 70)
    base = drawing.backdrop(size, horizon, zenith, skyline, cloud, cover, far, _lit(ground, tint), uniform)
    vanishing, eye = int(2 * size[0] * (0.36 + 0.28 * uniform())), 1.6 + 0.8 * uniform()
    view = View(base, 2 * horizon, vanishing, eye, light, uniform, mapped)
    view.leaf, view.bare, view.snow = scene.leaf, scene.bare, scene.snow
    _hills(view, scene, 1.0 if scene.subject == "wild" else 0.7)
    return view


def _lit(colour: Colour, tint: Colour) -> Colour:
    return min(255, colour[0] * tint[0] >> 8), min(255, colour[1] * tint[1] >> 8), min(255, colour[2] * tint[2] >> 8)


def _hills(view: View, scene: Scene, scale: float) -> None:
    place = scene.place
    relief = min(place.relief_m, 2600.0)
    rise = int(scale * (4 + relief / 26))
    high = place.elevation_m + place.relief_m
    snow = scene.snow or high > 4600 - 46 * abs(place.latitude)
    forested = mix(scene.leaf, scene.soil, 60 if scene.place.climate[0] not in "B" else 190)
    if relief > 350:
        view.go(900 if scene.weather != "fog" else 9000)
        view.air = min(view.air, 255) if scene.weather == "fog" else 150
        drawing.ridge(view, rise, mix(forested, (110, 116, 132), 120), 1, rise * 2 // 3 if snow and relief > 600 else 0)
    view.air = 200 if scene.weather == "fog" else 90
    drawing.ridge(view, max(5, rise * 2 // 5), (214, 220, 228) if scene.snow else forested, 2)


# What the camera points at


def _row(low: float, high: float, step: float, uniform: Uniform) -> list[float]:
    """Places along a row, about `step` apart, from far to near."""
    at, found = low + step * uniform(), []
    while at < high:
        found.append(at)
        at += step * (0.6 + 0.8 * uniform())
    return found[::-1]


def _square_on(view: View, left: float, z: float) -> Projection:
    """A front that faces the camera."""
    return lambda along, up, behind: view.at(left + along, up, z + behind)


def _along(view: View, x: float, side: int, z: float) -> Projection:
    """A front on one side of the road that leads away."""
    return lambda along, up, behind: view.at(x + side * behind, up, max(1.6, z + along))


def _plant(view: View, scene: Scene, x: float, z: float, metres: float) -> None:
    kind = scene.pick(scene.trees)
    if kind == "none":
        return
    view.go(z)
    x_px, y_px = view.at(x, 0, z)
    height = int(view.focal * metres / z)
    if height > 3 and -height < x_px < view.width + height:
        view.shadow(x, z, metres * 0.24)
        drawing.tree(view, kind, x_px, y_px, min(height, 260))


def _vehicle(scene: Scene) -> tuple[str, Colour, Colour]:
    """Kind, body and roof of a vehicle: of a taxi where the country has a look for them."""
    uniform, style = scene.uniform, scene.style
    kind = scene.pick(style.vehicles)
    if kind == "tuktuk":
        return kind, (46, 122, 70), (244, 204, 40)
    taxi = styles.TAXI.get(scene.place.country)
    if taxi and kind != "moto" and uniform() < 0.4:
        return ("van" if kind == "pickup" else kind), taxi[0], taxi[1]
    body = _PAINTS[int(uniform() * (9 if scene.place.climate[0] in "AB" else len(_PAINTS)))]
    return kind, body, body


# White, grey and black are commonest; the last three are seldom seen where it is hot.
_PAINTS: tuple[Colour, ...] = (
    (236, 236, 234), (236, 236, 234), (236, 236, 234), (236, 236, 234), (176, 180, 184), (176, 180, 184), (58, 60, 66),
    (58, 60, 66), (156, 36, 38), (42, 74, 132), (42, 74, 132), (70, 104, 84),
)  # fmt: skip


def _plate(scene: Scene, behind: bool) -> Colour:
    country = scene.place.country
    if country in styles.BLUE_PLATES:
        return (40, 76, 160)
    if country in styles.BLACK_PLATES:
        return (24, 24, 26)
    return (240, 196, 40) if behind and country in styles.YELLOW_PLATES else (240, 240, 236)


@showing("road")
def _carriageway(view: View, scene: Scene, half: float, x: float, paved: bool) -> None:
    """Road, kerbs and markings; `x` is the middle of the road."""
    place, uniform = scene.place, scene.uniform
    dry = place.climate[0] == "B"
    asphalt = mix((120, 114, 106) if dry else (92, 92, 96), scene.soil, 40) if paved else scene.soil
    if scene.weather == "rain":
        asphalt = mix(asphalt, (120, 132, 146), 90)
    if scene.snow:
        asphalt = mix(asphalt, (226, 230, 236), 110 if paved else 200)
    drawing.strip(view, x - half, x + half, asphalt)
    if not paved:
        for rut in (-0.5, 0.5):
            drawing.strip(view, x + rut * half - 0.25, x + rut * half + 0.25, asphalt, 218)
        return
    edge: Colour = (226, 180, 40) if place.edge_line == "yellow" else (226, 226, 222)
    for side in (-1, 1):
        drawing.strip(view, x + side * (half - 0.32), x + side * (half - 0.18), edge)
    line: Colour = (232, 178, 36) if place.centre_line == "yellow" else (230, 230, 226)
    double = uniform() < 0.6
    if place.centre_line == "yellow" and double:
        for offset in (-0.2, 0.2):
            drawing.strip(view, x + offset - 0.1, x + offset + 0.1, line)
    else:
        for start in range(1, 60, 6):
            drawing.strip(view, x - 0.13, x + 0.13, line, 256, start + 1, start + 4)


def _traffic(view: View, scene: Scene, half: float, x: float, busy: float) -> None:
    """Vehicles on both lanes: on the country's side of the road seen from behind, on the other side oncoming."""
    ours = -1 if scene.place.drives_left else 1
    uniform = scene.uniform
    for z in _row(7, 60, 18 / busy, uniform):
        oncoming = uniform() < 0.5
        side = -ours if oncoming else ours
        view.go(z)
        kind, body, roof = _vehicle(scene)
        drawing.vehicle(view, kind, x + side * half * 0.52, z, body, roof, oncoming, _plate(scene, not oncoming))


_KERBS: dict[str, tuple[Colour, ...]] = {
    "plain": ((176, 174, 168),),
    "black white": ((36, 36, 38), (236, 236, 232)),
    "black yellow": ((36, 36, 38), (240, 196, 36)),
    "red white": ((196, 44, 40), (236, 236, 232)),
    "yellow": ((236, 190, 36),),
}


@showing("pavement")
def _kerbs(view: View, scene: Scene, half: float, x: float) -> None:
    pattern = _KERBS[scene.place.kerb]
    for side in (-1, 1):
        for index in range(1, 24):
            colour = pattern[index % len(pattern)]
            near, far = (index, index + 1) if index < 23 else (index, 80)
            outer, inner = x + side * (half + 0.3), x + side * half
            view.area(
                [view.at(inner, 0, near), view.at(inner, 0, far), view.at(outer, 0.1, far), view.at(outer, 0.1, near)],
                colour,
            )


@showing("pavement")
def _street(view: View, scene: Scene) -> None:
    place, uniform, style = scene.place, scene.uniform, scene.style
    centre = place.density > 0.5
    half = 2.7 + 1.2 * place.density + 0.6 * uniform()
    paved = 100 * uniform() > styles.UNPAVED.get(place.region, 3) * (1 - place.density)
    pavement = 1.2 + 2.4 * place.density
    ours = -1 if place.drives_left else 1
    x = -ours * half / 2 if uniform() < 0.6 else scene.side() * (half + 0.8)
    setback = half + pavement + (0 if centre else 2 + 4 * uniform())
    flags = mix((176, 170, 160), scene.soil, 60 if paved else 220)
    if scene.snow:
        flags = mix(flags, (236, 240, 246), 200)
    for side in (-1, 1):
        drawing.strip(view, x + side * half, x + side * (half + pavement), flags)
    _carriageway(view, scene, half, x, paved)
    if paved:
        _kerbs(view, scene, half, x)
    contrast, sun_side = view.light.contrast, view.light.sun_side
    if centre and contrast > 20:
        reach = setback - min(setback + half, 7.0 * (1 - scene.sun / 90))
        outline = [
            view.at(x + sun_side * across, 0, z) for across, z in ((setback, 2), (setback, 90), (reach, 90), (reach, 2))
        ]
        view.glaze.polygon(outline, (22, 26, 44, 84))
    for side in (-1, 1):
        _terrace(view, scene, side, x + side * setback, 0.0 if centre else 2 + 7 * uniform(), contrast)
    green = 0.25 + 0.5 * uniform()
    for z in _row(6, 55, 9, uniform):
        side = scene.side()
        if uniform() < green:
            _plant(view, scene, x + side * (half + 0.9), z, 4 + 3 * uniform())
    if style.wires:
        drawing.utility_line(view, x + (half + 0.5) * scene.side(), style.wires)
    _traffic(view, scene, half, x, 0.6 + 1.4 * place.density)
    for z in (40, 22, 11):
        view.go(z)
        drawing.lamp_post(view, x - ours * (half + 0.4), z, ours * 1.6)
    box = styles.POST_BOX.get(place.country)
    if box and uniform() < 0.5:
        z = 5.5 + 3 * uniform()
        view.go(z)
        drawing.post_box(view, x - ours * (half + 1.1), z, box[0])
    if uniform() < 0.5:
        z = 6 + 5 * uniform()
        view.go(z)
        drawing.warning_sign(view, place.warning_sign, x + ours * (half + 0.7), z)
    if centre and uniform() < 0.6:
        _blades(view, scene, x, setback)


@showing("building")
def _terrace(view: View, scene: Scene, side: int, x: float, gap: float, contrast: int) -> None:
    """Buildings along one side of a street, from far to near; `x` is the line of their fronts."""
    uniform = scene.uniform
    spans, z = [], 3.2 + 3 * uniform()
    while z < 75:
        length = 6 + 7 * uniform()
        spans.append((z, length))
        z += length + gap * (0.5 + uniform())
    towards_sun = -side * view.light.sun_side
    for z, length in reversed(spans):
        design = scene.design()
        view.go(z + length / 2)
        height = drawing.STOREY_M * design.storeys + 0.4
        end = [view.at(x, 0, z), view.at(x, height, z), view.at(x + side * 8, height, z), view.at(x + side * 8, 0, z)]
        if design.roof in ("gable", "eaves"):
            end.insert(2, view.at(x + side * 4, height + 2.8, z))
        drawing.facade(view, _along(view, x, side, z), length, design, 250 + towards_sun * contrast * 2 // 3)
        view.area(end, design.wall, 250 - contrast // 3)
        if gap and uniform() < 0.7:
            _plant(view, scene, x + side * 2 * uniform(), z - 1, 4 + 4 * uniform())


@showing("building")
def _blades(view: View, scene: Scene, x: float, setback: float) -> None:
    """Shop signs that hang over the pavement."""
    uniform = scene.uniform
    upright = scene.place.script in ("han", "kana", "hangul")
    for z in _row(5, 30, 5, uniform):
        side = scene.side()
        colour = scene.pick(scene.style.signs)
        wide, high = (0.8, 2.6) if upright else (1.4, 0.9)
        view.go(z)
        left, low = x + side * setback - (wide if side > 0 else 0), 3 + 1.5 * uniform()
        (x0, y0), (x1, y1) = view.at(left, low + high, z), view.at(left + wide, low, z)
        view.box(x0, y0, x1, y1, colour)
        if x1 - x0 > 8:
            ink: Colour = (250, 248, 240) if sum(colour) < 420 else (40, 36, 44)
            for index in range(3 if upright else 1):
                drawing.letters(
                    view, _square_on(view, left, z), 0.1, low + high - 0.8 * (index + 1), wide - 0.1,
                    low + high - 0.8 * index - 0.2, scene.place.script, ink,
                )  # fmt: skip


@showing("building")
def _front(view: View, scene: Scene) -> None:
    """The other side of the street, seen square on."""
    place, uniform, style = scene.place, scene.uniform, scene.style
    z = 9.0 + 5 * uniform()
    paved = 100 * uniform() > styles.UNPAVED.get(place.region, 3) * (1 - place.density)
    reach = view.width / view.focal * z

    def band(near: float, far: float, colour: Colour, level: int = 256) -> None:
        view.box(0, view.at(0, 0, near)[1], view.width, view.at(0, 0, far)[1], colour, level)

    view.go(z)
    asphalt = mix((96, 95, 97), scene.soil, 40 if paved else 256)
    flags = mix((178, 172, 162), scene.soil, 60 if paved else 220)
    if scene.snow:
        asphalt, flags = mix(asphalt, (228, 232, 238), 110), mix(flags, (236, 240, 246), 200)
    contrast = view.light.contrast
    x = -reach - 4 * uniform()
    while x < reach:
        length = 6 + 6 * uniform()
        drawing.facade(view, _square_on(view, x, z), length, scene.design(), 240 + contrast // 3)
        x += length
        if place.density < 0.5:
            gap = 1 + 5 * uniform()
            _plant(view, scene, x + gap / 2, z + 1, 4 + 4 * uniform())
            x += gap
    with view.showing("pavement"):
        band(z - 2.2, z, flags)
    with view.showing("road"):
        band(2.0, z - 2.2, asphalt)
    if paved:
        with view.showing("pavement"):
            band(z - 2.35, z - 2.2, (176, 174, 168), 230)
        line: Colour = (232, 178, 36) if place.centre_line == "yellow" else (230, 230, 226)
        with view.showing("road"):
            for start in range(-9, 9, 3):
                (x0, y0), (x1, y1) = view.at(start, 0, z - 4.9), view.at(start + 1.6, 0, z - 5.05)
                view.box(x0, y0, x1, y1, line)
    box = styles.POST_BOX.get(place.country)
    if box and uniform() < 0.5:
        drawing.post_box(view, (uniform() - 0.5) * reach, z - 0.6, box[0])
    for x in _row(-reach, reach, 5, uniform):
        if uniform() < 0.4:
            _plant(view, scene, x, z - 1.2, 3.5 + 2.5 * uniform())
    with view.showing("street furniture"):
        for index in range(style.wires):
            y = int(view.horizon * 0.35) + 9 * index
            view.line([(0, y), (view.width, y + 6 - 3 * (index % 4))], (48, 48, 52))
    # Nearest to us, traffic comes from the left where people drive on the right.
    towards_right = -1 if place.drives_left else 1
    for lane, heading, chance in ((z - 3.2, -towards_right, 0.7), (z - 6, towards_right, 0.3)):
        if lane > 3.5 and uniform() < chance:
            kind, body, roof = _vehicle(scene)
            drawing.vehicle_aside(view, kind, (uniform() - 0.5) * 1.2 * reach, lane, body, roof, heading)


@showing("land")
def _fields(view: View, scene: Scene, x: float, half: float) -> None:
    """Land on both sides of a road: crops in strips where it is green, scattered plants where it is not."""
    uniform = scene.uniform
    nature, _ = styles.nature(scene.place)
    if nature.cover > 150 and not scene.snow:
        for side in (-1, 1):
            edge = half + 1.5
            crop = mix(scene.ground, scene.pick(((206, 176, 84), (96, 138, 52), (150, 120, 84), (176, 186, 96))), 150)
            if uniform() < 0.6:
                for index in range(9):
                    drawing.strip(
                        view,
                        x + side * (edge + 2 * index),
                        x + side * (edge + 2 * index + 1.2),
                        crop,
                        236 + 8 * (index % 3),
                        3,
                        60,
                    )
    for z in _row(7, 90, 10 if nature.cover > 150 else 7, uniform):
        side = scene.side()
        _plant(view, scene, x + side * (half + 3 + z * 0.35 * uniform()), z, 4 + 5 * uniform())


@showing("land")
def _road(view: View, scene: Scene) -> None:
    place, uniform, style = scene.place, scene.uniform, scene.style
    half = 2.6 + 0.9 * uniform()
    ours = -1 if place.drives_left else 1
    x = (
        -ours * half / 2 if uniform() < 0.6 else -ours * (half + 1.5 + uniform())
    )  # driving, or standing at the roadside
    paved = 100 * uniform() > styles.UNPAVED.get(place.region, 8)
    drawing.strip(view, x - half - 1.2, x + half + 1.2, mix(scene.soil, (236, 240, 246), 190 if scene.snow else 0))
    _carriageway(view, scene, half, x, paved)
    for z in _row(14, 50, 22, uniform):
        side = scene.side()
        view.go(z)
        left = x + side * (half + 7 + 6 * uniform()) - 4
        drawing.facade(view, _square_on(view, left, z), 7 + 4 * uniform(), scene.design(), 246)
    _fields(view, scene, x, half)
    side = scene.side()
    _fence(view, scene, x + side * (half + 2.2))
    if uniform() < 0.6 and style.wires:
        drawing.utility_line(view, x - side * (half + 2.5), min(style.wires, 3))
    if paved:
        for z in (30, 15, 8):
            view.go(z)
            for post in (-1, 1):
                foot, top = view.at(x + post * (half + 0.7), 0, z), view.at(x + post * (half + 0.85), 1.0, z)
                low, high = (foot[1] + (top[1] - foot[1]) * tenths // 10 for tenths in (6, 8))
                with view.showing("street furniture"):
                    view.box(*foot, *top, (236, 236, 232))
                    view.box(foot[0], low, top[0], high, style.post)
    _traffic(view, scene, half, x, 0.5)
    if uniform() < 0.55:
        z = 6 + 6 * uniform()
        view.go(z)
        drawing.warning_sign(view, place.warning_sign, x + ours * (half + 1.2), z)


@showing("street furniture")
def _fence(view: View, scene: Scene, x: float) -> None:
    kind, stone = scene.style.fence, mix((186, 178, 164), scene.soil, 90)
    if kind in ("wall", "hedge"):
        colour, high = (stone, 1.1) if kind == "wall" else (mix(scene.leaf, (40, 80, 40), 80), 1.3)
        for near, far in ((30, 90), (12, 30), (4, 12)):
            view.go(near)
            corners = [view.at(x, 0, near), view.at(x, high, near), view.at(x, high, far), view.at(x, 0, far)]
            with view.showing("plant" if kind == "hedge" else "street furniture"):
                view.area(corners, colour, 235)
        return
    colour = (238, 238, 232) if kind == "picket" else (132, 112, 90)
    for up in (0.5, 1.0):
        view.line([view.at(x, up, 3.5), view.at(x, up, 80)], colour, 2)
    for z in (60, 40, 28, 20, 15, 11, 8, 6, 4.5):
        view.line([view.at(x, 0, z), view.at(x, 1.2, z)], colour, max(1, int(view.focal * 0.1 / z)))


@showing("land")
def _wild(view: View, scene: Scene) -> None:
    uniform, place = scene.uniform, scene.place
    nature, _ = styles.nature(place)
    if nature.cover < 80 and place.climate != "EF":
        for level in (0, 1, 2):
            view.air = 90 - 40 * level
            drawing.ridge(view, 16 - 5 * level, scene.soil, 3, 0)
    if uniform() < (0.35 if nature.cover > 150 else 0.08):
        far, near = view.at(0, 0, 60)[1], view.at(0, 0, 14 + 10 * uniform())[1]
        water = mix(view.light.haze, (58, 96, 110), 140) if not scene.snow else (206, 218, 228)
        bow = int(view.width * (0.2 + 0.6 * uniform()))
        middle = (far + near) // 2
        with view.showing("water"):
            view.draw.polygon(
                [(-40, far), (view.width + 40, far), (view.width, middle), (bow, near), (-60, middle)], water
            )
    elif uniform() < 0.5:
        with view.showing("road"):
            drawing.strip(view, -1.2, 0.6, mix(scene.soil, (236, 240, 246), 150 if scene.snow else 0), 245)
    for z in _row(5, 120, 7 - nature.cover / 60, uniform):
        side = scene.side()
        _plant(view, scene, side * (1.6 + z * 0.6 * uniform()), z, 5 + 7 * uniform())
    for z in _row(3, 16, 2.5, uniform):
        view.go(z)
        x, y = view.at((uniform() - 0.5) * z, 0, z)
        r = int(view.focal * (0.15 + 0.3 * uniform()) / z)
        if uniform() < 0.35 + place.relief_m / 3000:
            rock = mix(scene.soil, (128, 126, 124), 150)
            view.area([(x - r, y), (x - r // 2, y - r), (x + r // 2, y - r * 4 // 5), (x + r, y)], rock, 220)
            view.area(
                [(x, y), (x, y - r), (x + r // 2, y - r * 4 // 5), (x + r, y)],
                rock,
                265 if view.light.sun_side > 0 else 185,
            )
        elif nature.cover > 80 and not scene.snow:
            with view.showing("plant"):
                for blade in range(-3, 4):
                    view.line([(x + blade, y), (x + 3 * blade, y - r)], mix(scene.ground, scene.leaf, 130))


@showing("water")
def _coast(view: View, scene: Scene) -> None:
    place, uniform = scene.place, scene.uniform
    warm = place.climate[0] == "A" or place.climate in ("BWh", "BSh", "Csa")
    deep, shallow = ((28, 110, 150), (92, 190, 188)) if warm else ((54, 84, 104), (112, 140, 146))
    if scene.weather not in ("clear", "broken"):
        deep, shallow = mix(deep, (120, 128, 134), 130), mix(shallow, (140, 146, 150), 130)
    side = scene.side()
    top, bottom = view.horizon + 1, view.height
    view.air = 20
    view.box(0, top - 3, view.width, view.height, deep)
    for index in range(1, 11):
        y = top + (bottom - top) * index * index // 121
        view.box(0, y, view.width, bottom, mix(deep, shallow, 25 * index))
    for index in range(24):  # waves, longer and farther apart towards us
        y = top + (bottom - top) * index * index // 576
        x, reach = int(uniform() * view.width), 6 + 2 * index
        view.line([(x - reach, y), (x + reach, y)], mix(shallow, (240, 246, 246), 120))
    lean, width = 0.1 + 0.35 * uniform(), 3 + 4 * uniform()

    def inland(z: float, metres: float) -> float:
        """Metres right of the camera for a point `metres` inland of the shore, `z` ahead."""
        return side * (lean * z - width + metres)

    sand: Colour = (232, 237, 244) if scene.snow else mix((226, 206, 160) if warm else (176, 160, 132), scene.soil, 70)
    reaches = (1.3, 2, 3, 4.5, 7, 11, 18, 30, 60, 300)
    for foam, colour in ((0.9, (240, 244, 244)), (0, sand)):
        shore = [view.at(inland(z, (index % 3) * 0.4 - foam), 0, z) for index, z in enumerate(reaches)]
        corner = view.width + 40 if side > 0 else -40
        beach = [*shore, (corner, shore[-1][1]), (corner, view.height), (shore[0][0], view.height)]
        with view.showing("water" if foam else "land"):
            view.area(beach, colour, 248)
    if uniform() < 0.5:
        x, y = int(view.width * (0.5 - 0.3 * side)), view.horizon + 8
        with view.showing("vehicle"):
            view.area([(x - 12, y - 3), (x + 12, y - 3), (x + 8, y + 3), (x - 8, y + 3)], (236, 236, 232))
            view.area([(x, y - 4), (x, y - 26), (x + 11, y - 6)], (246, 244, 238))
    if uniform() < 0.7:
        for z in (40.0, 32.0, 24.0, 17.0):
            view.go(z)
            left = inland(z, 6) - (7 if side < 0 else 0)
            drawing.facade(view, _square_on(view, left, z), 7, scene.design(), 250)
    for z in _row(6, 40, 6, uniform):
        _plant(view, scene, inland(z, 2.5 + 3 * uniform()), z, 4 + 4 * uniform())


@showing("indoors")
def _room(view: View, scene: Scene) -> None:
    uniform = scene.uniform
    w, h = view.width, view.height
    x: float
    y: float
    view.light = drawing.Light((250, 238, 218), 1, 20, (220, 210, 200), 0, False)
    view.go(0)
    wall = mix(scene.pick(((226, 218, 204), (206, 214, 214), (222, 206, 188), (188, 196, 186))), scene.walls[0], 40)
    floor = scene.pick(((150, 112, 78), (186, 172, 154), (122, 88, 64), (164, 150, 140)))
    skirting = h * (58 + int(16 * uniform())) // 100
    outside = view.image.getpixel((w // 2, 4))
    view.box(0, 0, w, h, wall)
    view.box(0, skirting, w, h, floor)
    for index in range(-8, 9):
        view.line([(w // 2 + index * w // 10, skirting), (w // 2 + index * w // 4, h)], floor, 1, 225)
    view.box(0, skirting - 4, w, skirting, (240, 236, 228))
    if uniform() < 0.65:
        left, high = int(w * (0.1 + 0.5 * uniform())), h // 3
        view.box(left - 4, h // 8 - 4, left + w // 4 + 4, h // 8 + high + 4, (244, 242, 236))
        with view.showing("sky"):
            view.draw.rectangle((left, h // 8, left + w // 4, h // 8 + high), cast(Colour, outside))
        view.line([(left + w // 8, h // 8), (left + w // 8, h // 8 + high)], (244, 242, 236), 3)
        curtain = scene.pick(scene.style.signs)
        view.box(left - 16, h // 8 - 6, left, h // 8 + high + 14, mix(curtain, (200, 190, 180), 130))
    sofa = scene.pick(((92, 104, 120), (142, 84, 70), (110, 118, 96), (168, 150, 126)))
    x, y = int(w * (0.1 + 0.3 * uniform())), skirting + 22
    if uniform() < 0.6:
        view.glaze.ellipse((x - 8, y + 24, x + 150, y + 44), (30, 24, 20, 70))
        view.draw.rounded_rectangle((x, y - 52, x + 140, y + 30), 10, view.shade(sofa, 225))
        view.draw.rounded_rectangle((x - 8, y - 22, x + 148, y + 34), 10, view.shade(sofa))
        view.box(x + 68, y - 20, x + 71, y + 14, sofa, 215)
    else:
        wood = (128, 88, 58)
        view.box(x, y - 12, x + 130, y - 4, wood, 265)
        for leg in (6, 118):
            view.box(x + leg, y - 4, x + leg + 6, y + 44, wood, 215)
        view.box(x + 30, y - 40, x + 46, y - 12, sofa)
        view.blob(x + 38, y - 50, 16, 16, (90, 130, 70))
    if uniform() < 0.5:
        x = int(w * (0.6 + 0.25 * uniform()))
        view.box(x, skirting - 60, x + 3, skirting + 16, (84, 78, 72))
        view.area(
            [(x - 14, skirting - 56), (x - 8, skirting - 84), (x + 10, skirting - 84), (x + 16, skirting - 56)],
            (250, 232, 190),
            262,
        )
    if uniform() < 0.6:
        x, y = int(w * (0.55 + 0.3 * uniform())), h // 6
        view.box(x, y, x + 46, y + 36, (74, 60, 50))
        view.box(x + 4, y + 4, x + 42, y + 32, scene.pick(scene.style.signs), 235)


@showing("indoors")
def _table(view: View, scene: Scene) -> None:
    uniform = scene.uniform
    view.light = drawing.Light((252, 240, 222), 1, 0, (0, 0, 0), 0, False)
    view.go(0)
    w, h = view.width, view.height
    top = scene.pick(((142, 98, 64), (222, 214, 202), (96, 72, 58), (178, 140, 98), (196, 60, 54)))
    view.box(0, 0, w, h, top)
    for index in range(12):
        joint = int(h * (index + uniform()) / 12)
        view.line([(0, joint), (w, joint + int(12 * uniform()) - 6)], top, 1, 236)
    for index in range(1 + int(3 * uniform())):
        x, y = w * (0.25 + 0.5 * uniform()), h * (0.3 + 0.4 * uniform())
        r = h * (0.16 + 0.2 * uniform()) / (1 + 0.4 * index)
        view.glaze.ellipse((int(x - r), int(y - r * 0.8), int(x + r * 1.1), int(y + r * 0.95)), (20, 14, 10, 80))
        view.blob(x, y, r, r * 0.85, (240, 238, 232))
        view.blob(x, y, r * 0.8, r * 0.66, (228, 224, 216))
        food = ((186, 120, 60), (206, 84, 52), (120, 150, 66), (226, 196, 120), (120, 72, 48))
        for _ in range(14):
            dx, dy, size = (uniform() - 0.5) * r, (uniform() - 0.5) * r * 0.8, r * (0.1 + 0.14 * uniform())
            view.blob(x + dx, y + dy, size, size * 0.8, scene.pick(food), 225 + int(50 * uniform()))
    if uniform() < 0.6:
        x, y = w * (0.12 + 0.75 * uniform()), h * 0.16
        view.blob(x, y, 24, 22, (236, 236, 234))
        view.blob(x, y, 19, 17, (92, 58, 38))


@showing("building")
def _wall(view: View, scene: Scene) -> None:
    uniform = scene.uniform
    design = scene.design()
    w, h = view.width, view.height
    x: float
    y: float
    view.go(0)
    view.box(0, 0, w, h, design.wall, 250)
    brick = design.texture in ("brick", "block")
    if brick or uniform() < 0.3:
        rows = 14 + int(10 * uniform())
        for row in range(rows):
            y = row * h // rows
            view.line([(0, y), (w, y)], mix(design.wall, (210, 204, 194), 90), 2)
            for column in range(9):
                x = (2 * column + row % 2) * w // 16
                view.box(x, y + 2, x + w // 8 - 3, y + h // rows - 1, design.wall, 225 + int(50 * uniform()))
    elif design.texture == "plank":
        for column in range(0, w, 22):
            view.box(column, 0, column + 19, h, design.wall, 232 + int(36 * uniform()))
    for _ in range(5):
        x, y, r = w * uniform(), h * uniform(), 20 + 60 * uniform()
        view.glaze.ellipse((int(x - r), int(y - r), int(x + r), int(y + r)), (*view.shade(design.wall, 210), 36))
    if uniform() < 0.35:
        x = int(w * (0.2 + 0.4 * uniform()))
        view.box(x, h // 4, x + w // 3, h, design.trim, 215)
        view.box(x + 8, h // 4 + 8, x + w // 3 - 8, h, design.trim, 190)
        view.blob(x + w // 3 - 18, h * 2 // 3, 5, 5, (196, 170, 90))


@showing("plant")
def _leaves(view: View, scene: Scene) -> None:
    uniform = scene.uniform
    w, h = view.width, view.height
    x: float
    y: float
    view.go(0)
    view.box(0, 0, w, h, mix(scene.leaf, (30, 44, 26), 120), 200)
    for index in range(70):
        x, y, r = int(w * uniform()), int(h * uniform()), 10 + index // 3
        dx, dy = int((uniform() - 0.5) * 2.6 * r), int((uniform() - 0.7) * 2 * r)
        colour = mix(scene.leaf, (150, 180, 80), int(100 * uniform()))
        view.area(
            [
                (x, y),
                (x + dx // 2 - dy // 4, y + dy // 2 + dx // 4),
                (x + dx, y + dy),
                (x + dx // 2 + dy // 4, y + dy // 2 - dx // 4),
            ],
            colour,
            180 + index,
        )
    if uniform() < 0.6:
        petal = scene.pick(((226, 70, 90), (240, 200, 60), (236, 236, 240), (170, 100, 190), (240, 140, 60)))
        for _ in range(1 + int(5 * uniform())):
            cx, cy, size = w * (0.2 + 0.6 * uniform()), h * (0.2 + 0.6 * uniform()), 8 + 18 * uniform()
            for right, down in ((0, -1), (0.95, -0.3), (0.6, 0.8), (-0.6, 0.8), (-0.95, -0.3)):
                level = 240 + int(10 * right - 14 * down)
                view.blob(cx + right * size, cy + down * size, size * 0.75, size * 0.75, petal, level)
            view.blob(cx, cy, size * 0.4, size * 0.4, (226, 176, 50))


_DRAW = {
    "street": _street, "front": _front, "road": _road, "wild": _wild, "coast": _coast,
    "room": _room, "table": _table, "wall": _wall, "leaves": _leaves,
}  # fmt: skip


def draw(scene: Scene, mapped: bool = False) -> View:
    """Draw a scene, layer by layer, from the sky to what is nearest, and where asked for a map of what is where."""
    view = _view(scene, mapped)
    _DRAW[scene.subject](view, scene)
    return view
