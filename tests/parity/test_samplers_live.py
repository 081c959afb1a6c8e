"""Every sampler beside live diffusers."""

import pytest
import torch

from parity.sampler_harness import SIGMAS, Case, cases, check_case

pytestmark = [
    pytest.mark.parity,
    # diffusers' own: it hands torch tensors to numpy and calls its older algorithms deprecated
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


EULER = [
    *cases("EulerDiscreteScheduler", SIGMAS),
]


@pytest.mark.parametrize("case", EULER, ids=str)
def test_same_schedule_and_latents(case: Case) -> None:
    check_case(case)
