import math

import torch

from helpers import objectives


def cross_entropy(logits, labels):
    return objectives.mean_over_labelled(*objectives.summed_cross_entropy(logits, labels))


def test_uniform_logits_cost_the_logarithm_of_the_classes():
    logits = {"coarse": torch.zeros(4, 10), "fine": torch.zeros(4, 100)}
    labels = {name: torch.tensor([0, 3, 5, 9]) for name in logits}
    assert math.isclose(cross_entropy(logits, labels).item(), math.log(10) + math.log(100), rel_tol=1e-6)


def test_a_photo_outside_all_cells_counts_in_no_mean():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, generator=generator)
    with_one = cross_entropy({"fine": logits}, {"fine": torch.tensor([2, -1, 4])})
    without = cross_entropy({"fine": logits[[0, 2]]}, {"fine": torch.tensor([2, 4])})
    torch.testing.assert_close(with_one, without)


def test_sums_over_batches_give_the_loss_of_all_photos():
    generator = torch.Generator().manual_seed(2)
    logits = {"coarse": torch.randn(7, 4, generator=generator), "fine": torch.randn(7, 9, generator=generator)}
    labels = {"coarse": torch.tensor([0, 1, -1, 3, 2, -1, 0]), "fine": torch.tensor([-1, 8, -1, -1, 2, 5, 0])}
    parts = [
        objectives.summed_cross_entropy(
            {name: scores[part] for name, scores in logits.items()}, {name: row[part] for name, row in labels.items()}
        )
        for part in (slice(0, 1), slice(1, 5), slice(5, 7))
    ]
    total = objectives.mean_over_labelled(sum(sums for sums, _ in parts), sum(counts for _, counts in parts))
    torch.testing.assert_close(total, cross_entropy(logits, labels))


def test_a_batch_without_labels_costs_nothing_and_has_a_gradient():
    logits = torch.zeros(2, 5, requires_grad=True)
    loss = cross_entropy({"fine": logits}, {"fine": torch.tensor([-1, -1])})
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
