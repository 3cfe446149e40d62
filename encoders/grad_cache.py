"""Contrast over batches that are larger than memory: the gradient cache (Gao et al. 2021).

    loss = cached_backward(forward, chunks, loss_of)

Every chunk goes through the towers twice. First without gradients, to collect what the loss needs of the whole batch; the loss gives
each row its gradient; then chunk by chunk with gradients, with the same random numbers, to hand that gradient to the weights. The result
is that of the whole batch at once, but for layers that look across a batch (batch norm): those see a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

C = TypeVar("C")
Outputs = dict[str, Tensor]
"""Name -> (rows, ...): what a forward pass of one chunk gives. A name that a chunk has no rows for may be absent."""


def cached_backward(forward: Callable[[C], Outputs], chunks: Sequence[C], loss_of: Callable[[Outputs], Tensor]) -> float:
    """Add the gradients of `loss_of` over all chunks to the weights. Returns the loss.

    forward: chunk -> outputs, differentiable; loss_of: outputs of all chunks, each name's rows in the order of the chunks -> scalar.
    """
    if len(chunks) == 1:
        loss = loss_of(forward(chunks[0]))
        loss.backward()
        return float(loss.detach())
    states, made = [], []
    for chunk in chunks:
        states.append(_random_state())
        with torch.no_grad():
            made.append(forward(chunk))
    names = list(dict.fromkeys(name for outputs in made for name in outputs))
    leaves = {name: torch.cat([o[name] for o in made if name in o]).detach().requires_grad_() for name in names}
    loss = loss_of(leaves)
    loss.backward()
    after = _random_state()
    taken = dict.fromkeys(names, 0)
    for chunk, state in zip(chunks, states, strict=True):
        _set_random_state(state)
        outputs = forward(chunk)
        tensors, gradients = [], []
        for name, value in outputs.items():
            gradient = leaves[name].grad
            rows = slice(taken[name], taken[name] + len(value))
            taken[name] = rows.stop
            if gradient is not None and value.requires_grad:
                tensors.append(value)
                gradients.append(gradient[rows])
        if tensors:
            torch.autograd.backward(tensors, gradients)
    _set_random_state(after)
    return float(loss.detach())


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
