"""The training loop, as a module that ``torchrun -m`` starts, once for each device.

It reads top to bottom: what is learned from, the steps, what is kept. ``helpers.launch`` starts it from a notebook.

Every process computes its share of each step's photos. The order of the photos, the views of them and what dropout
drops are functions of seed, epoch and step alone, so that a run is the same on any number of devices (but for rounding,
and for batch normalisation, whose means are those of a part), and goes on in the middle of an epoch as if never ended.
"""

import argparse
import contextlib
import copy
import ctypes
import inspect
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from helpers import (
    batch_norm,
    checkpoints,
    data_lists,
    devices,
    features,
    gallery,
    inputs,
    labelled,
    manifests,
    metrics,
    models,
    objectives,
    paths,
    processes,
    progress,
    read_outs,
    recipe,
    scenes,
    search,
    segmentation,
    stopwatch,
    targets,
)
from helpers.labelled import Photos
from helpers.models import Geolocator
from helpers.recipe import Running, Settings

PHASES = ("features", "input", "forward", "backward", "optimizer", "compile", "checkpoint", "other")
"""What the time of an epoch's steps goes into, in ``metrics.jsonl`` as ``seconds_<phase>``."""

AGENT = "torchrun.pid"
"""File of a run's folder with the process that starts the others."""
FAILED = "failed-*.json"
"""Files of a run's folder in which processes that failed say why."""

# Shares of the epochs after which the rate is halved: 4, 8, 12, 13, 14 of 15 in the paper's PyTorch successor.
_HALVINGS = (4 / 15, 8 / 15, 12 / 15, 13 / 15, 14 / 15)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_LEAST_SCALE = 1e-3  # of a loss in float16, which begins at 65,536
_PHOTOS_PER_PART = 2  # at least: batch normalisation has no spread of one


class Loss:
    """Loss of a run: the weighted sum over its heads of their means over the photos that count.

    Parameters
    ----------
    settings : Settings
    classes : mapping of str to Partition or Classes
        By head.
    heads : iterable of str
        Of the network, in its order.
    device : torch.device
    """

    def __init__(
        self,
        settings: Settings,
        classes: Mapping[str, targets.Classes],
        heads: Iterable[str],
        device: torch.device,
    ) -> None:
        self.settings = settings
        weights = [settings.scene_loss_weight if name == targets.SCENE else 1.0 for name in heads]
        self.weights = torch.tensor(weights, device=device)
        self.places = {
            name: torch.tensor(each.coordinates, dtype=torch.float32, device=device) for name, each in classes.items()
        }
        self.smoothing_km = {
            name: settings.smoothing_km or objectives.spacing_km(each) for name, each in self.places.items()
        }

    def summed(
        self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], coordinates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of the loss over the photos that count, and their number, for each head: two tensors (heads,)."""
        parts = [self._of_head(name, scores, labels, coordinates) for name, scores in outputs.items()]
        sums, counts = zip(*parts, strict=True)
        return torch.stack(sums), torch.stack(counts)

    def counts(self, labels: Mapping[str, Tensor], coordinates: Tensor, heads: Iterable[str]) -> Tensor:
        """How many photos will count for each head, an int64 tensor (heads,)."""
        known = {targets.COORDINATES: ~coordinates.isnan().any(dim=1)}
        return torch.stack([(known[name] if name in known else labels[name] >= 0).sum() for name in heads])

    def mean(self, sums: Tensor, counts: Tensor) -> Tensor:
        """Weighted sum of the means of :meth:`summed`, a scalar."""
        return objectives.weighted_mean(sums, counts, self.weights.to(sums))

    def _of_head(
        self, name: str, scores: Tensor, labels: Mapping[str, Tensor], coordinates: Tensor
    ) -> tuple[Tensor, Tensor]:
        if name == targets.COORDINATES:
            error = objectives.degrees_mse if self.settings.loss == "degrees_mse" else objectives.unit_vector_mse
            return error(scores, coordinates)
        if name == targets.SCENE or self.settings.loss == "cross_entropy":
            return objectives.cross_entropy(scores, labels[name])
        return objectives.haversine_smoothed(
            scores, labels[name], coordinates, self.places[name], self.smoothing_km[name]
        )


def learning_rate_factor(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then the schedule."""
    epoch = step / steps_per_epoch
    if epoch < settings.warmup_epochs:
        return (step + 1) / (settings.warmup_epochs * steps_per_epoch + 1)
    if settings.schedule == "halving":
        return 0.5 ** sum(epoch >= share * settings.epochs for share in _HALVINGS)
    done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Job:
    """What to train, and where it is written."""

    settings: Settings
    running: Running
    folder: Path
    """Of the run."""
    checkpoints: Path
    """They are deleted when the run is done."""

    @classmethod
    def read(cls, file: Path) -> "Job":
        job = json.loads(file.read_text())
        folders = Path(job["folder"]), Path(job["checkpoints"])
        return cls(Settings(**job["settings"]), Running(**job["running"]), *folders)

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), default=str))


def shares(
    photos: int, steps_per_epoch: int, steps: range, seed: int, group: processes.Processes, parts: int
) -> Iterator[tuple[int, Tensor]]:
    """Which photos a process learns from in each of `steps`.

    Yields
    ------
    epoch : int
        From 1.
    numbers : int64 Tensor
        Of this process's photos: `parts` parts of nearly equal size, one after the other. With twice the processes and
        half the parts each, the parts of a step are the same.
    """
    for step in steps:
        epoch, within = step // steps_per_epoch + 1, step % steps_per_epoch
        if within == 0 or step == steps.start:
            shuffle = torch.Generator().manual_seed(seed * 100_003 + epoch)
            order = torch.randperm(photos, generator=shuffle).tensor_split(steps_per_epoch)
        split = order[within].tensor_split(group.count * parts)
        yield epoch, torch.cat(split[group.rank * parts : (group.rank + 1) * parts])


def train(job: Job, group: processes.Processes) -> None:
    """Train a run in this process and those beside it, and write model, configuration, classes and metrics.

    Parameters
    ----------
    job : Job
    group : Processes
        From `processes.joined`.

    Raises
    ------
    ValueError
        If there is nothing to learn from, the checkpoint to go on from is of other settings, or too many photos cannot
        be read.
    StepFailed
        If a step fails; it names the photos.
    FloatingPointError
        If loss, gradient or weights are no longer finite.
    """
    settings, running, kept = job.settings, job.running, job.checkpoints
    with processes.watched(job.folder, group, running.hang_minutes) as watch, _reporting(job.folder, group):
        # It tries every algorithm once, which pays where photos of one size come again and again.
        torch.backends.cudnn.benchmark = settings.train_layers == "all"
        run = _Run(settings, running, job.folder, group, watch)
        run.restore(_checkpoint(kept, running) if group.leads else None)
        written = time.monotonic()
        with contextlib.closing(run.batches()) as batches:
            for epoch in range(run.state.epoch, settings.epochs + 1):
                for _ in run.learn(batches, epoch):
                    watch.progressed()
                    if group.leads and time.monotonic() - written >= 60 * running.checkpoint_minutes:
                        checkpoints.write(run.checkpoint(), kept, running.checkpoints_kept)
                        written = time.monotonic()
                        run.clock.mark("checkpoint")
                run.judge(epoch)
                watch.progressed()
                if 0 < settings.patience <= run.state.epochs_without_gain:
                    group.say(f"no better {settings.best_by} in {settings.patience} epochs: training stops early")
                    break
        run.finish()
        if group.leads:
            run.write()
            checkpoints.delete(kept)


@contextlib.contextmanager
def _reporting(folder: Path, group: processes.Processes) -> Iterator[None]:
    """Leave a word of what failed where the notebook finds it, whichever machine it was on."""
    try:
        with processes.noticing_losses():
            yield
    except Exception as error:
        message, lost = f"{type(error).__name__}: {error}", isinstance(error, processes.Lost)
        told = {"time": time.time(), "lost": lost, "message": message}
        (folder / FAILED.replace("*", str(group.rank))).write_text(json.dumps(told))
        raise


def train_alone(job: Job) -> None:
    """Train a run in this process; see :func:`train`."""
    with processes.joined() as group:
        train(job, group)


class StepFailed(RuntimeError):
    """A step that ended with an error; it names the photos."""


@dataclass
class _State:
    """What is counted, and kept in a checkpoint beside the tensors."""

    step: int = 0
    """Steps done, over all epochs."""
    epoch: int = 1
    """The one under way."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """What was measured in each epoch before it."""
    best: list[float] = field(default_factory=list)
    """Merit of the best of them."""
    epochs_without_gain: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why photos cannot be read, by id."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the steps of the epoch under way, by phase."""
    scaler: dict[str, Any] = field(default_factory=dict)


class _Run:
    """A run, as one of its processes holds it."""

    def __init__(
        self, settings: Settings, running: Running, folder: Path, group: processes.Processes, watch: processes.Watch
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.running, self.folder = settings, running, folder
        self.group, self.watch = group, watch
        self.device, self.state = group.device, _State()
        self.training, self.validation = (labelled.read_split(settings, split) for split in ("train", "validation"))
        self.settings = settings = _with_preset(settings, self.training, group.say)
        classes = targets.read(targets.folder(settings.partition, settings.dataset), targets.heads(settings.partition))
        labelled.check(settings, classes, self.training, self.validation, group.say)
        self.steps = _steps_per_epoch(settings, len(self.training), group.count * running.accumulation)
        self.outputs = _outputs(settings, classes)
        self.sources = _same_everywhere(settings, group)
        if group.leads:
            targets.write(classes, folder / "classes")
        self.fingerprints = group.told(targets.fingerprints(folder / "classes", self.outputs) if group.leads else None)

        self.model = _model(settings, self.outputs, self.fingerprints, self.device)
        self.loss = Loss(settings, classes, self.outputs, self.device)
        self.read_out = read_outs.of(classes, self.device)
        self.labels = {name: column.to(self.device) for name, column in self.training.labels.items()}
        self.coordinates = self.training.coordinates.to(self.device)
        self.number_format = devices.number_format(self.device, self.model, settings.precision)
        group.say(
            f"{settings.architecture} on {group.count} x {devices.described(self.device)}, {self.number_format}: "
            f"{len(self.training)} training photos, {len(self.validation)} validation photos, {settings.loss} over "
            f"{' + '.join(f'{count} {name}' for name, count in self.outputs.items())} outputs"
        )
        self.clock = stopwatch.Stopwatch(self.device)
        self.frozen = settings.train_layers == "heads"
        if self.frozen:
            self._ask_backbone_once()
            self.clock.mark("features")
        elif running.gradient_checkpointing:
            batch_norm.recompute_in_backward(self.model.backbone)

        self.learned: nn.Module = self.model.heads if self.frozen else self.model
        self.averaged = copy.deepcopy(self.learned) if settings.ema_decay else None
        self.judged: nn.Module = self.learned if self.averaged is None else self.averaged
        self.optimizer = _optimizer(self.model, settings, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.number_format == torch.float16)
        self.statistics = batch_norm.Statistics(self.learned, group, running.accumulation)
        self.network, self.without_exchange = _parallel(self.learned, group, running)
        self.cache = recipe.cache(settings, running)
        self.best: dict[str, Tensor] = {}
        self.totals = self._no_totals()
        self.unchecked: _Checked | None = None
        self.compiled_for: set[int] = set()
        self.compiles = False

    def learn(self, batches: Iterator[inputs.Batch], epoch: int) -> Iterator[None]:
        """Learn from what is left of an epoch, pausing after each step."""
        self.learned.train(not self.frozen)
        done = self.state.step - (epoch - 1) * self.steps
        lines = _StepLines(self.settings, epoch, done, self.steps, len(self.training))
        self.clock.skip()
        for step in range(done, self.steps):
            batch = next(batches)
            self.clock.mark("input")
            self._leave_out(self.training, batch.failed)
            try:
                with processes.noticing_losses():
                    self._step(batch, epoch)
            except (FloatingPointError, processes.Lost):
                raise
            except Exception as error:
                raise self._failed(batch, epoch, step, error) from error
            self.state.step += 1
            if self.group.leads and lines.are_due():
                self.check()
                print(lines.line(step + 1, self._mean_loss(*self.totals)), flush=True)
            self.clock.mark("other")
            yield
        self.check()

    def _step(self, batch: inputs.Batch, epoch: int) -> None:
        """One step of the optimiser, over this process's parts of its photos."""
        parts = self._parts(batch)
        sizes = {len(photos) for photos, _, _ in parts}
        self.compiles = self.running.compile and not sizes <= self.compiled_for
        counted = [self.loss.counts(labels, coordinates, self.outputs) for _, labels, coordinates in parts]
        counts = self.group.summed(torch.stack(counted).sum(dim=0))
        sums, loss = torch.zeros_like(counts, dtype=torch.float32), torch.zeros((), device=self.device)
        self.statistics.begin()
        for number, (photos, labels, coordinates) in enumerate(parts):
            # Dropout is the same on any number of devices, and after going on from a checkpoint.
            torch.manual_seed(self._seed(number))
            is_last = number == len(parts) - 1
            with contextlib.nullcontext() if is_last else self.without_exchange():
                with self._autocast():
                    answers = self.network(photos)
                part_sums, _ = self.loss.summed(answers, labels, coordinates)
                part_loss = self.loss.mean(part_sums, counts)
                self._mark("forward")
                # Gradients are averaged over the processes, and each loss is a share of that of the whole batch.
                self.scaler.scale(part_loss * self.group.count).backward()
                self._mark("backward")
            self.statistics.end_part()
            sums, loss = sums + part_sums.detach(), loss + part_loss.detach()
        self.statistics.end()
        self.scaler.unscale_(self.optimizer)
        # With no limit nothing is clipped: this asks for the norm alone.
        norm = nn.utils.clip_grad_norm_(self.learned.parameters(), self.settings.clip_norm or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * learning_rate_factor(self.settings, self.state.step, self.steps)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self._average(self.averaged)
        self.check()
        sums = self.group.summed(sums)
        together = self.loss.mean(sums, counts)
        # With float16 an infinite gradient is usual: the step is left out, and the scale lowered.
        norm = together if self.scaler.is_enabled() else norm
        self.unchecked = _Checked(torch.stack([loss, together, norm]), batch.numbers, epoch)
        for total, part in zip(self.totals, (sums, counts), strict=True):
            total.add_(part.to(total))
        self._mark("optimizer")
        self.compiled_for |= sizes

    def check(self) -> None:
        """Raise if loss or gradient of the last step were not finite.

        It is asked one step later, when the device is done with it anyway, so that the device need not wait.
        """
        if self.unchecked:
            unchecked, self.unchecked = self.unchecked, None
            unchecked.check(self.training.rows["id"], self.group)

    @torch.no_grad()
    def judge(self, epoch: int) -> None:
        """Place the validation photos, write what was measured, and keep the weights if they are the best."""
        self.judged.eval()
        if not all(torch.isfinite(weights).all() for weights in self.judged.state_dict().values()):
            raise FloatingPointError(f"the weights are no longer finite after epoch {epoch}: lower the learning_rate")
        if self.scaler.is_enabled() and self.scaler.get_scale() < _LEAST_SCALE:
            raise FloatingPointError(
                f"gradients overflow float16 in epoch {epoch}: lower the learning_rate, or use fp32"
            )
        self._add_seconds()
        started = time.monotonic()
        judged = self._judged() if len(self.validation) else {}
        if not math.isfinite(judged.get("validation_loss", 0.0)):
            raise FloatingPointError(f"the validation loss is not finite in epoch {epoch}: lower the learning_rate")
        self._leave_out_everywhere()
        seconds, state, validated = self.state.seconds, self.state, time.monotonic() - started
        measured = {
            "epoch": epoch,
            "step": state.step,
            "learning_rate": self.settings.learning_rate
            * learning_rate_factor(self.settings, (epoch - 1) * self.steps, self.steps),
            "train_loss": self._mean_loss(*self.totals),
            **judged,
            "photos_per_second": round(len(self.training) / max(sum(seconds.values()), 1e-9), 1),
            **{f"seconds_{phase}": round(seconds.get(phase, 0.0), 3) for phase in PHASES},
            "seconds_validation": round(validated, 3),
            "seconds": round(sum(seconds.values()) + validated, 3),
            "unreadable_photos": len(state.unreadable),
        }
        merit = recipe.merit(measured, self.settings.best_by)
        measured["best"] = merit > state.best
        if measured["best"]:
            state.best, state.epochs_without_gain = merit, 0
            self.best = {name: each.detach().cpu().clone() for name, each in self.judged.state_dict().items()}
        else:
            state.epochs_without_gain += 1
        state.history.append(measured)
        state.epoch, state.seconds, self.totals = epoch + 1, {}, self._no_totals()
        if self.group.leads:
            with paths.replacing(self.folder / "metrics.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(each) + "\n" for each in state.history))
            print(_epoch_lines(measured, self.settings.epochs), flush=True)

    def checkpoint(self) -> checkpoints.Checkpoint:
        """All that the run needs to go on from here."""
        self.check()
        self._add_seconds()
        self.state.scaler = self.scaler.state_dict()
        parts = {
            "learned": self.learned.state_dict(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
            "best": self.best,
            "optimizer": checkpoints.optimizer_tensors(self.optimizer),
            "totals": {"sums": self.totals[0], "counts": self.totals[1]},
        }
        tensors = {f"{part}.{name}": each for part, named in parts.items() for name, each in named.items()}
        return checkpoints.Checkpoint(self._fixed(), asdict(self.state), tensors)

    def restore(self, checkpoint: checkpoints.Checkpoint | None) -> None:
        """Go on from a checkpoint that the leading process has read, if it has one."""
        if checkpoint and (differing := checkpoints.differences(checkpoint, self._fixed())):
            raise ValueError(
                f"the checkpoint at step {checkpoint.step:,} is of other parameters: {'; '.join(differing)}. "
                "Go on with those that it was begun with, choose another run_name, or begin anew with resume False"
            )
        told = self.group.told(checkpoint.progress if checkpoint else None)
        if told is None:
            return
        tensors = self.group.told_tensors(checkpoint.tensors if checkpoint else None)
        unreadable = self.state.unreadable  # here and now: a frozen backbone has been asked already
        self.state = _State(**told)
        self.state.unreadable.update(unreadable)
        self.learned.load_state_dict(models.below(tensors, "learned"))
        if self.averaged is not None:
            self.averaged.load_state_dict(models.below(tensors, "averaged"))
        self.best = models.below(tensors, "best")
        checkpoints.restore_optimizer(self.optimizer, models.below(tensors, "optimizer"))
        totals = models.below(tensors, "totals")
        self.totals = (totals["sums"].to(self.totals[0]), totals["counts"].to(self.totals[1]))
        if self.state.scaler:
            self.scaler.load_state_dict(self.state.scaler)
        self.group.say(f"going on from step {self.state.step:,}, in epoch {self.state.epoch}")

    def finish(self) -> None:
        """Take the best weights, and look at the photos to search among, each process at its share."""
        self.judged.load_state_dict(self.best)
        self.learned.load_state_dict(self.best)
        self.model.eval()
        if self.settings.preset == "search":
            in_class = self.training.labels[targets.finest(self.settings.partition)].numpy() >= 0
            known = np.flatnonzero(in_class & self._is_readable(self.training))
            self.sought = self._seen(self.training, known[gallery.drawn(len(known), self.settings.seed)])
            asked = np.flatnonzero(self._is_readable(self.validation))
            self.asked = self._seen(self.validation, asked[search.evenly(len(asked))])

    def _is_readable(self, photos: Photos) -> NDArray[np.bool_]:
        return ~photos.rows["id"].isin(list(self.state.unreadable)).to_numpy()

    def _seen(self, photos: Photos, numbers: NDArray[np.int64]) -> tuple[Photos, Tensor]:
        """Some photos as the network sees them now."""
        some = photos.some(numbers)
        if self.frozen and not self.group.leads:  # which writes the gallery
            return some, torch.zeros(len(some), 0)
        if self.frozen:
            return some, (self.features if photos is self.training else self.validation_features)[numbers]
        found, readable, _ = self._features(some, f"features of {len(some)} photos to search with")
        return some.some(np.flatnonzero(readable.numpy())), found[readable]

    def write(self) -> None:
        """Write the model, and what belongs to it."""
        if self.settings.preset == "search":
            self._add_gallery()
        models.save(self.model, self.folder / "model.safetensors", self.fingerprints)
        # Rounded to about a kilometre: they serve a baseline, and a shared run should not tell where its owner lives.
        places = self.training.rows[["latitude", "longitude"]].round(2)
        places.to_parquet(self.folder / "training_places.parquet", index=False)
        if self.settings.segmentation:
            segmentation.keep(self.settings.dataset, self.folder)
        # Without folders: a shared run should not tell of its owner's machine.
        elsewhere = {"photo_root": "", "weights": Path(self.settings.weights).name}
        trained_on = {
            "processes": self.group.count,
            "accumulation": self.running.accumulation,
            "device": devices.described(self.device),
            "number_format": str(self.number_format),
        }
        config = {**asdict(self.settings), **elsewhere, "objective": self.settings.loss, "classes": self.outputs}
        (self.folder / "config.json").write_text(json.dumps(config | {"trained_on": trained_on}, indent=2) + "\n")
        if self.state.unreadable:
            unreadable = pd.DataFrame(sorted(self.state.unreadable.items()), columns=["id", "reason"])
            unreadable.to_csv(self.folder / "unreadable.csv", index=False)

    @torch.no_grad()
    def _add_gallery(self) -> None:
        """Keep the training photos to search among, and give the network a head to search by."""
        (known, features), (asked, queries) = self.sought, self.asked
        finest = targets.finest(self.settings.partition)
        projection = gallery.whitening(features)
        # To about a kilometre, as they are in training_places.parquet.
        places = known.rows[["latitude", "longitude"]].to_numpy(np.float64).round(2)
        keys = functional.normalize(projection(features), dim=1).half().float()
        usual = search.USUAL if self.settings.partition == "multi" else (search.USUAL[0], 1.0)
        kept = gallery.Gallery(keys, places, known.labels[finest].numpy(), *usual)
        if len(asked):
            answers = self.model.heads(queries.to(self.device))
            fused = read_outs.fuse({name: scores.unsqueeze(1) for name, scores in answers.items()})
            shares = list(self.read_out.shares(fused).values())[-1].cpu()
            query = functional.normalize(projection(queries), dim=1)
            searching = search.Search(kept, self.outputs[finest], torch.device("cpu"))
            kept = searching.fitted(query, shares, asked.rows[["latitude", "longitude"]].to_numpy(np.float64))
        gallery.write(kept, self.folder / gallery.FILE)
        self.model.heads[models.SEARCH] = projection.to(self.device)
        self.outputs[models.SEARCH] = projection.out_features
        self.fingerprints[models.SEARCH] = manifests.fingerprint(self.folder / gallery.FILE)
        print(
            f"search among {len(known):,} training photos, sharpness {kept.sharpness:g}, temperature "
            f"{kept.temperature:g}, reach {'/'.join(f'{100 * share:.0f}' for share in kept.reach)} %",
            flush=True,
        )

    def batches(self) -> Generator[inputs.Batch, None, None]:
        """This process's photos of each step to come, from the step where the run is."""
        if not self.frozen:
            yield from self._stream(self.training, self.settings.augmentation, self._requests())
            return
        for _, numbers in self._requests():
            readable = numbers[self.readable[numbers]]
            yield inputs.Batch(readable, self.features[readable], None, [])

    def _stream(self, photos: Photos, view: str, requests: Iterator[tuple[int, Tensor]]) -> Iterator[inputs.Batch]:
        workers = self.running.workers or inputs.default_workers(self.group.on_this_machine)
        maps = inputs.maps_of(photos.rows) if self.model.has_map_branch else None
        if view == "centre" and not inputs.workers_worth(len(photos), self.settings.batch_size):
            workers = 0  # they begin anew with each validation
        return inputs.stream(
            *(photos.rows, photos.root, self.settings.image_size, view, requests, workers, self.settings.seed),
            *(self.cache, self.device.type == "cpu", maps),
        )

    def _requests(self) -> Iterator[tuple[int, Tensor]]:
        steps = range(self.state.step, self.settings.epochs * self.steps)
        return shares(len(self.training), self.steps, steps, self.settings.seed, self.group, self.running.accumulation)

    def _parts(self, batch: inputs.Batch) -> list[tuple[Tensor, dict[str, Tensor], Tensor]]:
        """Photos, labels and coordinates of each part of this process's photos, on the device."""
        numbers, photos = batch.numbers, batch.photos
        lacking = _PHOTOS_PER_PART * self.running.accumulation - len(numbers)
        photos = photos.to(self.device, non_blocking=True)
        if not self.frozen:
            draws = batch.draws if batch.draws is None else batch.draws.to(self.device, non_blocking=True)
            photos = inputs.finish(photos, draws, self.settings.augmentation, self.settings.image_size)
        index = numbers.to(self.device, non_blocking=True)
        labels = {name: column[index] for name, column in self.labels.items()}
        coordinates = self.coordinates[index]
        if lacking > 0 and self.state.unreadable:  # hardly one could be read: blanks that count for nothing
            photos = torch.cat([photos, photos.new_zeros((lacking, *photos.shape[1:]))])
            labels = {name: torch.cat([column, column.new_full((lacking,), -1)]) for name, column in labels.items()}
            nowhere = math.nan if targets.COORDINATES in self.outputs else 0.0
            coordinates = torch.cat([coordinates, coordinates.new_full((lacking, 2), nowhere)])
        split = [each.tensor_split(self.running.accumulation) for each in (photos, coordinates, *labels.values())]
        return [(part[0], dict(zip(labels, part[2:], strict=True)), part[1]) for part in zip(*split, strict=True)]

    def _ask_backbone_once(self) -> None:
        """A frozen backbone says the same of a photo in every epoch."""
        self.model.requires_grad_(False).eval()
        self.model.heads.requires_grad_(True)
        self.features, self.readable, failed = self._features(self.training, "features of training photos")
        self._leave_out(self.training, failed)
        self.validation_features, self.validation_readable, failed = self._features(
            self.validation, "features of validation photos"
        )
        self._leave_out(self.validation, failed)

    def _features(self, photos: Photos, label: str) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
        """Features of photos, which of them could be read, and why the others could not."""

        def asked(rows: pd.DataFrame, label: str, failed: list[tuple[int, str]]) -> Tensor:
            settings = self.settings
            return features.of(
                *(self.model, rows, photos.root, settings.image_size, "centre", settings.precision),
                *(settings.batch_size, label, failed),
            )

        if self.group.count > 1:  # each asks for its share, and then finds what the others have kept
            share = photos.rows.iloc[self.group.share(len(photos))].reset_index(drop=True)
            asked(share, f"{label}, share of process {self.group.rank}", [])
            self.group.gathered(None)
        failed: list[tuple[int, str]] = []
        found = asked(photos.rows, label, failed)
        # What one could not read, none learns from: they must agree.
        failed = sorted({number: each for part in self.group.gathered(failed) for number, each in part}.items())
        readable = torch.ones(len(photos), dtype=torch.bool)
        readable[[number for number, _ in failed]] = False
        return found, readable, failed

    def _judged(self) -> dict[str, float]:
        """Great-circle accuracy of the best founded answer, and the loss if any photo has a class."""
        photos, share = self.validation, self.group.share(len(self.validation))
        totals, found, heads = self._no_totals(), [np.empty(0)], list(self.outputs)
        for numbers, answers in self._validation_answers(torch.arange(len(photos))[share]):
            labels = {name: column[numbers].to(self.device) for name, column in photos.labels.items()}
            summed = self.loss.summed(answers, labels, photos.coordinates[numbers].to(self.device))
            for total, part in zip(totals, summed, strict=True):
                total.add_(part.to(total))
            fused = read_outs.fuse({name: scores.unsqueeze(1) for name, scores in answers.items()})
            table = self.read_out.answers(fused)[1][self.read_out.models[-1]]
            rows = photos.rows.iloc[numbers.numpy()]
            places = table["predicted_latitude"], table["predicted_longitude"]
            found.append(metrics.great_circle_km(rows["latitude"], rows["longitude"], *places))
        distance_km = np.concatenate([part for parts in self.group.gathered(found) for part in parts])
        sums, counts = (self.group.summed(each) for each in totals)
        if not len(distance_km):
            return {}
        shares = dict(zip(metrics.SHARES, metrics.accuracy(distance_km).tolist(), strict=True))
        judged = {**shares, "median_km": float(np.median(distance_km))}
        # Scenes alone say nothing of the place, so they do not choose the weights.
        if any(count for name, count in zip(heads, counts.tolist(), strict=True) if name != targets.SCENE):
            judged["validation_loss"] = self._mean_loss(sums, counts)
        return judged

    def _validation_answers(self, wanted: Tensor) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Numbers of validation photos that could be read, and what the network answers, batch by batch."""
        if self.frozen:
            wanted = wanted[self.validation_readable[wanted]]
            for numbers in wanted.split(self.settings.batch_size):
                yield numbers, self.judged(self.validation_features[numbers].to(self.device))
            return
        requests = ((0, numbers) for numbers in wanted.split(self.settings.batch_size))
        batches: Iterable[inputs.Batch] = self._stream(self.validation, "centre", requests)
        if self.group.leads:
            total = math.ceil(len(wanted) / self.settings.batch_size)
            batches = progress.track(batches, "validating", total, f"batches of {self.settings.batch_size} photos")
        for batch in batches:
            self.watch.progressed()
            self._leave_out(self.validation, batch.failed)
            if len(batch.numbers):
                with self._autocast():
                    answers = self.judged(batch.photos.to(self.device, non_blocking=True))
                yield batch.numbers, answers

    def _leave_out(self, photos: Photos, failed: Iterable[tuple[int, str]]) -> None:
        """Name photos that cannot be read the first time, and count them."""
        for number, reason in failed:
            name = photos.rows["id"].iloc[number]
            if name not in self.state.unreadable:
                print(f"left out: {reason}", flush=True)
                self.state.unreadable[name] = reason
        self._check_unreadable()

    def _leave_out_everywhere(self) -> None:
        for unreadable in self.group.gathered(self.state.unreadable):
            self.state.unreadable.update(unreadable)
        self._check_unreadable()

    def _check_unreadable(self) -> None:
        count, limit = len(self.state.unreadable), self.running.unreadable_photos
        if count > limit:
            name, reason = next(reversed(self.state.unreadable.items()))
            raise ValueError(
                f"{count} photos cannot be read, and unreadable_photos allows {limit}; the last of them is "
                f"{name!r}: {reason}. Mend or leave them out (01_data/clean.ipynb), or allow more"
            )

    def _failed(self, batch: inputs.Batch, epoch: int, step: int, error: Exception) -> StepFailed:
        ids = list(self.training.rows["id"].iloc[batch.numbers.numpy()])
        print(f"photos of the step that failed in process {self.group.rank}: {', '.join(ids)}", flush=True)
        return StepFailed(
            f"{type(error).__name__}: {error} (process {self.group.rank}, epoch {epoch}, step {step + 1} of "
            f"{self.steps}, photos {data_lists.shown(ids)}, all of them named in train.log)"
        )

    def _fixed(self) -> dict[str, Any]:
        """What must be the same to go on from a checkpoint."""
        folders = {"photo_root": "", "weights": Path(self.settings.weights).name}
        return {**asdict(self.settings), **folders, **{f"the {name}": made for name, made in self.sources.items()}}

    def _seed(self, part: int) -> int:
        number = self.group.rank * self.running.accumulation + part
        return ((self.settings.seed * 1_000_003 + self.state.step) * 65_537 + number) % 2**63

    @torch.no_grad()
    def _average(self, averaged: nn.Module) -> None:
        """Move averaged weights towards those of now, in the beginning faster: the first ones are far off."""
        decay = min(self.settings.ema_decay, (1 + self.state.step) / (10 + self.state.step))
        torch._foreach_lerp_(list(averaged.parameters()), list(self.learned.parameters()), 1 - decay)
        for kept, now in zip(averaged.buffers(), self.learned.buffers(), strict=True):
            kept.copy_(now)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return devices.autocast(self.device, self.model, self.settings.precision)

    def _mean_loss(self, sums: Tensor, counts: Tensor) -> float:
        return self.loss.mean(sums, counts).item()

    def _no_totals(self) -> tuple[Tensor, Tensor]:
        """Sums of the loss and numbers of photos, by head."""
        device = "cpu" if self.device.type == "mps" else self.device  # which knows no float64
        zeros = torch.zeros(len(self.outputs), dtype=torch.float64, device=device)
        return zeros, zeros.clone()

    def _mark(self, phase: str) -> None:
        self.clock.mark("compile" if self.compiles else phase)

    def _add_seconds(self) -> None:
        for phase, seconds in self.clock.seconds().items():
            self.state.seconds[phase] = self.state.seconds.get(phase, 0.0) + seconds


class _Checked:
    """Whether loss and gradient of a step are finite, on the way from the device."""

    def __init__(self, values: Tensor, numbers: Tensor, epoch: int) -> None:
        self.numbers, self.epoch = numbers, epoch
        self.values, self.arrived = values, None
        if values.is_cuda:
            self.values = torch.empty(len(values), pin_memory=True).copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def check(self, ids: pd.Series, group: processes.Processes) -> None:
        """Raise for all processes alike: loss and norm of all together are the same for all."""
        if self.arrived:
            self.arrived.synchronize()
        loss, together, norm = self.values.tolist()
        if not math.isfinite(together + norm):
            mine = list(ids.iloc[self.numbers.numpy()])
            parts = group.gathered((loss, mine))
            guilty = [part for part in parts if not math.isfinite(part[0])]
            what = f"its loss is {guilty[0][0]}" if guilty else "its gradient is not finite"
            names = [name for _, part in guilty or parts for name in part]
            print(f"photos of the batch that stops training, because {what}: {', '.join(names)}", flush=True)
            raise FloatingPointError(
                f"a batch of epoch {self.epoch} cannot be learned from, because {what}: photos "
                f"{data_lists.shown(names)} (all are named in train.log). Lower the learning_rate, or take a photo out "
                "that is always among them"
            )


class _StepLines:
    """One line now and then of how far an epoch is."""

    def __init__(self, settings: Settings, epoch: int, done: int, steps: int, photos: int) -> None:
        self.settings, self.epoch, self.first, self.steps, self.photos = settings, epoch, done, steps, photos
        self.started = self.spoken = time.monotonic()

    def are_due(self) -> bool:
        return time.monotonic() - self.spoken >= progress.SECONDS_BETWEEN_LINES

    def line(self, step: int, loss: float) -> str:
        self.spoken = time.monotonic()
        rate = (step - self.first) / (self.spoken - self.started)
        left = (self.settings.epochs - self.epoch + 1) * self.steps - step
        share = f"{step / self.steps:.0%}".replace("%", " %")
        photos = rate * self.photos / self.steps
        return (
            f"epoch {self.epoch}/{self.settings.epochs}: {step}/{self.steps} steps ({share}), loss {loss:.3f}, "
            f"{photos:,.0f} photos/s, {progress.duration(left / rate)} left"
        )


def _checkpoint(kept: Path, running: Running) -> checkpoints.Checkpoint | None:
    """The checkpoint to go on from."""
    there = sorted(kept.glob(checkpoints.FILES))
    if running.resume:
        found = checkpoints.newest(kept)
        if not found:
            print(f"no checkpoint in {kept}: training begins at the beginning", flush=True)
        return found
    if there:
        print(
            f"an earlier run was not finished ({there[-1]}); to go on with it, stop this one and set resume True: its "
            "checkpoints go with the first one of this run",
            flush=True,
        )
    return None


def _steps_per_epoch(settings: Settings, photos: int, parts: int) -> int:
    """Steps of nearly equal size, none of more than ``batch_size`` photos."""
    steps = math.ceil(photos / settings.batch_size)
    if photos // steps < _PHOTOS_PER_PART * parts and parts > 1:
        raise ValueError(
            f"{photos} training photos in {steps} steps give each of {parts} parts (devices x accumulation) less than "
            f"{_PHOTOS_PER_PART} photos: raise batch_size, or take fewer devices or parts"
        )
    return steps


def _same_everywhere(settings: Settings, group: processes.Processes) -> dict[str, str]:
    """Fingerprints of what a run is made from, which must be the same for all processes."""
    mine = {name: manifests.fingerprint(path) for name, path in recipe.sources(settings).items()}
    for rank, theirs in enumerate(group.gathered(mine)):
        differing = [name for name in mine if theirs.get(name) != mine[name]]
        if differing:
            raise ValueError(
                f"process {rank} has another {' and '.join(differing)} than process {group.rank}: give all machines "
                "the same files"
            )
    return mine


def _with_preset(settings: Settings, training: Photos, say: Callable[[str], None]) -> Settings:
    """Settings whose preset is what the run will answer by: a search needs photos of the finest classes."""
    if not settings.searches:
        return replace(settings, preset="plain")
    finest = targets.finest(settings.partition)
    if (training.labels[finest] >= 0).any():
        return replace(settings, preset="search")
    problem = f"no training photo has a class of {finest}, so there is none to search among"
    if settings.preset == "search":
        raise ValueError(f"{problem}: take more photos, larger classes, or preset auto or plain")
    say(f"{problem}: the run answers by its classes alone")
    return replace(settings, preset="plain")


def _outputs(settings: Settings, classes: Mapping[str, targets.Classes]) -> dict[str, int]:
    """Heads of the network, with their numbers of outputs."""
    outputs = {name: len(each) for name, each in classes.items()}
    if settings.partition == targets.COORDINATES:
        outputs[targets.COORDINATES] = objectives.COORDINATE_OBJECTIVES[settings.loss]
    return {**outputs, targets.SCENE: len(scenes.SCENES)} if settings.has_scene_head else outputs


def _model(
    settings: Settings, outputs: Mapping[str, int], fingerprints: Mapping[str, str], device: torch.device
) -> Geolocator:
    palette = segmentation.palette(settings.dataset).colours if settings.segmentation else None
    model = Geolocator(settings.architecture, outputs, settings.weights, settings.allow_pickle, palette)
    models.take_heads(model, settings.weights, fingerprints)
    model = model.to(device).to(memory_format=torch.channels_last)
    model.eval()
    # Let an architecture that cannot take photos of this size say so before any work is done.
    try:
        with torch.no_grad():
            model(model.blank(settings.image_size))
    except (AssertionError, RuntimeError) as error:  # torchvision's vision transformers assert
        raise ValueError(
            f"{settings.architecture} cannot take photos of image_size {settings.image_size}: {error}"
        ) from error
    return model


def _optimizer(model: Geolocator, settings: Settings, device: torch.device) -> torch.optim.Optimizer:
    new = [weights for layers in model.new_layers for weights in layers.parameters()]
    groups: list[dict[str, Any]] = [{"params": new, "lr": settings.learning_rate}]
    if settings.train_layers == "all":
        slower, counted = settings.learning_rate * settings.backbone_learning_rate_factor, set(map(id, new))
        learned = [weights for weights in model.backbone.parameters() if id(weights) not in counted]
        groups.append({"params": learned, "lr": slower})
    for group in groups:
        group["initial_lr"] = group["lr"]
    fused = device.type in ("cpu", "cuda")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=fused)


def _parallel(
    learned: nn.Module, group: processes.Processes, running: Running
) -> tuple[Callable[[Tensor], dict[str, Tensor]], Callable[[], contextlib.AbstractContextManager[None]]]:
    """The network as it is called, and a context in which the processes exchange no gradients."""
    if group.count == 1:
        return (torch.compile(learned) if running.compile else learned), contextlib.nullcontext
    # No buffers: running statistics are the same for all, see batch_norm.Statistics. The option has two names.
    known = inspect.signature(DistributedDataParallel).parameters
    no_buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    network = DistributedDataParallel(learned, gradient_as_bucket_view=True, **no_buffers)
    return (torch.compile(network) if running.compile else network), network.no_sync


def _epoch_lines(measured: Mapping[str, Any], epochs: int) -> str:
    line = f"epoch {measured['epoch']}/{epochs}: loss {measured['train_loss']:.3f}"
    if "median_km" in measured:
        shares = "/".join(f"{100 * measured[f'within_{km}km']:.1f}" for km in metrics.THRESHOLDS_KM[2:])
        line += f", validation {measured.get('validation_loss', math.nan):.3f}, median {measured['median_km']:.0f} km"
        line += f", {shares} % within {'/'.join(map(str, metrics.THRESHOLDS_KM[2:]))} km"
    seconds = {phase: measured[f"seconds_{phase}"] for phase in PHASES}
    whole = sum(seconds.values())
    shares = ", ".join(f"{phase} {spent / max(whole, 1e-9):.0%}" for phase, spent in seconds.items() if spent)
    return (
        f"{line}{', the best so far' if measured['best'] else ''}\n  {whole:.1f} s at "
        f"{measured['photos_per_second']:,.0f} photos/s ({shares.replace('%', ' %')}), then "
        f"{measured['seconds_validation']:.1f} s for validation"
    )


def end_with_parent() -> None:
    """Have Linux terminate this process when the one that started it ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@record
def main() -> None:
    end_with_parent()
    parser = argparse.ArgumentParser(description="Train a run; 04_training/train.ipynb calls this.")
    parser.add_argument(
        "job", type=Path, nargs="?", help="file that helpers.launch has written, which the first machine alone needs"
    )
    file = parser.parse_args().job
    if file and (agent := file.with_name(AGENT)).exists() and os.getppid() != int(agent.read_text()):
        sys.exit("torchrun ended before its process began")
    with processes.joined() as group:
        if group.leads and not file:
            raise ValueError("the first machine starts training with 04_training/train.ipynb; this one is the first")
        train(group.told(Job.read(file) if group.leads else None), group)


if __name__ == "__main__":
    main()
