"""What a sweep tries: parameters of training, with the values that they may take."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class LogRange(NamedTuple):
    """All numbers between two, each order of magnitude as likely as the next."""

    low: float
    high: float


@dataclass(frozen=True)
class SearchSpace:
    """Parameters of a run, each with the words or numbers it may be, or the range it may lie in."""

    parameters: Mapping[str, tuple[Any, ...] | LogRange]
    grid: bool = False
    """Every combination is tried, once; else combinations are sampled, and what was found guides the next."""
    train_layers: str = ""
    """Which layers must train for the parameters to matter, if that does."""

    def points(self) -> list[dict[str, Any]]:
        """Combinations of a grid.

        Examples
        --------
        >>> SearchSpace({"learning_rate": (0.1, 0.01), "epochs": (5,)}, grid=True).points()
        [{'learning_rate': 0.1, 'epochs': 5}, {'learning_rate': 0.01, 'epochs': 5}]
        """
        return [
            dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*self.parameters.values())
        ]

    def suggested(self, trial: "Suggests") -> dict[str, Any]:
        """Values of the parameters in a trial of Optuna."""
        return {
            name: trial.suggest_float(name, values.low, values.high, log=True)
            if isinstance(values, LogRange)
            else trial.suggest_categorical(name, list(values))
            for name, values in self.parameters.items()
        }


class Suggests(Protocol):
    """A trial of Optuna, as far as it is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...


PRESETS = {
    "quick": SearchSpace(
        {
            "learning_rate": LogRange(1e-4, 1e-1),
            "weight_decay": LogRange(1e-4, 1.0),
            "batch_size": (32, 64, 128, 256),
        }
    ),
    # The grid of Lost & Found.
    "lost_and_found": SearchSpace(
        {"learning_rate": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), "weight_decay": (1e-1, 1e-2, 1e-3)}, grid=True
    ),
    "all_layers": SearchSpace(
        {
            "learning_rate": LogRange(1e-5, 1e-2),
            "backbone_learning_rate_factor": LogRange(1e-2, 1.0),
            "weight_decay": LogRange(1e-4, 1.0),
            "augmentation": ("none", "crop+flip", "crop+rotation+colour"),
        },
        train_layers="all",
    ),
}
"""Spaces by name; another one is another entry."""
