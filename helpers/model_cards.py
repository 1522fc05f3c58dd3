"""What a run is, how well it did, and what it must not be used for."""

import pandas as pd

from helpers import metrics, progress, targets
from helpers.recipe import Settings


def best_epoch(curves: pd.DataFrame) -> int:
    """Epoch whose weights were kept: the last one that was better than all before it."""
    return int(curves["epoch"][curves["best"]].iloc[-1])


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """How a training went: a column of text, by what it tells.

    Parameters
    ----------
    curves : DataFrame
        What `helpers.launch.train` gives: a row per epoch.
    """
    best = curves[curves["epoch"] == best_epoch(curves)].iloc[0]
    told = {"epoch that was kept": f"{best['epoch']:.0f} of {len(curves)}"}
    if "median_km" in curves:
        for km, share in zip(metrics.THRESHOLDS_KM, metrics.SHARES, strict=True):
            told[f"validation photos within {km:,} km"] = f"{100 * best[share]:.1f} %"
        told["median distance"] = f"{best['median_km']:,.0f} km"
    told["time"] = progress.duration(curves["seconds"].sum())
    told["speed, without validation"] = f"{curves['photos_per_second'].iloc[-1]:,.0f} photos/s in the last epoch"
    told["photos that could not be read"] = f"{curves['unreadable_photos'].iloc[-1]}"
    return pd.Series(told, name="").to_frame()


def model_card(settings: Settings, curves: pd.DataFrame, training_photos: int) -> str:
    """What a run is, how well it did in validation, and what it must not be used for, in Markdown."""
    best = curves[curves["epoch"] == best_epoch(curves)].iloc[0]
    judged = "no validation photos"
    if "median_km" in curves:
        shares = ", ".join(f"{100 * best[f'within_{km}km']:.1f} % within {km:,} km" for km in metrics.THRESHOLDS_KM)
        judged = f"{shares}; half of the guesses are more than {best['median_km']:,.0f} km off"
    return f"""# Model card

**What it is.** {_what(settings)}, learned from {training_photos:,} photos of dataset `{settings.dataset}`
({settings.architecture}, train_layers: {settings.train_layers}, objective: {settings.loss}).

**How good it is.** On validation photos, one crop, at the epoch that was kept: {judged}. Evaluate it on photos like
yours with `05_evaluation/evaluate.ipynb`. {_confidence(settings)} It knows best what was photographed most, and is
worse for the rest of the world.

**Intended use.** Research and teaching on how places look and what models learn of it; sorting one's own photos;
checking claims about the place of a public photo, by people who weigh a guess as a guess.

**Out of scope.** Tracking, surveillance or identification of people; finding where a person lives, works or stays;
security-sensitive, military or law-enforcement use; any decision about a person.
"""


def _what(settings: Settings) -> str:
    answer = {"country": "the country", "region": "the state or province", targets.COORDINATES: "the coordinates"}
    kinds = ", ".join(targets.heads(settings.partition))
    what = f"A network that guesses {answer.get(settings.partition, f'the cell ({kinds})')} where a photo was taken"
    if settings.scene != "all":
        what += f", for photos of {settings.scene} scenes"
    return f"{what}, and its scene (indoor, natural, urban)" if settings.multitask else what


def _confidence(settings: Settings) -> str:
    if settings.loss == "degrees_mse":
        return "It gives no confidence: it names one place for every photo, however little the photo shows."
    if settings.partition == targets.COORDINATES:
        return "Its confidence is the length of the vector it gives, which is short where it wavers; not calibrated."
    return "Its confidence is the probability that it gives to the class it names, and is not calibrated."
