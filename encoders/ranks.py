"""Several processes train one model (torchrun, accelerate): who am I, everybody's rows, everybody's gradients.

ranks = Ranks.join(device)                     from the environment that torchrun sets; alone without it
rows = order[ranks.rank :: ranks.world]
loss = info_nce(ranks.gather(text), ranks.gather(image), ...)
ranks.average(parameters)                after backward
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Join the group that the environment describes (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks in their order, (sum of n, ...), differentiable; each rank may hold another number."""
        if self.world == 1:
            return rows
        from torch.distributed.nn.functional import all_gather

        sizes = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
        longest = max(int(s) for s in sizes)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        return torch.cat([part[: int(size)] for part, size in zip(all_gather(padded), sizes, strict=True)])

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean gradient over the ranks; a weight that one rank did not use counts as zero there.

        `gather` hands each rank the sum of what all ranks ask of its rows, so that the mean is the gradient of one loss over all rows.
        """
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.world
