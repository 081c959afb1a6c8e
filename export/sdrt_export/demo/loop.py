"""The training loop of every stage: Adam, warm-up and cosine decay, weight averaging, resuming.

Under `torchrun` each process takes its share of every batch. On a CPU, one single-threaded process
per core is nearly twice as fast as one process with a thread per core, as the layers are small.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import distributed, nn

SECONDS_BETWEEN_SAVES = 120.0


@dataclass(frozen=True)
class Schedule:
    """The length and learning rates of a stage."""

    num_steps: int
    learning_rate: float
    num_warmup_steps: int = 100
    averaging: float = 0.998  # decay of the exponential moving average of the weights
    final_fraction: float = 0.02  # of the learning rate, at the last step

    def rate(self, step: int) -> float:
        """The learning rate at `step`."""
        warmup = min(1.0, (step + 1) / self.num_warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.num_steps))
        return self.learning_rate * warmup * max(self.final_fraction, cosine)


def train(
    name: str,
    module: nn.Module,
    loss_at: Callable[[int, np.random.Generator], torch.Tensor],
    schedule: Schedule,
    save_path: Path,
) -> nn.Module:
    """Trains `module` in place and returns its averaged copy.

    `loss_at(step, rng)` returns the loss of this process's share of a batch; its `rng` depends only
    on the step and the process, so that a run which was stopped and resumed from `save_path` sees
    the same batches as an uninterrupted run.
    """
    average = copy.deepcopy(module).requires_grad_(False)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=1e-3)
    first_step = _resume(save_path, module, average, optimizer)
    saved_at, running_loss = time.monotonic(), None
    with Progress(disable=rank() > 0) as progress:
        bar = progress.add_task(name, total=schedule.num_steps, completed=first_step)
        for step in range(first_step, schedule.num_steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss = loss_at(step, np.random.default_rng([step, rank()]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            _average_gradients(module)
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            _move_average(average, module, min(schedule.averaging, (step + 1) / (step + 10)))
            running_loss = _blend(running_loss, loss.item())
            progress.update(bar, advance=1, description=f"{name}, loss {running_loss:.4f}")
            if rank() == 0 and time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
                _save(save_path, step + 1, module, average, optimizer)
                saved_at = time.monotonic()
                progress.console.log(f"{name}: step {step + 1}, loss {running_loss:.4f}")
    if rank() == 0:
        _save(save_path, schedule.num_steps, module, average, optimizer)
    return average


def rank() -> int:
    """The number of this process under `torchrun`, else 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def num_processes() -> int:
    """The number of processes that share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """The first process runs the block before the others: for files that every process reads."""
    if rank() > 0:
        distributed.barrier()
    yield
    if rank() == 0 and num_processes() > 1:
        distributed.barrier()


def _average_gradients(module: nn.Module) -> None:
    if num_processes() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients]) / num_processes()
    distributed.all_reduce(together)
    means = together.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def _blend(average: float | None, value: float) -> float:
    return value if average is None else 0.98 * average + 0.02 * value


@torch.no_grad()
def _move_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def _save(path: Path, step: int, *parts: nn.Module | torch.optim.Optimizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, unfinished)
    unfinished.replace(path)


def _resume(path: Path, *parts: nn.Module | torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for part, values in zip(parts, state["parts"], strict=True):
        part.load_state_dict(values)
    return int(state["step"])
