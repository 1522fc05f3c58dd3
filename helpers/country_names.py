"""Code of the country that a name means, in many languages and spellings.

A name is looked up in three steps: a table of aliases that people decided on, each with its reason; the names of
Natural Earth in 26 languages, with or without the form of state; and what is spelt nearly like one of those names.
Codes are those of :mod:`helpers.places`: ISO 3166-1 alpha-2, Natural Earth's three letters where ISO has none. A
territory that Natural Earth draws as a part of another country has that country's code, so that a name and a coordinate
there say the same.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel

from helpers import places

_WORLD = Path(__file__).resolve().parent / "world"
_MIN_LETTERS = 4  # of a name that may be misspelt: below, one letter makes another country
_LONGEST = 100  # letters; what is longer is a text, and costs much to compare
_CUTOFF = 90.0  # per cent
_MOST_SLIPS = 2  # letters too many or missing, or two long names with one long word in common would be alike
_MARGIN = 5.0  # per cent by which the second-best country must be less similar
_SUGGESTED_FROM = 60.0  # per cent
_NAMES_AT_ONCE = 1000

# Of ISO, for what is a part of another country on the map; and the World Bank's for Kosovo.
_CODES = {
    **dict.fromkeys(("GF", "GUF", "GP", "GLP", "MQ", "MTQ", "RE", "REU", "YT", "MYT"), "FR"),
    **dict.fromkeys(("BQ", "BES"), "NL"),
    **dict.fromkeys(("BV", "BVT", "SJ", "SJM"), "NO"),
    **dict.fromkeys(("CC", "CCK", "CX", "CXR"), "AU"),
    **dict.fromkeys(("TK", "TKL"), "NZ"),
    "XKX": "XK",
}
_LITTLE_WORDS = frozenset(("the", "of", "and", "la"))
_ABBREVIATIONS = {"st": "saint"}
# What a country calls its form of state, in English: it tells few countries apart, and drowns what does. Without
# "kingdom" and "states", which would leave the United ones with nothing.
_FORMS_OF_STATE = {
    **{
        form: form
        for form in ("bolivarian", "commonwealth", "islamic", "plurinational", "principality", "socialist", "sultanate")
    },
    **dict.fromkeys(("republic", "rep", "republica", "republique", "republik", "repubblica", "republiek"), "republic"),
    **dict.fromkeys(("democratic", "dem", "democratica", "democratique", "demokratische"), "democratic"),
    **dict.fromkeys(("peoples", "people", "popular", "populaire", "popolare"), "peoples"),
    **dict.fromkeys(("volksrepublik", "volksrepubliek"), "peoples republic"),
    **dict.fromkeys(("federal", "federated", "federation", "federative", "federativa"), "federal"),
    "bundesrepublik": "federal republic",
    "territory": "territory",
    "union": "union",
}
_FORMS = frozenset(" ".join(_FORMS_OF_STATE.values()).split())
# "Of" in other languages. Elsewhere than after a form of state they can be parts of a name: "Dél-" is Hungarian for
# South.
_PARTICLES = frozenset(("de", "del", "della", "di", "do", "da", "du"))
_LETTERS = str.maketrans({"\u0131": "i", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "æ": "ae", "œ": "oe"})
_ACCENTS = re.compile("[\u0300-\u036f]")  # of Latin, Greek and Cyrillic; those of other scripts are vowels
# The point, and what serves as an apostrophe.
_DROPPED = re.compile("[.'`\u00b4\u02b9\u02bb\u02bc\u2018\u2019]")
_BETWEEN_INITIALS = re.compile(r"(?<=\b[a-z]) (?=[a-z]\b)")


class _Lookup(NamedTuple):
    codes: dict[str, str]
    """Code of each code in capitals."""
    aliases: dict[str, tuple[str, str]]
    """Code and spelling of each alias, by `key`."""
    exact: dict[str, tuple[str, str]]
    """Code and spelling of each name."""
    forms: dict[str, set[str]]
    """Forms of state in the names of each country."""
    divided: set[str]
    """Countries whose names differ from another's by the form of state alone."""
    spelt: list[str]
    """What a misspelt name is compared with, sorted by code."""
    names: list[str]
    """The names that those are spellings of."""
    may_match: NDArray[np.bool_]
    """Whether each of them is a country's own name: aliases are parts of countries and states of the past too."""
    letters: NDArray[np.int64]
    """How many letters each of them has without its form of state."""
    starts: list[int]
    """Where in `spelt` each country starts."""
    countries: list[str]
    """Code of each of them."""


def code(name: str) -> str:
    """Code of the country that `name` means, ``""`` where that is nobody's or not clear.

    Examples
    --------
    >>> code("Deutschland"), code("Korea, Republic of"), code("Unted Kingdom"), code("Atlantis")
    ('DE', 'KR', 'GB', '')
    """
    return codes([name])[0]


def codes(names: Iterable[str]) -> list[str]:
    """Code of the country that each name means, ``""`` where there is none; see `matched`.

    A name that occurs often is looked up once.

    Examples
    --------
    >>> codes(["Niger", "Nigeria", "Nigera"])
    ['NE', 'NG', '']
    """
    column = names if isinstance(names, pd.Series) else pd.Series(list(names), dtype=object)
    number, different = pd.factorize(column)
    found = np.array([*matched(different)["code"], ""], dtype=object)  # the last is for -1, a missing name
    return found[number].tolist()


def matched(names: Iterable[str]) -> pd.DataFrame:
    """How each name is understood, so that a person can check it.

    Parameters
    ----------
    names : iterable of str
        In any of the 26 languages of Natural Earth; ISO's and Natural Earth's codes are names too, in capitals.

    Returns
    -------
    DataFrame
        A row for each name: ``name``, its ``code`` (``""`` where unknown), ``how`` (``alias``, ``exact``, ``fuzzy`` or
        ``unknown``) and the name ``matched``, ``""`` where unknown.

    Notes
    -----
    Case, accents, punctuation, the order of words and "the", "of", "and", "la" do not matter; where no name is the
    same, the form of state does not either ("Republic of Nigeria" is Nigeria), unless it is one that the country never
    had ("the German Democratic Republic") or that tells it from another (the Congos, the Koreas). A fuzzy match is one
    with a country's own name; what is nearer to an alias, such as that of a part of a country, has none. It needs four
    letters or more, two slips at most (a letter too many or missing), a similarity (1 - slips / letters of both names,
    without their forms of state) of 90 % or more, and any other country to be 5 points less similar: "Nigera" is as
    near to Niger as to Nigeria, and so is neither.

    Examples
    --------
    >>> print(matched(["Burma", "GERMANY", "Phillipines"]).to_string(index=False))
           name code   how     matched
          Burma   MM alias       Burma
        GERMANY   DE exact     Germany
    Phillipines   PH fuzzy Philippines
    """
    names = [name if isinstance(name, str) else "" for name in names]
    rows = [_looked_up(name) for name in names]
    open_ones = [row for row, (_, how, _) in enumerate(rows) if how == "unknown" and _may_be_misspelt(names[row])]
    for start in range(0, len(open_ones), _NAMES_AT_ONCE):
        some = open_ones[start : start + _NAMES_AT_ONCE]
        for row, found in zip(some, _fuzzy([names[row] for row in some]), strict=True):
            rows[row] = found
    table = pd.DataFrame(rows, columns=["code", "how", "matched"], dtype=object)
    table.insert(0, "name", pd.Series(names, dtype=object))
    return table


def nearest(name: str) -> str:
    """English name of the country that is spelt most like `name`, for errors; ``""`` where none is at all like it.

    Examples
    --------
    >>> nearest("Slovania"), nearest("Jermany"), nearest("xyzzy")
    ('Slovenia', 'Germany', '')
    """
    lookup = _lookup()
    found = process.extractOne(_core(name[:_LONGEST]), lookup.spelt, scorer=fuzz.ratio, score_cutoff=_SUGGESTED_FROM)
    country = lookup.countries[np.searchsorted(lookup.starts, found[2], side="right") - 1] if found else ""
    return str(places.countries()["name"][country]) if country else ""


def key(name: str) -> str:
    """What two spellings of one name have in common.

    Examples
    --------
    >>> key("Côte d'Ivoire"), key("Korea, Republic of"), key("THE REPUBLIC OF KOREA")
    ('cote divoire', 'korea republic', 'korea republic')
    """
    return " ".join(sorted(_words(name)))


def _words(name: str) -> list[str]:
    text = name.casefold().replace("&", " and ")
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text))).translate(_LETTERS)
    # In a very short name the accent tells: "Úc" is Australia in Vietnamese, "uc" is nothing.
    kept = plain if len(plain) >= _MIN_LETTERS else unicodedata.normalize("NFC", text)
    spaced = "".join(
        letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else " "
        for letter in _DROPPED.sub("", kept)
    )
    words = _BETWEEN_INITIALS.sub("", " ".join(spaced.split())).split()
    words = " ".join([_ABBREVIATIONS.get(word) or _FORMS_OF_STATE.get(word, word) for word in words]).split()
    kept_words, after_form = [], False
    for word in words:
        after_form = word in _FORMS or (after_form and word in _PARTICLES | _LITTLE_WORDS)
        if word not in _LITTLE_WORDS and not (after_form and word in _PARTICLES):
            kept_words.append(word)
    return kept_words or words


def _core(name: str) -> str:
    """A name without its form of state, its words in their order."""
    words = _words(name)
    return " ".join([word for word in words if word not in _FORMS] or words)


def _sorted(text: str) -> str:
    return " ".join(sorted(text.split()))


def _looked_up(name: str) -> tuple[str, str, str]:
    """Code, how it was found and the name that was found."""
    lookup = _lookup()
    name = name.strip()[: _LONGEST + 1]
    if name in lookup.codes:
        return lookup.codes[name], "exact", name
    core = _sorted(_core(name))
    for how, table, spelling in (
        ("alias", lookup.aliases, key(name)),
        ("exact", lookup.exact, key(name)),
        ("alias", lookup.aliases, core),
        ("exact", lookup.exact, core),
    ):
        if spelling in table:
            found, matching = table[spelling]
            known = found and (spelling == key(name) or _may_call_itself(found, name))
            return (found, how, matching) if known else ("", "unknown", "")
    return "", "unknown", ""


def _may_call_itself(code: str, name: str) -> bool:
    """Whether `name` without its form of state still tells the country from all others, those of the past included."""
    forms = _FORMS.intersection(_words(name))
    return not forms or (code not in _lookup().divided and forms <= _lookup().forms[code] | {"republic"})


def _may_be_misspelt(name: str) -> bool:
    # What the aliases know to be ambiguous stays so.
    return len(name) <= _LONGEST and len(_core(name)) >= _MIN_LETTERS and key(name) not in _lookup().aliases


def _fuzzy(names: list[str]) -> list[tuple[str, str, str]]:
    lookup = _lookup()
    cores = [_core(name) for name in names]
    whole_slips = _slips([" ".join(_words(name)) for name in names], lookup.spelt)
    slips = np.minimum(whole_slips, _slips(cores, lookup.spelt))
    letters = np.array([len(core) for core in cores])[:, None] + lookup.letters
    scores = 100 * (1 - slips / letters)
    by_country = np.maximum.reduceat(scores, lookup.starts, axis=1)
    best = by_country.argmax(axis=1)
    row = np.arange(len(names))
    similarity = by_country[row, best]
    by_country[row, best] = 0
    nearest_name = scores.argmax(axis=1)
    fewest = slips[row, nearest_name]
    near = (similarity >= _CUTOFF - 1e-9) & (fewest <= _MOST_SLIPS)
    clear = near & (similarity - by_country.max(axis=1) >= _MARGIN) & lookup.may_match[nearest_name]
    as_it_is = whole_slips[row, nearest_name] == fewest
    found = [
        (lookup.countries[country], "fuzzy", lookup.names[name])
        for country, name in zip(best, nearest_name, strict=True)
    ]
    return [
        match if sure and (whole or _may_call_itself(match[0], name)) else ("", "unknown", "")
        for match, sure, whole, name in zip(found, clear, as_it_is, names, strict=True)
    ]


def _slips(spellings: list[str], others: list[str]) -> NDArray[np.int32]:
    return process.cdist(spellings, others, scorer=Indel.distance, dtype=np.int32)


@cache
def _lookup() -> _Lookup:
    table = _read("country_names.csv")
    is_code = table["name"].str.fullmatch("[A-Z]{2,3}")
    known = list(zip(table["name"][~is_code], table["code"][~is_code], strict=True))
    decided = list(_read("country_aliases.csv")[["name", "code"]].itertuples(index=False, name=None))
    aliases = {key(name): (code, name) for name, code in decided}
    exact = _unique([(key(name), code, name) for name, code in known])
    forms: defaultdict[str, set[str]] = defaultdict(set)
    sharing: defaultdict[str, set[str]] = defaultdict(set)
    for name, code in known:
        forms[code].update(_FORMS.intersection(_words(name)))
        sharing[_sorted(_core(name))].add(code)
    understood = [(name, aliases.get(key(name), (code,))[0]) for name, code in known if key(name) in exact]
    own = {name for name, code in understood if code}
    # Of those spelt alike the last is shown: a name before an alias, a short one before a long one.
    in_order = sorted({*decided, *understood}, key=lambda named: (named[0] in own, -len(named[0]), named))
    compared = {(code, " ".join(_words(name))): name for name, code in in_order if len(_core(name)) >= _MIN_LETTERS}
    spelt = sorted(compared)
    names = [compared[spelling] for spelling in spelt]
    country = np.array([code for code, _ in spelt], dtype=object)
    starts = np.flatnonzero(np.r_[True, country[1:] != country[:-1]])
    return _Lookup(
        codes={**dict(zip(table["name"][is_code], table["code"][is_code], strict=True)), **_CODES},
        aliases=aliases,
        exact=exact,
        forms=forms,
        divided=set().union(*(codes for codes in sharing.values() if len(codes) > 1)),
        spelt=[spelling for _, spelling in spelt],
        names=names,
        may_match=np.array([name in own for name in names]),
        letters=np.array([len(_core(name)) for name in names]),
        starts=starts.tolist(),
        countries=country[starts].tolist(),
    )


def _read(file: str) -> pd.DataFrame:
    # Strings as they stand: to pandas, the code of Namibia is a missing value.
    return pd.read_csv(_WORLD / file, dtype=str, keep_default_na=False, encoding="utf-8")


def _unique(spellings: list[tuple[str, str, str]]) -> dict[str, tuple[str, str]]:
    """Code and name by spelling, without the spellings that several countries share."""
    meant = defaultdict(set)
    for spelling, code, _ in spellings:
        meant[spelling].add(code)
    return {spelling: (code, name) for spelling, code, name in reversed(spellings) if len(meant[spelling]) == 1}
