"""How the embedded world looks: colours, buildings and plants by region and climate.

Where a look is well known (white walls in the Aegean, red brick in the Low Countries, blue-grey slate in France,
turf-red laterite in the tropics) the tables follow it; where it is not, they are a stylisation that keeps
neighbouring regions apart.
"""

from dataclasses import dataclass

from helpers.toy_earth_facts import Place, codes

Colour = tuple[int, int, int]


def colours(text: str) -> tuple[Colour, ...]:
    """Parse hexadecimal colours.

    Examples
    --------
    >>> colours("ff8000 102030")
    ((255, 128, 0), (16, 32, 48))
    """
    return tuple((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in text.split())


@dataclass(frozen=True)
class Style:
    """What people build and drive in a region."""

    walls: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    roof: str  # gable, hip, flat, eaves
    storeys: tuple[int, int]  # of a house at the edge of town, of a house in the centre
    window: str  # sash, tall, shutter, wide, arch, grid
    texture: str  # brick, plank, plaster, concrete, block
    trim: Colour  # window frames, shutters, doors
    signs: tuple[Colour, ...]
    vehicles: tuple[str, ...]
    wires: int  # overhead wires along a street
    fence: str  # picket, wall, hedge, rail
    post: Colour  # band of the roadside posts


def _style(
    walls: str, roofs: str, build: str, storeys: tuple[int, int], trim: str, signs: str, vehicles: str, wires: int,
    fence: str, post: str,
) -> Style:  # fmt: skip
    roof, window, texture = build.split()
    return Style(
        colours(walls), colours(roofs), roof, storeys, window, texture, colours(trim)[0], colours(signs),
        tuple(vehicles.split()), wires, fence, colours(post)[0],
    )  # fmt: skip


STYLES = {
    "north_america": _style("e6e2d8 a9b7bd c8b493 94503e dcd3b6", "4c4a4b 6b5a4c 5b6068", "gable sash plank", (1, 6),
                            "f4f3ee", "1d5c9e b8322a 2d6a45", "pickup car car suv", 2, "picket", "f0f0f0"),
    "mesoamerica": _style("e59a3c d9503f 3f93a5 efcf5a d987a0 f0e3c4", "b5653f a3907c", "flat wide plaster", (1, 3),
                          "6b3d28", "d92f3a f2c230 1f7a52", "car pickup van", 4, "wall", "f2c230"),
    "caribbean": _style("7cc6c3 f3d46b f09a8c 9ccb86 f5efdf b7a2d4", "b54b3c 8fa3a8", "hip shutter plank", (1, 3),
                        "ffffff", "e0453a 1e88a8 f4c53a", "car suv van", 4, "picket", "ffffff"),
    "andes": _style("b7694a c58358 d8b98f a65a45 e8ddc6", "a8553a 8e8f90 b0a79b", "flat grid block", (2, 6),
                    "3d5f8a", "e8b92c c8362e 2a6bb0", "van car pickup", 5, "wall", "f2c230"),
    "brazil": _style("f0ead8 e8b65a 7fb59a d98b62 a9c4d6", "b8623c a04f34 c07a4e", "hip wide plaster", (1, 8),
                     "35694b", "127a3c f0c52b 1c4f96", "car car moto", 4, "wall", "f5d000"),
    "southern_cone": _style("d9d2c4 c9a78a e9e4d8 b8825f", "77695f 8a4a38 9a9a98", "flat shutter plaster", (1, 6),
                            "4a5a52", "2f6fb3 e9e9e9 c23b34", "car pickup car", 3, "wall", "d43a2f"),
    "british_isles": _style("96523e 8a4636 a8694c d9cdb5 b9a88c", "4f4a50 5c5560 6e4a40", "gable sash brick", (2, 4),
                            "f7f7f2", "153b6b 1f5a3c 8c1d2c", "car car van", 0, "hedge", "d43a2f"),
    "nordic": _style("9a2f26 8d2a24 d9a846 e9e6dc 5f6f78 c7b37a", "33363a 5a3a34 2b2d30", "gable sash plank", (1, 5),
                     "ffffff", "1f4f8f e9c23a 2e6b4f", "wagon car suv", 0, "picket", "f0a02a"),
    "low_countries": _style("7c3b2e 8e4a37 a35a42 6b352b c9b79c", "b1512f 4a4348 8c4a33", "gable tall brick", (2, 4),
                            "f5f5f0", "e8731f 24508c 2f7a4a", "wagon car van", 0, "hedge", "e04a2a"),
    "france": _style("ddd0b4 e6dcc6 cfc0a2 d8c9ae c4b79f", "5b6673 6a7482 8c5a44", "hip shutter plaster", (2, 6),
                     "8fa6b8", "1f5f55 9c2f3a 2a3f7a", "car wagon van", 0, "wall", "d43a2f"),
    "alpine": _style("efe6cf e8c98f d9dde0 e4b48a c9d1b4", "a5472e 8c3d2c 6a4a40", "gable sash plaster", (2, 5),
                     "7a4a2c", "d23a2a f0c800 2a4f8c", "wagon wagon car", 0, "hedge", "1c1c1c"),
    "iberia": _style("f4efe4 f2e6c8 e2b77a f0ebe2 d4a074", "c0683e b5603a cb7a4c", "hip shutter plaster", (2, 6),
                     "3f6b4a", "d8a21f b12c2c 2f5f9c", "car car van", 1, "wall", "f2c230"),
    "italy": _style("dca25e c97f4e e6c386 b8614a e3d2a8", "b05c3a a5533a bd6c46", "hip shutter plaster", (2, 5),
                    "45633f", "2a6b3f a8322c 35506b", "car moto car", 1, "wall", "1c1c1c"),
    "balkans": _style("e8dcc0 d9b48c c96f4e e2d6c8 b9c2a6", "c2552f b04a2c 9a4a34", "hip wide block", (2, 6),
                      "6a4430", "2f6aa8 d23f2f e2b93a", "car wagon car", 3, "rail", "1c1c1c"),
    "aegean": _style("fbfaf6 f6f3ea f9f8f5 efe3cc f4f1ea", "f2efe8 e4e0d4 c0764f", "flat shutter plaster", (1, 4),
                     "2667b3", "2667b3 f0ece2 3f8f9c", "car moto van", 2, "wall", "d43a2f"),
    "baltic": _style("d9c79a c2b59c b5653f cfd6c4 e2a86a a7a49a", "7a3a30 8c4634 5a5a5c", "gable grid plaster", (1, 7),
                     "ece6d8", "c22f35 2f5fa0 e8c53a", "car wagon van", 1, "rail", "c2352b"),
    "east_slavic": _style("b9b4a8 c9c3b5 a8a39a 8f9aa0 5f8a96", "8a8d90 5c7f6a 7a4a3c", "gable grid concrete", (1, 9),
                          "2f6fa8", "c22f2f 2a5fae e6e2d6", "car car van", 2, "picket", "1c1c1c"),
    "anatolia": _style("e6c9a0 d9a58a c9d0c2 e9dfc8 c7b08a", "c0603a b3573a d0764a", "hip wide plaster", (2, 7),
                       "a8462f", "d2322d 1f7a8c f0c93a", "van car car", 2, "wall", "d43a2f"),
    "levant": _style("dcc9a0 d2bc92 e4d6b4 c9b48c cdb38a", "c9b896 d8caa8", "flat arch block", (2, 5),
                     "5f8aa0", "2d7a5a c2382f 2f5f9c", "car car van", 3, "wall", "f2c230"),
    "gulf": _style("e9dcc0 f0e6d0 d8c4a0 eee9de cbb08a", "dccbaa e6dac0", "flat arch concrete", (2, 10),
                   "4a7f9c", "1f6f4a 204f7c b8863a", "suv suv car", 0, "wall", "f2c230"),
    "maghreb": _style("c9744f e6d2ae f2ece0 d98f62 e0bd8c", "c98a5f e3d4b4", "flat arch plaster", (2, 4),
                      "2f7fa8", "1f7a4a c9352e e2a63a", "car van moto", 2, "wall", "d43a2f"),
    "nile": _style("b98a62 a67b58 c79a70 d2b48a 9c7254", "b08a64 c0a078", "flat grid brick", (3, 9),
                   "6b8a5a", "d43a2f 2d7a3f e8c23a", "van tuktuk car", 4, "wall", "f2c230"),
    "central_asia": _style("e2dccb d0b48a c2a078 dfe6e4 b59068", "8fa0a8 7d8f9a a8a49a", "hip grid plaster", (1, 5),
                           "3a86b0", "2f9ab0 c9302c e8c440", "car van pickup", 2, "wall", "c2352b"),
    "west_africa": _style("d9a05a c97a45 e8cf94 b5623c 8fb08a e2b0a0", "a8826a 9a6a4f b0a898", "hip wide block", (1, 3),
                          "2f7a5a", "f2b51f d2352a 1f8a4a", "van moto tuktuk", 3, "wall", "d43a2f"),
    "central_africa": _style("a8623f bf7a4c d2a873 8f5238 c9b88a", "8a7a6c a39a90 7a5a48", "gable wide block", (1, 3),
                             "3f6f8c", "1f7ab0 f0c52b c22f2a", "van moto pickup", 2, "rail", "d43a2f"),
    "east_africa": _style("c9966a 7fa8b8 e2c894 b8704a a9b88c", "8fa3ac a5523c b0b5b5", "gable wide block", (1, 4),
                          "2f5f8a", "e0342c 1f8a3c 1f5fa8", "van moto pickup", 3, "hedge", "d43a2f"),
    "southern_africa": _style("e8dcc2 c9a07a d8c8b0 b07a58 efe9dc", "8c8a88 a3553c 6f7a70", "gable wide brick", (1, 4),
                              "7a4a30", "c9302c f0c230 1f6a3c", "pickup van car", 1, "wall", "d43a2f"),
    "south_asia": _style("e6b0a0 b5c99a f0d58a a8c4d9 d9a06a e8e0d0", "b0a090 c2b6a4", "flat grid concrete", (2, 5),
                         "8a4a6a", "e0252c f0b81f 1f7a3c", "tuktuk moto car", 6, "wall", "f2c230"),
    "china": _style("c9c4ba d9cfc2 b5aca0 c2a590 dfe0dc a9aeb2", "7a7d80 8c4a3c 5f7a8c", "flat grid concrete", (2, 14),
                    "5a7f8c", "d2201f c81e1e f0c52b", "car van moto", 1, "rail", "d43a2f"),
    "japan": _style("cfc9be b8b0a4 e4e0d6 8a7a68 d6cdbd", "3f4650 4a5560 5c4a44", "eaves grid plaster", (2, 6),
                    "4f463e", "f5f5f0 d2302c 2a4f9c", "kei kei van", 7, "wall", "f28a1f"),
    "korea": _style("a8583f b56a4c cfc8bc 97503c d9d4cc", "4a7a8c 5a5f66 3f6a5a", "eaves wide brick", (2, 12),
                    "6f8f9c", "f0c52b 2a5fb0 d23a4a", "car suv van", 4, "wall", "f2c230"),
    "indochina": _style("e2d2a8 a9c9b8 f0e0b0 d9b08a c4d2d8", "b5482f a83f2f 3f7a6a", "eaves shutter plaster", (1, 4),
                        "7a5230", "d2201f f0c52b 2a62b0", "moto tuktuk pickup", 8, "rail", "f5f5f0"),
    "maritime_asia": _style("f0e6d2 c9d9b0 e8c9a0 b8d2d8 d9b0a0", "c0562f b04a2c 7f8a8c", "hip wide plaster", (1, 6),
                            "4a6a4a", "e0352c f0c92c 1f7a5f", "moto car van", 5, "wall", "d43a2f"),
    "australia": _style("b5674a c98f6a e2dccc d2c2a6 8f9ca0", "a3503c 6f7478 8a9498", "hip wide brick", (1, 3),
                        "efeee8", "f0c52b 1f6a4a 2a5fa0", "pickup suv car", 1, "picket", "d43a2f"),
    "pacific": _style("8ec9c0 f2e6c0 e0a48a b5d29a f5f2ea", "8c9a9c a8503c b59a6a", "gable shutter plank", (1, 2),
                      "ffffff", "1f8aa8 e8453a f0c83a", "pickup van car", 1, "rail", "f5f5f0"),
}  # fmt: skip


@dataclass(frozen=True)
class Nature:
    """What grows, and on what, in a climate."""

    trees: tuple[str, ...]
    lush: Colour  # ground in the wet or warm season
    parched: Colour  # ground in the dry or cold season
    soil: Colour
    leaves: Colour
    cover: int  # share of green ground, in 1/256
    sky: tuple[int, int, int]  # shares of clear, of broken clouds, of overcast; the rest is rain


def _nature(trees: str, ground: str, cover: int, sky: tuple[int, int, int]) -> Nature:
    lush, parched, soil, leaves = colours(ground)
    return Nature(tuple(trees.split()), lush, parched, soil, leaves, cover, sky)


_NATURE = {
    "Af": _nature("palm jungle jungle banana", "4d8f38 6f9a45 a3583a 2f6b2c", 250, (20, 45, 20)),
    "Am": _nature("palm jungle banana palm", "5a963c 8a9a4a a8603c 3a7430", 245, (30, 45, 15)),
    "Aw": _nature("broadleaf palm acacia", "7f9f45 c0aa62 b8683f 56812f", 215, (45, 38, 10)),
    "As": _nature("palm broadleaf shrub", "7f9f48 b8a25c b0704a 568238", 205, (45, 38, 10)),
    "BSh": _nature("acacia shrub shrub", "a8a45a ccb478 c48a58 6f8040", 140, (60, 30, 7)),
    "BSk": _nature("shrub poplar", "a3a865 c6b582 b8a07a 7d8a58", 165, (50, 35, 10)),
    "BWh": _nature("palm shrub", "d6bb88 dcbd8a dbb681 7f8a4f", 25, (78, 17, 3)),
    "BWk": _nature("shrub poplar", "bcae8e c2b294 bba98a 8a8c64", 50, (62, 28, 7)),
    "Cfa": _nature("broadleaf broadleaf pine", "6f9c48 a8a468 a87a58 3f7434", 240, (38, 37, 15)),
    "Cfb": _nature("broadleaf broadleaf poplar", "5f9a44 7c9a58 8a7058 3d7038", 250, (22, 40, 26)),
    "Cfc": _nature("shrub birch", "7f9a5a 94946a 6f665c 5f7a48", 235, (12, 38, 32)),
    "Csa": _nature("cypress stonepine olive", "8f9f58 c2ac70 c09a70 5f7a48", 190, (62, 28, 7)),
    "Csb": _nature("stonepine olive broadleaf", "84a052 b8a868 a8845f 567a44", 215, (48, 34, 12)),
    "Csc": _nature("shrub conifer", "94a066 b0a474 9a8468 6a7f50", 190, (40, 38, 14)),
    "Cwa": _nature("broadleaf bamboo banana", "74a046 b2a666 b07c54 467a38", 230, (40, 34, 16)),
    "Cwb": _nature("eucalyptus pine agave", "7fa050 b5a768 a86a48 567c44", 220, (38, 40, 14)),
    "Cwc": _nature("agave shrub", "a5a468 bca878 94785c 7a8454", 180, (45, 38, 12)),
    "Dfa": _nature("broadleaf broadleaf conifer", "6f9a48 a89c6a 75604c 48783a", 240, (38, 36, 17)),
    "Dfb": _nature("birch broadleaf conifer", "6c984c 9c946a 6f6050 427042", 245, (28, 38, 23)),
    "Dfc": _nature("conifer conifer birch", "748f54 9a906c 6a6258 335c42", 240, (25, 38, 25)),
    "Dfd": _nature("larch conifer birch", "7f905a a0936c 6c655c 5c7a48", 230, (30, 40, 20)),
    "Dsa": _nature("poplar shrub", "a0a260 c2ae7a b09470 748548", 170, (58, 30, 8)),
    "Dsb": _nature("poplar conifer shrub", "98a25e bcaa78 a48c6c 64804c", 180, (50, 34, 11)),
    "Dwa": _nature("pine poplar broadleaf", "7a9a4e b8a274 a08a68 4f7a42", 215, (48, 32, 13)),
    "Dwb": _nature("birch larch pine", "74964e aa9c70 857460 4c763f", 230, (42, 35, 15)),
    "Dwc": _nature("larch conifer birch", "80945a a69a74 7a6f62 54774a", 225, (40, 37, 15)),
    "ET": _nature("tussock", "93955f a08f68 857c70 84884f", 175, (25, 38, 25)),
    "EF": _nature("none", "e8eef3 e8eef3 dde5ec dde5ec", 0, (40, 35, 20)),
}  # fmt: skip
_NEAREST = {"Dsc": "Dsb", "Dsd": "Dsb", "Dwd": "Dwc"}
_CONTINENT_TREES = {
    "Aw": {"Africa": "acacia baobab acacia", "Asia": "palm banana broadleaf", "Oceania": "eucalyptus palm eucalyptus",
           "North America": "broadleaf palm broadleaf"},
    "BSh": {"Oceania": "eucalyptus shrub", "North America": "cactus shrub agave", "Asia": "acacia palm shrub"},
    "BSk": {"North America": "shrub conifer", "Oceania": "eucalyptus shrub", "South America": "cactus shrub poplar",
            "Europe": "olive shrub cypress"},
    "BWh": {"North America": "cactus cactus shrub", "Oceania": "shrub eucalyptus"},
    "BWk": {"South America": "cactus shrub"},
    "Cfa": {"Asia": "broadleaf bamboo pine", "South America": "araucaria broadleaf palm",
            "Oceania": "eucalyptus palm eucalyptus", "Europe": "poplar cypress broadleaf"},
    "Cfb": {"Oceania": "eucalyptus broadleaf treefern", "Africa": "eucalyptus shrub",
            "South America": "araucaria pine broadleaf"},
    "Csa": {"North America": "palm broadleaf shrub", "Oceania": "eucalyptus olive", "Asia": "cypress olive poplar"},
    "Csb": {"North America": "conifer conifer palm", "South America": "poplar eucalyptus araucaria",
            "Oceania": "eucalyptus stonepine", "Africa": "stonepine agave"},
    "Cwa": {"Africa": "acacia broadleaf", "South America": "palm broadleaf"},
    "Cwb": {"Asia": "pine bamboo broadleaf"},
    "Dfa": {"Asia": "poplar birch"},
}  # fmt: skip


def nature(place: Place) -> tuple[Nature, tuple[str, ...]]:
    """Ground and plants of a place; the plants of one climate differ between continents."""
    kind = _NEAREST.get(place.climate, place.climate)
    trees = _CONTINENT_TREES.get(kind, {}).get(place.continent)
    return _NATURE[kind], tuple(trees.split()) if trees else _NATURE[kind].trees


RED_DESERT: Colour = (190, 98, 62)  # iron-rich sand of inner Australia

# Mean temperature of a year and how far summer and winter lie from it, in degrees Celsius, typical for the class.
TEMPERATURE_C = {
    "Af": (26, 1), "Am": (26, 2), "Aw": (25, 3), "As": (26, 2),
    "BSh": (23, 8), "BSk": (11, 12), "BWh": (25, 9), "BWk": (10, 14),
    "Cfa": (15, 10), "Cfb": (10, 7), "Cfc": (6, 5), "Csa": (16, 9), "Csb": (13, 7), "Csc": (7, 6),
    "Cwa": (19, 8), "Cwb": (15, 4), "Cwc": (8, 4),
    "Dfa": (9, 14), "Dfb": (6, 14), "Dfc": (-1, 17), "Dfd": (-8, 25), "Dsa": (9, 14), "Dsb": (6, 13), "Dsc": (0, 14),
    "Dsd": (-6, 20), "Dwa": (9, 16), "Dwb": (4, 17), "Dwc": (-2, 19), "Dwd": (-9, 25),
    "ET": (-4, 9), "EF": (-20, 10),
}  # fmt: skip

# Share of roads outside towns that have no asphalt, in per cent; 8 elsewhere.
UNPAVED = {
    "central_africa": 65, "west_africa": 50, "east_africa": 50, "southern_africa": 30, "nile": 30, "pacific": 35,
    "andes": 30, "brazil": 25, "mesoamerica": 20, "caribbean": 20, "south_asia": 25, "central_asia": 25,
    "indochina": 25, "maritime_asia": 15,
}  # fmt: skip


def _by_country(paints: dict[str, str]) -> dict[str, tuple[Colour, ...]]:
    return {code: colours(paint) for paint, countries in paints.items() for code in codes(countries)}


# Pillar and post boxes; none where the table is silent.
POST_BOX = _by_country({
    "c8202a": "GB IT JP IN AU NZ PL PT KR SG MY TH DK NO HU BD LK PK EG ZA KE NG GH BE AR CL CA IL",
    "f2c21e": "DE FR ES AT CH SE GR TR UA BR BG HR SI RS RO LU IR MA DZ TN VN", "2452a4": "US RU BY KZ UZ",
    "1f7a48": "CN IE HK TW", "ee7a1c": "CZ SK FI ID NL",
})  # fmt: skip

# Body and roof of a taxi, where one look is common in a country.
TAXI = _by_country({
    "f4c20c f4c20c": "US CO EC TR GR RU BR SN CM TG BJ JM TW UA BG RO HU IQ SY GN", "1c1c20 1c1c20": "GB",
    "1e1e22 f4c20c": "IN AR PK", "ece4c8 ece4c8": "DE AT QA OM", "e65ca8 e65ca8": "TH", "2a4f9e 2a4f9e": "ID BO",
    "c4202c c4202c": "MY HK CU MA", "2a8a52 2a8a52": "VN BD UZ", "1d7a86 d8d8d4": "CN", "e87a1c e87a1c": "CI KR ML",
    "efefec efefec": "PH KE ET UG TZ NG ZA FR IT ES SA", "f2f2ee c4202c": "AE", "1f2f3a 1f2f3a": "JP",
    "d63a8c f2f2ee": "MX",
    "6a2a5c 6a2a5c": "SE DK", "f08a1e 1c1c20": "GH CL", "f0f0ec 2a62b0": "IR KW LY",
})  # fmt: skip

YELLOW_PLATES = codes("GB NL LU IL CO HK LK")  # at the back
BLUE_PLATES = codes("CN")
BLACK_PLATES = codes("MY SG MO")
