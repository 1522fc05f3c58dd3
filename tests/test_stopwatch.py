import time

import pytest
import torch

from helpers.stopwatch import Stopwatch


def test_time_is_counted_by_work():
    watch = Stopwatch(torch.device("cpu"))
    for work in ("input", "forward", "input"):
        time.sleep(0.02)
        watch.mark(work)
    time.sleep(0.02)
    watch.skip()
    watch.mark("forward")
    seconds = watch.seconds()
    assert seconds["input"] > 1.5 * seconds["forward"] > 0.03 - 1e-9
    assert watch.seconds() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpus_time_is_the_gpus():
    watch = Stopwatch(torch.device("cuda"))
    square = torch.randn(4096, 4096, device="cuda")
    watch.skip()
    for _ in range(20):
        square = square @ square
        watch.mark("forward")
    started = time.perf_counter()
    seconds = watch.seconds()["forward"]
    assert 0.2 * (time.perf_counter() - started) < seconds
