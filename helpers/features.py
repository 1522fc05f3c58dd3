"""What a frozen backbone says of photos, computed once and kept."""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from helpers import devices, inputs, models, paths, photo_stores, photos, progress, shards

VIEWS = {"centre": 1, "five": 5}
"""Views of a photo that are the same every time, with the number of crops of each."""

_MOST_TOGETHER = 64  # photos; more at once are hardly faster, and every batch size from here on shares what is kept
_PHOTOS_PER_PART = 8192  # 40 MB of 1,280 features; what an interrupted run has computed is lost from there on at most
_VERSION = 3  # of what is done to a photo before the network sees it, and of the files
_PARTS = "*.safetensors"


def of(
    model: models.Geolocator,
    rows: pd.DataFrame,
    photo_root: photo_stores.PhotoRoot,
    image_size: int,
    view: str,
    precision: str,
    batch_size: int,
    label: str,
    failed: list[tuple[int, str]] | None = None,
) -> Tensor:
    """Features of the photos of a list, from disk where a run with the same backbone has asked before.

    Parameters
    ----------
    model : Geolocator
        In evaluation mode, on the device that is to compute; its heads do not matter.
    rows : DataFrame
        Rows of a data list; ``path`` is read, and ``sha256``, under which features are kept. Those of a photo without
        it are computed and not kept. A model with a branch for segmentation maps reads ``maps``, too.
    photo_root : Path
        Where the photos are: anything that `photo_stores.open_store` opens.
    image_size : int
        Side of a crop, in pixels.
    view : str
        One of :data:`VIEWS`.
    precision : str
        One of `devices.PRECISIONS`.
    batch_size : int
        Photos that the network may be given at once; it takes 64 at most.
    label : str
        What is being computed, e.g. ``"features of training photos"``.
    failed : list of (int, str), optional
        Takes the rows of photos that cannot be read, and why; their features are NaN, and nothing is kept of them.

    Returns
    -------
    Tensor of float32, shape (n, features), or (n, 5, features) for ``five``
        On the CPU, in the order of `rows`.

    Raises
    ------
    ValueError
        If the backbone is in training mode, or there is no such view.
    PhotoError
        If a photo cannot be read and there is no list `failed`.

    Notes
    -----
    On one machine the numbers are, bit for bit, the same whatever was kept before: libraries choose their algorithm by
    the size of a batch, so all batches have one size, the last one filled up. That size belongs to the name of the
    folder, as do the weights, the number format, the kind of device and the versions of the libraries. Another number
    of threads or another model of processor changes the last bits, as it does without a cache.
    """
    if view not in VIEWS:
        raise ValueError(f"no view {view!r} that is the same every time: choose one of {', '.join(VIEWS)}")
    if model.backbone.training:
        raise ValueError("the backbone is in training mode, so its features will not stay: call model.eval()")
    together = min(batch_size, _MOST_TOGETHER)
    shape = (model.feature_count,) if view == "centre" else (VIEWS[view], model.feature_count)
    maps = inputs.maps_of(rows) if model.has_map_branch else None
    folder = paths.features(_name(model, image_size, view, precision, together, maps.name if maps else ""))
    wanted = shards.known_hashes(rows, photo_root)
    found = torch.empty((len(rows), *shape), dtype=torch.float32)
    absent = _fill(found, wanted, folder)
    if not len(absent):
        print(f"{label}: all {len(rows)} kept from before", flush=True)
        return found
    print(f"{label}: {len(rows) - len(absent)} kept from before, {len(absent)} to compute", flush=True)
    parts = [(0, part) for part in torch.from_numpy(absent).split(together)]
    workers = inputs.workers_worth(len(absent), together)
    stream = inputs.stream(*(rows, photo_root, image_size, view, parts, workers), seed=0, maps=maps)
    counted = progress.track(stream, label, len(parts), unit=f"batches of {together} photos")
    done = written = 0
    for batch in counted:
        found[batch.numbers] = _computed(model, batch.photos, precision, together)
        if batch.failed:
            if failed is None:
                raise photos.PhotoError(batch.failed[0][1])
            failed += batch.failed
            unread = [row for row, _ in batch.failed]
            found[unread] = torch.nan
            wanted[unread] = b""
        done += len(batch.numbers) + len(batch.failed)
        if done - written >= _PHOTOS_PER_PART or done == len(absent):
            fresh = absent[written:done][wanted[absent[written:done]] != b""]
            _write(folder, wanted[fresh], found[fresh])
            written = done
    return found


@torch.no_grad()
def _computed(model: models.Geolocator, views: Tensor, precision: str, together: int) -> Tensor:
    device = model.mean.device
    full = views.new_zeros((together, *views.shape[1:]))
    full[: len(views)] = views
    crops = full if full.ndim == 4 else full.flatten(0, 1)
    with devices.autocast(device, model, precision):
        answer = model.features(crops.to(device, non_blocking=True)).float().cpu()
    return answer.reshape(together, *full.shape[1:-3], -1)[: len(views)]


def _fill(found: Tensor, wanted: NDArray[np.bytes_], folder: Path) -> NDArray[np.int64]:
    """Fill in what is kept of the photos wanted, and give the rows of those that are absent."""
    unique, number = np.unique(wanted, return_inverse=True)
    absent = np.ones(len(wanted), bool)
    for part in sorted(folder.glob(_PARTS)) if len(wanted) else []:
        try:
            hashes, features, sums = _read(part, tuple(found.shape[1:]))
        except OSError as error:  # which may pass
            print(f"{part} cannot be read ({error}): its photos are computed again", flush=True)
            continue
        except (ValueError, safetensors.SafetensorError) as error:
            _discard(part, error)
            continue
        nearest = np.minimum(np.searchsorted(unique, hashes), len(unique) - 1)
        held = np.flatnonzero(unique[nearest] == hashes)
        place = np.full(len(unique), -1)  # of each photo in this part
        place[nearest[held]] = held
        taken = np.flatnonzero(absent & (wanted != b"") & (place[number] >= 0))
        row = torch.from_numpy(place[number[taken]])
        kept = features[row]  # mapped: only the pages of these photos are read
        if not torch.equal(_checksums(kept), sums[row]):
            _discard(part, "its checksums are those of other numbers")
            continue
        found[taken] = kept
        absent[taken] = False
    return np.flatnonzero(absent)


def _discard(part: Path, reason: object) -> None:
    print(f"{part} is damaged ({reason}): it is deleted, and its photos are computed again", flush=True)
    part.unlink(missing_ok=True)


def _read(part: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.bytes_], Tensor, Tensor]:
    with safetensors.safe_open(part, "pt") as opened:
        if set(opened.keys()) != {"sha256", "features", "checksums"}:
            raise ValueError("it holds other tensors")
        hashes, features, sums = (opened.get_tensor(name) for name in ("sha256", "features", "checksums"))
    count = len(features)
    if (hashes.dtype, features.dtype, sums.dtype) != (torch.uint8, torch.float32, torch.int64):
        raise ValueError(f"its features are {features.dtype}")
    if not count or hashes.shape != (count, 32) or features.shape != (count, *shape) or sums.shape != (count,):
        raise ValueError(f"its features have the shape {tuple(features.shape)}")
    return hashes.numpy().view("S32").ravel(), features, sums


def _checksums(features: Tensor) -> Tensor:
    """A number for the bits of the features of each photo, which blocks of zeros and the like would change."""
    return features.contiguous().flatten(1).view(torch.int32).sum(dim=1, dtype=torch.int64)


def _write(folder: Path, hashes: NDArray[np.bytes_], features: Tensor) -> None:
    if not len(hashes):
        return
    held = torch.from_numpy(np.frombuffer(hashes.tobytes(), np.uint8).reshape(-1, 32).copy())
    # Named after what it holds: two runs that compute the same photos at the same time write the same file.
    name = hashlib.sha256(hashes.tobytes()).hexdigest()[:32]
    tensors = {"sha256": held, "features": features.contiguous(), "checksums": _checksums(features)}
    try:
        with paths.replacing(folder / f"{name}.safetensors") as temporary:
            safetensors.torch.save_file(tensors, temporary)
    except (OSError, safetensors.SafetensorError) as error:  # a full disk must not end what needs no cache
        print(f"{len(hashes)} photos' features could not be kept in {folder}: {error}", flush=True)


def _name(model: models.Geolocator, image_size: int, view: str, precision: str, together: int, maps: str = "") -> str:
    """Readable, and another one for whatever changes the numbers."""
    device = model.mean.device.type
    with devices.autocast(model.mean.device, model, precision):
        lowered = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
    libraries = ("torch", "torchvision", *(["timm"] if model.architecture.startswith(models.TIMM) else []))
    versions = [importlib.metadata.version(library) for library in libraries]
    how = [_VERSION, image_size, view, lowered, device, together, inputs.SHORT_SIDE_TO_CROP, versions]
    digest = hashlib.sha256(json.dumps([*how, *[maps] * model.has_map_branch]).encode())
    tensors = {**model.backbone.state_dict(), ".mean": model.mean, ".std": model.std}
    for name, tensor in (tensors | {".palette": model.palette} if model.has_map_branch else tensors).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    readable = model.architecture.replace("/", "-")[:60]
    return f"{readable}-{image_size}-{view}-{digest.hexdigest()[:12]}"
