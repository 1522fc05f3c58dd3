"""Losses, and the places that the outputs of a coordinate head stand for.

A loss is the sum over the photos that count and their number, both scalars, so that what is added up over batches gives
the loss of all photos, whatever the batches.
"""

import torch
from torch import Tensor
from torch.nn import functional

from helpers.metrics import EARTH_RADIUS_KM

CLASS_OBJECTIVES = ("cross_entropy", "haversine_smoothed")  # for cells, countries, regions and scenes
COORDINATE_OBJECTIVES = {"unit_vector_mse": 3, "degrees_mse": 2}  # for partition "coordinates": outputs of its head
OBJECTIVES = (*CLASS_OBJECTIVES, *COORDINATE_OBJECTIVES)

_DEGREES_PER_UNIT = 90  # of the two outputs for degrees_mse, so that a fresh head need not reach for 180
# In float32 no two places are closer, and with much smaller scales the exponents would be infinite.
_SMALLEST_SMOOTHING_KM = 1e-3
_CLASSES_AT_ONCE = 1024  # whose distances to all are held


def cross_entropy(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy against the true class.

    Parameters
    ----------
    scores : Tensor of shape (n, classes)
        Logits, in any floating-point type; the loss is computed in float32.
    labels : int64 Tensor of shape (n,)
        Class numbers, -1 for a photo without a class, which then does not count.

    Returns
    -------
    total : float32 Tensor, a scalar
        Sum over the photos that count, in nats.
    count : int64 Tensor, a scalar
        Number of photos that count.

    Examples
    --------
    >>> total, count = cross_entropy(torch.zeros(3, 4), torch.tensor([0, 3, -1]))
    >>> round((total / count).exp().item(), 4), count.item()
    (4.0, 2)
    """
    total = functional.cross_entropy(scores.float(), labels, ignore_index=-1, reduction="sum")
    return total, (labels >= 0).sum()


def haversine_smoothed(
    scores: Tensor, labels: Tensor, coordinates: Tensor, class_coordinates: Tensor, smoothing_km: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy against :func:`smoothed_targets`, which forgives a class near the photo more than a far one.

    Parameters
    ----------
    scores : Tensor of shape (n, classes)
        Logits, in any floating-point type; the loss is computed in float32.
    labels : int64 Tensor of shape (n,)
        Class numbers, -1 for a photo without a class, which then does not count. Beyond that they change nothing: the
        targets come from the photos' true places.
    coordinates : Tensor of shape (n, 2)
        True latitude and longitude of the photos, in degrees.
    class_coordinates : Tensor of shape (classes, 2)
        Latitude and longitude of the classes' centroids, in degrees.
    smoothing_km : float
        Distance over which the target falls to 1/e; 75 in Lost & Found.

    Returns
    -------
    total : float32 Tensor, a scalar
        Sum over the photos that count, in nats.
    count : int64 Tensor, a scalar
        Number of photos that count.

    Raises
    ------
    ValueError
        If `smoothing_km` is not above 0.
    """
    targets = smoothed_targets(coordinates, class_coordinates, smoothing_km)
    has_class = labels >= 0
    targets = torch.where(has_class[:, None], targets, 0)
    return -(targets * scores.float().log_softmax(dim=1)).sum(), has_class.sum()


def smoothed_targets(coordinates: Tensor, class_coordinates: Tensor, smoothing_km: float) -> Tensor:
    """Distribution over classes that falls with their distance from where a photo was taken.

    Parameters
    ----------
    coordinates : Tensor of shape (n, 2)
        True latitude and longitude of the photos, in degrees.
    class_coordinates : Tensor of shape (classes, 2)
        Latitude and longitude of the classes' centroids, in degrees.
    smoothing_km : float
        Distance over which the target falls to 1/e.

    Returns
    -------
    float32 Tensor of shape (n, classes)
        Every row sums to one.

    Raises
    ------
    ValueError
        If `smoothing_km` is not above 0.

    Notes
    -----
    The target of class i for a photo at x is exp(-d(g_i, x) / τ), g_i the centroid of the class and τ the smoothing,
    divided by the sum over all classes: the label smoothing of Haas et al., "PIGEON: Predicting Image Geolocations",
    CVPR 2024, normalised. The distance to the true class that they subtract in the exponent cancels then.

    Examples
    --------
    >>> berlin, madrid = [52.52, 13.40], [40.42, -3.70]
    >>> potsdam = torch.tensor([[52.40, 13.06]])
    >>> smoothed_targets(potsdam, torch.tensor([berlin, madrid]), smoothing_km=1000).mul(100).round()
    tensor([[86., 14.]])
    """
    if not smoothing_km > 0:
        raise ValueError(f"smoothing_km is {smoothing_km}: give a distance above 0 (75 in Lost & Found)")
    distance_km = great_circle_km(coordinates, class_coordinates)
    return (-distance_km / max(smoothing_km, _SMALLEST_SMOOTHING_KM)).softmax(dim=1)


def spacing_km(class_coordinates: Tensor) -> float:
    """How far classes lie apart: the median distance from one to the nearest other, in km.

    Parameters
    ----------
    class_coordinates : Tensor of shape (classes, 2)
        Latitude and longitude of the classes' centroids, in degrees.

    Returns
    -------
    float
        Above 0, so that it can be a smoothing, even of a single class or of classes that share their centroids.

    Examples
    --------
    >>> round(spacing_km(torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])))
    111
    """
    nearest = [torch.zeros(0)]
    for start in range(0, len(class_coordinates), _CLASSES_AT_ONCE):
        some = class_coordinates[start : start + _CLASSES_AT_ONCE]
        distance_km = great_circle_km(some, class_coordinates)
        distance_km.diagonal(start).fill_(torch.inf)
        nearest.append(distance_km.amin(dim=1).cpu())
    apart = torch.cat(nearest)
    apart = apart[apart.isfinite()]
    return max(apart.median().item(), _SMALLEST_SMOOTHING_KM) if len(apart) else _SMALLEST_SMOOTHING_KM


def unit_vector_mse(outputs: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance between three outputs and the photo's place on the unit sphere.

    Its best answer is the mean of the unit vectors of where the photo may have been taken: see :func:`place_of_vector`.

    Parameters
    ----------
    outputs : Tensor of shape (n, 3)
        Vectors, as the head gives them, of any length.
    coordinates : Tensor of shape (n, 2)
        True latitude and longitude of the photos, in degrees; NaN for a photo that does not count.

    Returns
    -------
    total : float32 Tensor, a scalar
        Sum of the squared distances, in squared radii of the Earth.
    count : int64 Tensor, a scalar
        Number of photos that count.

    Examples
    --------
    >>> total, count = unit_vector_mse(torch.tensor([[-1.0, 0.0, 0.0]]), torch.tensor([[0.0, 180.0]]))
    >>> round(total.item(), 6), count.item()
    (0.0, 1)
    """
    return _squared(outputs.float(), unit_vectors(coordinates))


def degrees_mse(outputs: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error of latitude and longitude, in degrees, as Lost & Found had it.

    It knows no sphere: 179 and -179 degrees of longitude are two degrees apart on the Earth and 358 here, and a degree
    of longitude costs as much at a pole as at the equator. It serves for comparison; :func:`unit_vector_mse` has
    neither flaw.

    Parameters
    ----------
    outputs : Tensor of shape (n, 2)
        Latitude and longitude in units of 90 degrees.
    coordinates : Tensor of shape (n, 2)
        True latitude and longitude of the photos, in degrees; NaN for a photo that does not count.

    Returns
    -------
    total : float32 Tensor, a scalar
        Sum over the photos of the mean of the two squared differences, in square degrees.
    count : int64 Tensor, a scalar
        Number of photos that count.

    Examples
    --------
    >>> total, count = degrees_mse(torch.tensor([[0.5, -2.0]]), torch.tensor([[43.0, 179.0]]))
    >>> total.item()  # half of 2 ** 2 + 359 ** 2
    64442.5
    """
    total, count = _squared(_DEGREES_PER_UNIT * outputs.float(), coordinates.float())
    return total / 2, count


def weighted_mean(sums: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Loss of a network with several heads: the weighted sum of the heads' mean losses.

    Parameters
    ----------
    sums, counts : Tensor of shape (heads,)
        Of one batch, or added up over batches.
    weights : Tensor of shape (heads,)

    Returns
    -------
    Tensor, a scalar
        A head for which no photo counts adds 0.

    Examples
    --------
    >>> weighted_mean(torch.tensor([6.0, 8.0, 0.0]), torch.tensor([3, 2, 0]), torch.tensor([1.0, 0.5, 1.0])).item()
    4.0
    """
    return (weights * sums / counts.clamp(min=1)).sum()


def place_of_vector(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Place to which the outputs of a head trained with :func:`unit_vector_mse` point.

    Parameters
    ----------
    outputs : Tensor of shape (n, 3)

    Returns
    -------
    latitude, longitude : float32 Tensor of shape (n,)
        Degrees; 0 and 0 for the zero vector, which points nowhere.
    length : float32 Tensor of shape (n,)
        Mean resultant length, from 0 to 1: the head learns the mean unit vector of where the photo may have been taken,
        which is long where these places are close together and 0 where they are spread over the Earth. Longer outputs,
        which no mean can be, count as 1.

    Examples
    --------
    >>> [part.tolist() for part in place_of_vector(torch.tensor([[0.0, 0.0, 0.6], [0.0, -2.0, 0.0]]))]
    [[90.0, 0.0], [0.0, -90.0], [0.6000000238418579, 1.0]]
    """
    x, y, z = outputs.float().unbind(dim=1)
    latitude = torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    longitude = torch.rad2deg(torch.atan2(y, x))
    return latitude, longitude, outputs.float().norm(dim=1).clamp(max=1)


def place_of_degrees(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Place on the Earth that the outputs of a head trained with :func:`degrees_mse` name.

    Parameters
    ----------
    outputs : Tensor of shape (n, 2)
        Latitude and longitude in units of 90 degrees.

    Returns
    -------
    latitude, longitude : float32 Tensor of shape (n,)
        Degrees; a latitude beyond a pole is the pole's, a longitude comes round to -180 ≤ longitude < 180.

    Examples
    --------
    >>> [part.tolist() for part in place_of_degrees(torch.tensor([[0.5, 2.5], [-1.5, 2.0]]))]
    [[45.0, -90.0], [-135.0, -180.0]]
    """
    latitude, longitude = (_DEGREES_PER_UNIT * outputs.float()).unbind(dim=1)
    wrapped = torch.remainder(longitude + 180, 360) - 180
    # The remainder of a small negative number rounds to 360.
    return latitude.clamp(-90, 90), torch.where(wrapped < 180, wrapped, -180)


def great_circle_km(coordinates: Tensor, others: Tensor) -> Tensor:
    """Great-circle distances on a sphere of 6371 km, in float32 on the device of the coordinates.

    The metrics are computed with :func:`helpers.metrics.great_circle_km` in float64; these serve in losses.

    Parameters
    ----------
    coordinates : Tensor of shape (n, 2)
        Latitude and longitude in degrees.
    others : Tensor of shape (m, 2)
        Likewise.

    Returns
    -------
    float32 Tensor of shape (n, m)
        Kilometres, right to within a metre up to 1,000 km, ten metres up to 15,000 km, and 10 km at the antipodes;
        within 5 m up to 1,000 km if the coordinates themselves are float32.
    """
    # Not the fast way of matrix products, which loses all places within some kilometres of each other.
    chord = torch.cdist(unit_vectors(coordinates), unit_vectors(others), compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1))


def unit_vectors(coordinates: Tensor) -> Tensor:
    """Points on the unit sphere, as :func:`helpers.metrics.unit_vectors` gives them, on the device.

    Parameters
    ----------
    coordinates : Tensor of shape (n, 2)
        Latitude and longitude in degrees.

    Returns
    -------
    float32 Tensor of shape (n, 3)

    Examples
    --------
    >>> unit_vectors(torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([[1.0000, 0.0000, 0.0000],
            [0.8660, 0.0000, 0.5000]])
    """
    latitude, longitude = torch.deg2rad(coordinates).unbind(dim=1)
    across = latitude.cos()
    return torch.stack([across * longitude.cos(), across * longitude.sin(), latitude.sin()], dim=1).float()


def _squared(outputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    known = ~wanted.isnan().any(dim=1)
    differences = torch.where(known[:, None], outputs - wanted.nan_to_num(), 0.0)
    return differences.square().sum(), known.sum()
