"""Draw the parts of a street scene: sky, ground, hills, roads, buildings, plants, vehicles.

Everything is drawn at twice the final size with integer coordinates and halved at the end, which smooths the edges.
A :class:`View` holds the camera, a pinhole over flat ground, and the light that every colour passes through.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from typing import Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from helpers.toy_earth_styles import Colour

Point = tuple[int, int]
Uniform = Callable[[], float]
Projection = Callable[[float, float, float], Point]

KINDS = (
    "sky", "land", "hills", "water", "road", "pavement", "building", "plant", "vehicle", "street furniture", "indoors",
)  # fmt: skip
"""What a pixel can show, by its number in a map of kinds."""

_Rest = ParamSpec("_Rest")

LIT_WINDOW: Colour = (255, 214, 138)
NIGHT_LAMP: Colour = (255, 226, 170)


def mix(first: Colour, second: Colour, share: int) -> Colour:
    """Blend two colours; `share` of the second in 1/256.

    Examples
    --------
    >>> mix((0, 100, 200), (100, 100, 0), 128)
    (50, 100, 100)
    """
    rest = 256 - share
    return (
        (first[0] * rest + second[0] * share) >> 8,
        (first[1] * rest + second[1] * share) >> 8,
        (first[2] * rest + second[2] * share) >> 8,
    )


@cache
def noise() -> NDArray[np.uint8]:
    """Smooth fractal noise, 512 x 512 periodic; made of raw bits, a stream that NumPy keeps stable."""
    source = np.random.PCG64(2018)
    total = np.zeros((512, 512), np.int64)
    for size, weight in ((8, 16), (16, 9), (32, 6), (64, 3), (128, 2), (256, 1)):
        octave = np.pad((source.random_raw(size * size) & 255).astype(np.uint8).reshape(size, size), 2, "wrap")
        step = 512 // size
        smooth = Image.fromarray(octave).resize((512 + 4 * step, 512 + 4 * step), Image.Resampling.BICUBIC)
        total += weight * np.asarray(smooth, np.int64)[2 * step : -2 * step, 2 * step : -2 * step]
    total -= total.min()
    return (total * 255 // total.max()).astype(np.uint8)


@cache
def grain() -> NDArray[np.int16]:
    """Noise of a camera sensor, 256 x 256, roughly normal with a deviation of 5 grey levels."""
    dice = (np.random.PCG64(7).random_raw(4 * 65536) & 7).astype(np.int16).reshape(4, 256, 256)
    return dice.sum(0, dtype=np.int16) - 14


@dataclass(frozen=True)
class Light:
    """Colour of the light (256 is white), where the sun stands, and what lies in the air."""

    tint: Colour
    sun_side: int  # -1 left, 1 right
    contrast: int  # difference between a sunny and a shaded wall, in 1/256
    haze: Colour
    thickness: int  # haze per metre, in 1/1024
    night: bool


class _Pens:
    """Draws on a picture, and where it is asked for the same shapes on a map, with the number of what they show."""

    def __init__(self, picture: Image.Image, kinds: Image.Image | None) -> None:
        self._pens = [ImageDraw.Draw(each) for each in (picture, kinds) if each]
        self.kind = "sky"

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        for pen, ink in self._inks(colour):
            pen.polygon(points, ink)

    def ellipse(self, box: tuple[int, int, int, int], colour: Colour) -> None:
        for pen, ink in self._inks(colour):
            pen.ellipse(box, ink)

    def line(self, points: Sequence[Point], colour: Colour, width: int) -> None:
        for pen, ink in self._inks(colour):
            pen.line(points, ink, width)

    def rectangle(self, box: tuple[int, int, int, int], colour: Colour) -> None:
        for pen, ink in self._inks(colour):
            pen.rectangle(box, ink)

    def rounded_rectangle(self, box: tuple[int, int, int, int], radius: int, colour: Colour) -> None:
        for pen, ink in self._inks(colour):
            pen.rounded_rectangle(box, radius, ink)

    def _inks(self, colour: Colour) -> list[tuple[ImageDraw.ImageDraw, Colour | int]]:
        return list(zip(self._pens, (colour, KINDS.index(self.kind)), strict=False))


class View:
    """A picture in the making.

    Parameters
    ----------
    base : Image
        Sky and ground, at twice the final size.
    horizon, vanishing : int
        Row of the horizon and column of the vanishing point, in pixels.
    eye : float
        Height of the camera above the ground, in metres.
    mapped : bool
        Whether ``kinds``, a map of what each pixel shows, is drawn beside the picture.
    """

    def __init__(
        self, base: Image.Image, horizon: int, vanishing: int, eye: float, light: Light, uniform: Uniform, mapped: bool
    ) -> None:
        self.image = base
        self.kinds = _sky_above_land(base.size, horizon) if mapped else None
        self.draw = _Pens(base, self.kinds)
        self.glaze = ImageDraw.Draw(base, "RGBA")
        self.width, self.height = base.size
        self.horizon, self.vanishing, self.eye = horizon, vanishing, eye
        self.focal = 250
        self.light = light
        self.uniform = uniform
        self.air = 0
        self.snow = False
        self.leaf: Colour = (60, 110, 50)
        self.bare = False

    @contextmanager
    def showing(self, kind: str) -> Iterator[None]:
        """Draw what is of one of :data:`KINDS`; light, shade and lettering are of the thing that they lie on."""
        before, self.draw.kind = self.draw.kind, kind
        try:
            yield
        finally:
            self.draw.kind = before

    def at(self, x: float, up: float, z: float) -> Point:
        """Pixel of the point `x` metres right, `up` metres above the ground, `z` metres ahead."""
        scale = self.focal / z
        return int(self.vanishing + scale * x), int(self.horizon + scale * (self.eye - up))

    def go(self, z: float) -> None:
        """Draw at a distance of `z` metres from now on."""
        self.air = min(225, int(z * self.light.thickness) >> 2)

    def shade(self, colour: Colour, level: int = 256) -> Colour:
        """Colour of a surface under the light and through the air; `level` is its brightness in 1/256."""
        red, green, blue = self.light.tint
        red, green, blue = colour[0] * red * level, colour[1] * green * level, colour[2] * blue * level
        lit = (min(255, red >> 16), min(255, green >> 16), min(255, blue >> 16))
        return mix(lit, self.light.haze, self.air) if self.air else lit

    def area(self, points: Sequence[Point], colour: Colour, level: int = 256) -> None:
        """Fill a polygon."""
        self.draw.polygon(points, self.shade(colour, level))

    def blob(self, x: float, y: float, across: float, up: float, colour: Colour, level: int = 256) -> None:
        """Fill an ellipse given by its centre and half axes."""
        self.draw.ellipse((int(x - across), int(y - up), int(x + across), int(y + up)), self.shade(colour, level))

    def line(self, points: Sequence[Point], colour: Colour, width: int = 1, level: int = 256) -> None:
        """Draw a line of at least one pixel."""
        self.draw.line(points, self.shade(colour, level), max(1, width))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, level: int = 256) -> None:
        """Fill an upright rectangle."""
        left, right = sorted((int(x0), int(x1)))
        top, bottom = sorted((int(y0), int(y1)))
        self.draw.rectangle((left, top, right, bottom), self.shade(colour, level))

    def shadow(self, x: float, z: float, across: float) -> None:
        """Darken the ground under a thing, away from the sun."""
        if self.light.contrast > 12:
            away = -self.light.sun_side * across * 0.5
            left, y = self.at(x + away - across, 0, z)
            right, _ = self.at(x + away + across, 0, z)
            depth = max(1, (right - left) // 9)
            self.glaze.ellipse((left, y - depth, right, y + depth), (20, 24, 40, 66))

    def glow(self, x: int, y: int, radius: int) -> None:
        """Halo of a lamp at night."""
        for step, strength in ((3, 26), (2, 40), (1, 90)):
            r = max(1, radius * step // 3)
            self.glaze.ellipse((x - r, y - r, x + r, y + r), (*NIGHT_LAMP, strength))


def showing(
    kind: str,
) -> Callable[[Callable[Concatenate[View, _Rest], None]], Callable[Concatenate[View, _Rest], None]]:
    """Decorator of a function that draws things of one of :data:`KINDS`, but for the parts that say otherwise."""

    def decorated(draw: Callable[Concatenate[View, _Rest], None]) -> Callable[Concatenate[View, _Rest], None]:
        @wraps(draw)
        def drawing(view: View, *given: _Rest.args, **named: _Rest.kwargs) -> None:
            with view.showing(kind):
                draw(view, *given, **named)

        return drawing

    return decorated


def _sky_above_land(size: tuple[int, int], horizon: int) -> Image.Image:
    kinds = Image.new("L", size, KINDS.index("land"))
    kinds.paste(KINDS.index("sky"), (0, 0, size[0], horizon))
    return kinds


def _blend(first: Colour, second: Colour, share: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of colour, shape (n, 3), with `share` (n, 1) of the second colour in 1/256."""
    return np.right_shift(np.array(first) * (256 - share) + np.array(second) * share, 8)


def backdrop(
    size: tuple[int, int], horizon: int, zenith: Colour, skyline: Colour, cloud: Colour, cover: int, far: Colour,
    near: Colour, uniform: Uniform,
) -> Image.Image:  # fmt: skip
    """Sky with clouds above textured ground.

    Parameters
    ----------
    size : tuple of int
        Width and height of the final picture; the result is twice as large.
    horizon : int
        Row of the horizon in the final picture.
    cover : int
        Clouds, from 0 (none) to 255.
    """
    width, height = size
    tile = noise()
    offset = int(uniform() * 512)
    base = np.empty((height, width, 3), np.int32)
    ramp = np.arange(horizon)[:, None] * 256 // max(1, horizon)
    sky = _blend(zenith, skyline, ramp)
    if cover:
        rows = (np.arange(horizon) * (192 + ramp[:, 0]) // 96 + offset) % 512  # flatter towards the horizon
        columns = (np.arange(width) * 5 // 4 + 3 * offset) % 512
        density = tile[rows][:, columns].astype(np.int32)
        shape = np.clip((density - 205 + cover * 3 // 4) * 5, 0, 235)[..., None]
        shading = np.array(cloud) - (np.clip(density - 120, 0, 90)[..., None] * cover >> 9)
        base[:horizon] = (sky[:, None] * (256 - shape) + shading * shape) >> 8
    else:
        base[:horizon] = sky[:, None]
    below = np.arange(1, height - horizon + 1)
    ramp = (below * 256 // (height - horizon))[:, None]
    ground = _blend(far, near, ramp)
    rows = (6000 // (below + 6) + offset) % 512
    columns = (np.arange(width)[None] - width // 2) * 260 // (below[:, None] + 12) % 512
    grit = (tile[rows[:, None], columns].astype(np.int32) - 128 + 4 * grain()[: height - horizon, :width])[..., None]
    base[horizon:] = ground[:, None] * (256 + (grit * (64 + ramp[:, None]) >> 10)) >> 8
    picture = Image.fromarray(base.clip(0, 255).astype(np.uint8))
    return picture.resize((2 * width, 2 * height), Image.Resampling.NEAREST)


@showing("hills")
def ridge(view: View, height: int, colour: Colour, smooth: int, snow_line: int = 0) -> None:
    """A line of hills `height` pixels above the horizon; the top `snow_line` pixels are white."""
    row = noise()[int(view.uniform() * 512)].tolist()
    start, step = int(view.uniform() * 512), 5
    crest = []
    for x in range(0, view.width + step, step):
        rise = row[(start + x // smooth) % 512] * 3 + row[(3 * start + 2 * x) % 512]
        crest.append((x, view.horizon - (rise * height >> 10)))
    floor = [(view.width, view.horizon + 2), (0, view.horizon + 2)]
    view.area(crest + floor, colour)
    if snow_line:
        limit = view.horizon - height + snow_line
        cap = [(x, y + max(0, (limit - y)) * (5 + index % 3) // 8) for index, (x, y) in enumerate(crest)]
        view.area([(x, y) for x, y in crest if y < limit] and crest + cap[::-1], (240, 244, 250))


# Plants. Each takes the foot (x, y) and the height h in pixels.


def _crown(view: View, x: float, y: float, across: float, up: float, leaf: Colour, clumps: int) -> None:
    uniform, side = view.uniform, view.light.sun_side
    view.blob(x, y, across, up, leaf, 190)
    for index in range(clumps):
        dx, dy = uniform() * 1.5 - 0.75, uniform() * 1.4 - 0.8
        size = 0.28 + 0.2 * uniform()
        level = 225 + int(view.light.contrast * (0.5 * side * dx - 0.9 * dy) * 0.5) + 6 * (index % 3)
        view.blob(x + dx * across, y + dy * up, size * across, size * up, leaf, level)
    if view.snow:
        view.blob(x, y - up * 0.7, across * 0.6, up * 0.3, (240, 243, 248))


def _bare(view: View, x: int, y: int, h: int, bark: Colour) -> None:
    uniform = view.uniform
    view.line([(x, y), (x, y - h * 3 // 4)], bark, h // 16)
    for index in range(9):
        start = y - h * (30 + 5 * index) // 100
        reach, rise = h * (0.34 - 0.02 * index) * (1 if index % 2 else -1), h * (0.2 + 0.15 * uniform())
        tip = (int(x + reach), int(start - rise))
        view.line([(x, start), tip], bark, h // 40)
        view.line([((x + tip[0]) // 2, (start + tip[1]) // 2), (tip[0] - int(reach / 3), tip[1] - h // 12)], bark)


def _fronds(view: View, x: float, y: float, reach: float, leaf: Colour, count: int, droop: float, thick: float) -> None:
    for index in range(count):
        dx = (2 * index / (count - 1) - 1) * reach * (0.85 + 0.3 * view.uniform())
        lift = reach * (0.55 - 0.45 * abs(dx) / reach)
        middle, tip = (x + dx * 0.55, y - lift), (x + dx, y - lift * 0.4 + abs(dx) * droop)
        view.area(
            [
                (int(x), int(y)), (int(middle[0]), int(middle[1] - thick)), (int(tip[0]), int(tip[1])),
                (int(middle[0]), int(middle[1] + thick)),
            ],
            leaf, 205 + 14 * (index % 4),
        )  # fmt: skip


@showing("plant")
def tree(view: View, kind: str, x: int, y: int, h: int) -> None:
    """Draw a plant of one kind, `h` pixels high, its foot at (`x`, `y`)."""
    uniform, leaf = view.uniform, view.leaf
    dx: float
    up: float
    bark: Colour = (92, 74, 58)
    clumps = 3 if h < 30 else 9 if h < 90 else 14
    if kind in ("broadleaf", "birch", "poplar") and view.bare:
        return _bare(view, x, y, h, (200, 196, 188) if kind == "birch" else bark)
    if kind == "broadleaf":
        view.line([(x, y), (x, y - h // 2)], bark, h // 12)
        _crown(view, x, y - h * 0.64, h * 0.34, h * 0.36, leaf, clumps)
    elif kind == "jungle":
        view.line([(x, y), (x, y - h // 2)], (120, 104, 84), h // 18)
        _crown(view, x, y - h * 0.72, h * 0.4, h * 0.26, leaf, clumps)
        _crown(view, x + h * 0.2, y - h * 0.3, h * 0.3, h * 0.26, mix(leaf, (90, 160, 50), 60), clumps)
    elif kind == "birch":
        for dx in (-h // 14, h // 12):
            view.line([(x, y), (x + dx, y - h * 3 // 4)], (222, 220, 212), h // 24)
        _crown(view, x, y - h * 0.62, h * 0.22, h * 0.36, mix(leaf, (150, 180, 70), 90), clumps)
    elif kind == "poplar":
        view.line([(x, y), (x, y - h // 3)], bark, h // 20)
        _crown(view, x, y - h * 0.55, h * 0.12, h * 0.45, mix(leaf, (140, 165, 70), 60), clumps)
    elif kind == "cypress":
        view.area(
            [
                (x - h // 11, y - h // 12),
                (x - h // 10, y - h // 2),
                (x, y - h),
                (x + h // 10, y - h // 2),
                (x + h // 11, y - h // 12),
            ],
            (38, 66, 42),
            225,
        )
        view.area([(x, y - h // 10), (x + h // 14, y - h // 2), (x, y - h)], (52, 86, 50), 256)
    elif kind in ("conifer", "larch"):
        if kind == "larch":
            leaf = (186, 160, 70) if view.bare else mix(leaf, (130, 165, 70), 110)
        else:
            leaf = mix(leaf, (30, 66, 48), 170)
        view.line([(x, y), (x, y - h // 5)], bark, h // 18)
        for index in range(5):
            foot, half = y - h * (12 + 16 * index) // 100, h * (22 - 4 * index) // 100
            top = foot - h * 30 // 100
            view.area([(x - half, foot), (x, top), (x + half, foot)], leaf, 190 + 12 * index)
            view.area([(x, foot), (x, top), (x + view.light.sun_side * half, foot)], leaf, 225 + 12 * index)
            if view.snow:
                view.area(
                    [(x - half * 2 // 3, foot - h // 14), (x, top), (x + half // 3, foot - h // 12)], (238, 242, 248)
                )
    elif kind == "pine":
        lean = int((uniform() - 0.5) * h / 4)
        view.line([(x, y), (x + lean // 2, y - h // 2), (x + lean, y - h * 9 // 10)], (120, 78, 52), h // 18)
        for index in range(5):
            dx, up = (uniform() - 0.5) * 0.5 * h, h * (0.5 + 0.11 * index)
            _crown(
                view,
                x + lean * up / h + dx * (1.2 - index / 5),
                y - up,
                h * 0.19,
                h * 0.07,
                mix(leaf, (40, 78, 48), 120),
                3,
            )
    elif kind == "stonepine":
        for dx in (-1, 1):
            view.line([(x, y), (x, y - h // 2), (x + dx * h // 6, y - h * 7 // 10)], (118, 86, 62), h // 22)
        _crown(view, x, y - h * 0.78, h * 0.46, h * 0.17, mix(leaf, (50, 90, 44), 110), clumps)
    elif kind == "olive":
        view.line([(x, y), (x - h // 12, y - h // 4), (x, y - h // 2)], (112, 98, 80), h // 9)
        _crown(view, x, y - h * 0.58, h * 0.42, h * 0.32, (132, 144, 108), clumps)
    elif kind == "acacia":
        for dx in (-3, -1, 2, 4):
            view.line([(x, y), (x, y - h // 3), (x + dx * h // 10, y - h * 3 // 4)], (86, 66, 50), h // 26)
        for dx, up in ((-0.25, 0.76), (0.3, 0.8), (0, 0.88)):
            _crown(view, x + dx * h, y - up * h, h * 0.36, h * 0.08, mix(leaf, (120, 138, 60), 90), 4)
    elif kind == "baobab":
        w = h // 7
        view.area(
            [(x - w, y), (x - w * 4 // 5, y - h * 6 // 10), (x + w * 4 // 5, y - h * 6 // 10), (x + w, y)],
            (150, 122, 100),
            230,
        )
        view.area(
            [(x, y), (x, y - h * 6 // 10), (x + w * 4 // 5, y - h * 6 // 10), (x + w, y)],
            (150, 122, 100),
            256 if view.light.sun_side > 0 else 205,
        )
        for dx in (-3, -2, -1, 1, 2, 3):
            tip = (x + dx * h // 8, y - h * (92 - 5 * abs(dx)) // 100)
            view.line([(x + dx * w // 4, y - h * 58 // 100), tip], (140, 114, 94), h // 24)
            _crown(view, *tip, h * 0.09, h * 0.06, leaf, 2)
    elif kind == "eucalyptus":
        lean = int((uniform() - 0.5) * h / 5)
        pale: Colour = (214, 202, 186)
        view.line([(x, y), (x + lean, y - h * 6 // 10)], pale, h // 18)
        for dx, up in ((-0.22, 0.66), (0.24, 0.72), (-0.1, 0.86), (0.14, 0.9), (0.02, 0.6)):
            tip = (x + lean + int(dx * h), y - int(up * h))
            view.line([(x + lean, y - h // 2), tip], pale, h // 36)
            _crown(view, tip[0], tip[1] - h // 20, h * 0.17, h * 0.1, mix(leaf, (128, 142, 104), 150), 4)
    elif kind == "araucaria":
        view.line([(x, y), (x, y - h * 9 // 10)], (98, 74, 58), h // 20)
        for index in range(4):
            level, half = y - h * (62 + 10 * index) // 100, h * (34 - 6 * index) // 100
            view.line(
                [(x - half, level - half // 3), (x, level + half // 6), (x + half, level - half // 3)],
                (44, 76, 44),
                h // 16,
            )
    elif kind in ("palm", "treefern"):
        trunk = h * 8 // 10 if kind == "palm" else h // 2
        lean = int((uniform() - 0.5) * h / 4)
        head = (x + lean, y - trunk)
        view.line(
            [(x, y), (x + lean // 4, y - trunk // 2), head], (136, 112, 86) if kind == "palm" else (80, 62, 48), h // 22
        )
        _fronds(view, head[0], head[1], h * 0.36, mix(leaf, (96, 140, 54), 90), 9, 0.75, max(1.0, h / 36))
        _fronds(view, head[0], head[1] - h / 30, h * 0.26, mix(leaf, (120, 160, 70), 120), 6, 0.35, max(1.0, h / 40))
    elif kind == "banana":
        view.line([(x, y), (x, y - h // 3)], (140, 140, 80), h // 14)
        _fronds(view, x, y - h * 0.3, h * 0.42, (106, 160, 62), 7, 0.1, max(1.0, h / 13))
    elif kind == "bamboo":
        for index in range(7):
            stem, bend = x + (index - 3) * h // 22, x + int((uniform() - 0.5) * h * 0.8)
            view.line([(stem, y), (stem, y - h // 2), (bend, y - h * (75 + 3 * index) // 100)], (150, 168, 84), h // 40)
            _crown(view, (bend + stem) / 2, y - h * (0.6 + 0.04 * index), h * 0.15, h * 0.11, (116, 156, 66), 3)
    elif kind == "cactus":
        green: Colour = (84, 122, 72)
        w = h // 9
        view.line([(x, y), (x, y - h * 9 // 10)], green, w, 230)
        view.blob(x, y - h * 0.9, w / 2, w / 2, green, 240)
        for side, up in ((-1, 40), (1, 52)):
            elbow = (x + side * h // 5, y - h * up // 100)
            view.line([(x, elbow[1]), elbow, (elbow[0], elbow[1] - h * 28 // 100)], green, w * 2 // 3, 245)
    elif kind == "agave":
        _fronds(view, x, y, h * 0.45, (128, 152, 128), 9, -0.2, max(1.0, h / 26))
        view.line([(x, y), (x, y - h * 7 // 10)], (150, 150, 96), h // 30)
    elif kind == "shrub":
        for dx in (-0.25, 0.2):
            _crown(view, x + dx * h, y - h * 0.14, h * 0.26, h * 0.16, leaf, 3)
    elif kind == "tussock":
        for dx in range(-4, 5):
            view.line([(x + dx, y), (x + dx * h // 24, y - h // 6)], (168, 156, 92), 1, 220 + 5 * (dx % 4))


# Buildings


@dataclass(frozen=True)
class Design:
    """One building."""

    wall: Colour
    roof_colour: Colour
    roof: str
    storeys: int
    window: str
    texture: str
    trim: Colour
    sign: Colour
    shop: bool
    balcony: bool
    script: str


STOREY_M = 3.0
# Width and height of a window and the distance between windows, in metres.
_WINDOWS = {
    "sash": (1.0, 1.6, 2.4), "tall": (1.0, 2.0, 2.2), "shutter": (0.9, 1.6, 2.8), "wide": (1.9, 1.2, 3.2),
    "arch": (0.9, 1.7, 2.6), "grid": (1.6, 1.5, 2.5),
}  # fmt: skip


def _rectangle(p: Projection, u0: float, w0: float, u1: float, w1: float, out: float = 0) -> list[Point]:
    return [p(u0, w0, out), p(u0, w1, out), p(u1, w1, out), p(u1, w0, out)]


def _window(view: View, p: Projection, design: Design, u: float, w: float, detailed: bool) -> None:
    wide, high, _ = _WINDOWS[design.window]
    lit = view.light.night and view.uniform() < 0.45
    if detailed:
        if design.window == "shutter":
            view.area(_rectangle(p, u - 0.5, w, u + wide + 0.5, w + high), design.trim, 225)
        else:
            view.area(_rectangle(p, u - 0.15, w - 0.15, u + wide + 0.15, w + high + 0.15), design.trim, 240)
    pane = _rectangle(p, u, w, u + wide, w + high)
    if design.window == "arch":
        pane.insert(2, p(u + wide / 2, w + high + 0.5, 0))
    if lit:
        view.draw.polygon(pane, mix(LIT_WINDOW, view.light.haze, view.air))
        return
    view.area(pane, (66, 80, 96), 200 + int(view.uniform() * 110))
    if detailed and design.window in ("sash", "grid"):
        view.line([p(u, w + high / 2, 0), p(u + wide, w + high / 2, 0)], design.trim)
    if detailed and design.window in ("tall", "grid"):
        view.line([p(u + wide / 2, w, 0), p(u + wide / 2, w + high, 0)], design.trim)


@showing("building")
def facade(view: View, p: Projection, length: float, design: Design, level: int) -> None:
    """Draw a front with its roof.

    Parameters
    ----------
    p : callable
        Pixel of a point of the front: metres along it, metres up, metres behind it.
    length : float
        Metres.
    level : int
        Brightness in 1/256.
    """
    height = STOREY_M * design.storeys + 0.4
    eaves_px = abs(p(0, 0, 0)[1] - p(0, height, 0)[1])
    length_px = abs(p(length, 0, 0)[0] - p(0, 0, 0)[0])
    detailed = eaves_px > 34 * design.storeys and length_px > 40
    _roof(view, p, length, height, design, level)
    view.area(_rectangle(p, 0, 0, length, height), design.wall, level)
    if design.texture in ("brick", "plank", "block") and eaves_px > 60:
        step = {"brick": 0.5, "plank": 0.45, "block": 1.5}[design.texture]
        for index in range(1, int(height / step)):
            view.line([p(0, index * step, 0), p(length, index * step, 0)], design.wall, 1, level * 9 // 10)
    elif design.texture == "concrete":
        for index in range(1, design.storeys + 1):
            view.line([p(0, index * STOREY_M, 0), p(length, index * STOREY_M, 0)], design.wall, 1, level * 8 // 10)
    view.area(_rectangle(p, 0, 0, length, 0.5), design.wall, level * 8 // 10)
    if length_px < 5:
        return
    wide, high, pitch = _WINDOWS[design.window]
    bays = max(1, int((length - 0.4) / pitch)) if length_px > 24 else 1
    pitch = length / bays
    for storey in range(1 if design.shop else 0, design.storeys):
        sill = storey * STOREY_M + (0.9 if high < 1.9 else 0.5)
        door = int(view.uniform() * bays) if storey == 0 else -1
        for bay in range(bays):
            u = bay * pitch + (pitch - wide) / 2
            if bay == door:
                view.area(_rectangle(p, u, 0, u + 1.1, 2.2), design.trim, 200)
            else:
                _window(view, p, design, u, sill, detailed)
        if design.balcony and storey and eaves_px > 40:
            rail = _rectangle(p, 0.3, sill - 0.5, length - 0.3, sill + 0.3, -0.5)
            view.area(rail, mix(design.wall, (90, 90, 92), 120), level)
    if design.shop:
        _shop(view, p, length, design, level, length_px)


def _roof(view: View, p: Projection, length: float, height: float, design: Design, level: int) -> None:
    colour = (236, 240, 246) if view.snow else design.roof_colour
    if design.roof == "flat":
        view.area(_rectangle(p, 0, height, length, height + 0.5), design.wall, level * 17 // 20)
        if length > 6 and design.texture != "plank":
            view.area(
                _rectangle(p, length * 0.6, height + 0.4, length * 0.6 + 1.6, height + 1.8, 2), (96, 104, 112), level
            )
        return
    rise, inset, over = {"gable": (2.8, 0.0, 0.3), "hip": (2.2, 1.8, 0.4), "eaves": (2.3, 1.0, 0.9)}[design.roof]
    outline = [
        p(-over, height - 0.1, -over),
        p(inset, height + rise, 3),
        p(length - inset, height + rise, 3),
        p(length + over, height - 0.1, -over),
    ]
    if design.roof == "eaves":
        outline[1:1] = [p(-over / 2, height + 0.4, 0)]
        outline[-1:-1] = [p(length + over / 2, height + 0.4, 0)]
    view.area(outline, colour, level * 19 // 20 + 16)
    if not view.snow and abs(outline[0][0] - outline[-1][0]) > 60:
        for share in (0.3, 0.55, 0.8):
            view.line(
                [
                    p(inset * share, height + rise * share, 3 * share),
                    p(length - inset * share, height + rise * share, 3 * share),
                ],
                colour,
                1,
                level * 4 // 5,
            )
    if design.texture in ("brick", "plaster", "plank") and length > 5:
        view.area(
            _rectangle(p, length * 0.7, height + rise * 0.6, length * 0.7 + 0.8, height + rise + 1, 2),
            (120, 84, 70),
            level,
        )


def _shop(view: View, p: Projection, length: float, design: Design, level: int, length_px: int) -> None:
    glass: Colour = LIT_WINDOW if view.light.night else (78, 92, 104)
    pane = _rectangle(p, 0.4, 0.3, length - 0.4, 2.1)
    if view.light.night:
        view.draw.polygon(pane, mix(glass, view.light.haze, view.air))
    else:
        view.area(pane, glass, level)
    for share in (0.33, 0.66):
        view.line([p(length * share, 0, 0), p(length * share, 2.1, 0)], design.trim, 2)
    board = _rectangle(p, 0.2, 2.1, length - 0.2, 3.6, -0.2)
    view.area(board, design.sign, level)
    if length_px > 36:
        ink: Colour = (250, 248, 240) if sum(design.sign) < 420 else (40, 36, 44)
        letters(view, p, 0.6, 2.3, length - 0.6, 3.4, design.script, ink)


def letters(view: View, p: Projection, u0: float, w0: float, u1: float, w1: float, script: str, ink: Colour) -> None:
    """Strokes with the look of a writing system, no words."""
    size = w1 - w0
    thick = max(2, abs(p(u0, w0, 0)[1] - p(u0, w1, 0)[1]) // 7)
    count = max(2, int((u1 - u0) / (size * (0.75 if script in ("latin", "cyrillic", "greek") else 1.1))))

    def stroke(*points: tuple[float, float]) -> None:
        view.line([p(u + a * size * 0.7, w0 + b * size, -0.25) for a, b in points], ink, thick)

    for index in range(count):
        u, dice = u0 + index * (u1 - u0) / count, view.uniform()
        if script == "arabic":
            stroke((0, 0.35), (0.5, 0.15), (1, 0.4), (1.3, 0.3))
            if dice < 0.4:
                stroke((0.9, 0.3), (0.9, 1))
            else:
                stroke((0.4, 0.75), (0.6, 0.75))
        elif script in ("devanagari", "bengali", "tibetan"):
            stroke((0, 1), (1.5, 1))
            stroke((0.8, 1), (0.8, 0.1)) if dice < 0.7 else stroke((0.8, 1), (0.4, 0.5), (0.9, 0))
            stroke((0.2, 0.7), (0.5, 0.4), (0.2, 0.2))
        elif script == "han":
            stroke((0, 0.9), (1, 0.9))
            stroke((0, 0.5), (1, 0.5))
            stroke((0.5, 1), (0.5, 0))
            stroke((0, 0.1), (1, 0.1)) if dice < 0.5 else stroke((0.1, 0), (0.5, 0.5), (1, 0))
        elif script == "kana":
            stroke((0.1, 0.85), (0.9, 0.85), (0.4, 0.1)) if dice < 0.5 else stroke((0.2, 0.9), (0.2, 0.2), (0.8, 0.4))
        elif script == "hangul":
            stroke((0, 0.9), (0.5, 0.9), (0.5, 0.5), (0, 0.5), (0, 0.9))
            stroke((0.8, 1), (0.8, 0.4))
            stroke((0.1, 0.2), (0.8, 0.2), (0.8, 0))
        elif script in ("looped", "georgian"):
            stroke((0.2, 0.4), (0, 0.7), (0.4, 0.9), (0.7, 0.5), (0.7, 0), (1, 0.1))
        elif script in ("ethiopic", "hebrew"):
            stroke((0, 0.9), (0.8, 0.9), (0.8, 0))
            stroke((0.1, 0.9), (0.1, 0.1)) if dice < 0.6 else stroke((0.4, 0.4), (0, 0))
        elif script == "cyrillic":
            stroke((0, 0), (0, 0.9), (0.7, 0.9), (0.7, 0)) if dice < 0.5 else stroke(
                (0, 0.9), (0, 0), (0.7, 0.9), (0.7, 0)
            )
        elif dice < 0.35:
            stroke((0, 0), (0, 1))
        elif dice < 0.7:
            stroke((0, 0), (0.35, 0.9), (0.7, 0))
        else:
            stroke((0.7, 0.7), (0, 0.7), (0, 0), (0.7, 0))


# Streets


def strip(view: View, x0: float, x1: float, colour: Colour, level: int = 256, z0: float = 1.5, z1: float = 400) -> None:
    """A band of ground along the road, from `x0` to `x1` metres right of the camera."""
    view.area([view.at(x0, 0, z0), view.at(x0, 0, z1), view.at(x1, 0, z1), view.at(x1, 0, z0)], colour, level)


_VEHICLES = {  # width, height, length in metres
    "car": (1.75, 1.45, 4.2), "wagon": (1.8, 1.5, 4.6), "suv": (1.95, 1.8, 4.6), "pickup": (1.95, 1.8, 5.2),
    "van": (1.95, 2.15, 4.8), "kei": (1.5, 1.75, 3.4), "tuktuk": (1.35, 1.75, 2.7), "moto": (0.6, 1.15, 1.9),
}  # fmt: skip
_TYRE: Colour = (30, 30, 33)
_GLASS: Colour = (58, 70, 84)


@showing("vehicle")
def vehicle(
    view: View, kind: str, x: float, z: float, colour: Colour, roof: Colour, oncoming: bool, plate: Colour
) -> None:
    """A vehicle on a street that leads away, seen from the front when `oncoming`, else from behind."""
    wide, high, _ = _VEHICLES[kind]
    view.shadow(x, z, wide * 0.75)
    (left, ground), (right, top) = view.at(x - wide / 2, 0, z), view.at(x + wide / 2, high, z)
    w, h = right - left, ground - top
    lamp: Colour = (255, 244, 214) if oncoming else (206, 36, 30)
    if kind == "moto":
        view.box(left + w * 0.35, ground - h * 0.45, right - w * 0.35, ground, _TYRE)
        view.box(left + w * 0.2, ground - h * 0.85, right - w * 0.2, ground - h * 0.4, colour)
        view.line([(left, top), (right, top)], _TYRE, w // 8)
        view.draw.rectangle((left + w * 2 // 5, ground - h * 7 // 10, right - w * 2 // 5, ground - h * 6 // 10), lamp)
        return
    for wheel in (left + w * 0.06, right - w * 0.24):
        view.box(wheel, ground - h * 0.2, wheel + w * 0.18, ground, _TYRE)
    roof_inset = w * (0.04 if kind in ("van", "kei", "tuktuk") else 0.14)
    waist = ground - h * (0.42 if kind == "van" else 0.56)
    cabin: Colour = (240, 200, 40) if kind == "tuktuk" else colour
    view.area(
        [(left, int(waist)), (int(left + roof_inset), top), (int(right - roof_inset), top), (right, int(waist))],
        cabin,
        240,
    )
    glass = [
        (int(left + w * 0.1), int(waist)),
        (int(left + roof_inset + w * 0.08), int(top + h * 0.08)),
        (int(right - roof_inset - w * 0.08), int(top + h * 0.08)),
        (int(right - w * 0.1), int(waist)),
    ]
    view.area(glass, _GLASS, 256)
    view.box(left, waist, right, ground - h * 0.14, colour, 256)
    view.box(left, ground - h * 0.26, right, ground - h * 0.14, colour, 190)
    for spot in (left + w * 0.03, right - w * 0.2):
        box = (int(spot), int(waist + h * 0.08), int(spot + w * 0.17), int(waist + h * 0.2))
        view.draw.rectangle(box, lamp if view.light.night else mix(view.shade(lamp), lamp, 128))
        if view.light.night and oncoming:
            view.glow((box[0] + box[2]) // 2, box[1], max(3, w // 5))
    view.box(left + w * 0.36, ground - h * 0.34, left + w * 0.64, ground - h * 0.24, plate)


@showing("vehicle")
def vehicle_aside(view: View, kind: str, x: float, z: float, colour: Colour, roof: Colour, heading: int) -> None:
    """A vehicle that drives across the view, to the right when `heading` is 1."""
    _, high, length = _VEHICLES[kind]
    if kind == "moto":
        high = 1.1
    (left, ground), (right, top) = view.at(x - length / 2, 0, z), view.at(x + length / 2, high, z)
    w, h = right - left, ground - top

    def p(along: float, up: float) -> Point:
        return int((left if heading > 0 else right) + heading * w * along), int(ground - h * up)

    view.shadow(x, z, length * 0.5)
    box = kind in ("van", "kei", "tuktuk")
    if kind == "moto":
        view.area([p(0.1, 0.5), p(0.15, 0.75), p(0.5, 0.7), p(0.7, 0.95), p(0.8, 0.5), p(0.5, 0.3)], colour)
    else:
        front, back = (0.93, 0.02) if box else (0.74, 0.3 if kind in ("car", "pickup") else 0.06)
        view.area(
            [p(back, 0.5), p(back + 0.06, 1), p(front - 0.16, 1), p(front, 0.52)],
            (240, 200, 40) if kind == "tuktuk" else colour,
            236,
        )
        view.area([p(back + 0.06, 0.56), p(back + 0.09, 0.92), p(front - 0.18, 0.92), p(front - 0.06, 0.56)], _GLASS)
        view.line([p((front + back) / 2, 0.56), p((front + back) / 2, 0.92)], colour, 2)
        view.area([p(0, 0.2), p(0, 0.56), p(0.8, 0.58), p(0.98, 0.48), p(1, 0.2)], colour)
        view.area([p(0, 0.2), p(0, 0.3), p(1, 0.3), p(1, 0.2)], colour, 196)
        view.draw.rectangle(
            _box(
                p(0, 0.5),
                p(0.04, 0.4),
            ),
            view.shade((206, 36, 30)),
        )
        view.draw.rectangle(
            _box(
                p(0.95, 0.48),
                p(0.99, 0.38),
            ),
            (255, 244, 214),
        )
    for along in (0.2, 0.8):
        cx, cy = p(along, 0.2)
        view.blob(cx, cy, h * 0.22, h * 0.22, _TYRE)
        view.blob(cx, cy, h * 0.1, h * 0.1, (140, 142, 146))


def _box(a: Point, b: Point) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the box that two corners span."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


@showing("street furniture")
def warning_sign(view: View, kind: str, x: float, z: float) -> None:
    """A warning sign on a pole."""
    foot, (cx, cy) = view.at(x, 0, z), view.at(x, 2.5, z)
    r = max(2, int(view.focal * 0.62 / z))
    view.line([foot, (cx, cy)], (150, 154, 158), max(1, r // 6))
    if kind == "yellow diamond":
        outer, inner = r, r * 5 // 6
        view.area([(cx - outer, cy), (cx, cy - outer), (cx + outer, cy), (cx, cy + outer)], (30, 30, 30))
        view.area([(cx - inner, cy), (cx, cy - inner), (cx + inner, cy), (cx, cy + inner)], (246, 196, 30))
        view.line([(cx, cy + r // 3), (cx, cy - r // 6), (cx + r // 4, cy - r // 3)], (30, 30, 30), r // 5)
        return
    field: Colour = (246, 200, 40) if kind == "yellow triangle" else (250, 250, 248)
    view.area([(cx - r, cy + r * 3 // 4), (cx, cy - r), (cx + r, cy + r * 3 // 4)], (206, 34, 36))
    view.area([(cx - r * 3 // 5, cy + r // 2), (cx, cy - r // 2), (cx + r * 3 // 5, cy + r // 2)], field)
    view.line([(cx, cy + r // 3), (cx, cy - r // 6)], (30, 30, 30), r // 6)


@showing("street furniture")
def post_box(view: View, x: float, z: float, colour: Colour) -> None:
    """A box for letters on the pavement."""
    (left, ground), (right, top) = view.at(x - 0.3, 0, z), view.at(x + 0.3, 1.5, z)
    view.shadow(x, z, 0.4)
    view.box(left, top, right, ground, colour, 240)
    view.blob((left + right) / 2, top, (right - left) / 2, (right - left) / 4, colour, 262)
    view.box(left, ground - (ground - top) // 8, right, ground, (34, 34, 36))
    view.line(
        [
            (left + (right - left) // 5, top + (ground - top) // 4),
            (right - (right - left) // 5, top + (ground - top) // 4),
        ],
        (24, 24, 26),
        2,
    )


@showing("street furniture")
def lamp_post(view: View, x: float, z: float, reach: float) -> None:
    """A street lamp whose arm reaches over the road."""
    foot, top, tip = view.at(x, 0, z), view.at(x, 6.5, z), view.at(x + reach, 6.8, z)
    width = int(view.focal * 0.13 / z)
    view.line([foot, top, tip], (96, 102, 106), width)
    if view.light.night:
        view.glow(*tip, max(4, int(view.focal * 1.3 / z)))


@showing("street furniture")
def utility_line(view: View, x: float, wires: int) -> None:
    """Poles along the road with overhead wires, drawn from far to near."""
    wood: Colour = (104, 88, 72) if wires < 6 else (132, 132, 130)
    heights = [7.6 - 0.32 * (index // 2) for index in range(wires)]
    for index, up in enumerate(heights):
        dx = 0.7 if index % 2 else -0.7
        near, far = view.at(x + dx, up - 0.5, 3.2), view.at(x + dx, up, 90)
        view.line([near, far], (44, 44, 48))
    for z in (70, 46, 24, 9):
        view.go(z)
        width = int(view.focal * 0.24 / z)
        view.line([view.at(x, 0, z), view.at(x, 8.2, z)], wood, width)
        for up in (7.6, 6.9):
            view.line([view.at(x - 1, up, z), view.at(x + 1, up, z)], wood, max(1, width * 2 // 3))
