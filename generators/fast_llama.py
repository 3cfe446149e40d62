"""A Llama for drafting on a CPU: the same function as transformers' `LlamaForCausalLM`, greedy, several times as fast in batches.

    fast = FastLlama.of(model)                               None where the model is no plain Llama on a CPU
    ids = fast.greedy(inputs, mask, longest=128, end=2)      one list of token ids a row

A copy of the weights, made once: norms folded into the products after them, query, key, value and the rotary half of query and key in one
product, gate and up in one. The cache is allocated once, prompts are read in groups of like length, and keys are filled up to a multiple of
16, because the CPU's softmax loses a factor on odd widths. Words that stand in the prompt already are guessed and checked several at a time,
row by row, which transformers' assisted generation does for one row alone. Products run in the model's number format; what is summed up between the
layers, and the logits, stay in float32, so that bfloat16 changes as few words as it can.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUND = 16
"""Keys are filled up to a multiple of this."""
TOGETHER = 150
"""Rows that are written together: each weight is read once for all of them."""
_GROUP = 16
"""Rows whose prompts are read together."""
_AHEAD = 5
"""Tokens that are guessed at most: a step over six tokens a row costs about as much as a step over one."""
_NEVER = -1e4
_LARGEST = 300_000_000
"""Parameters above which a second copy would cost more memory than it is worth."""


class FastLlama:
    """See the module. Only for use: no gradients, and it does not follow the model when that is trained further."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.device, self.dtype = model.device, model.dtype
        self.heads = int(config.num_attention_heads)
        self.width = int(config.hidden_size)
        self.eps = float(config.rms_norm_eps)
        self.embed = model.get_input_embeddings()
        self.frequencies = model.model.rotary_emb.inv_freq.float()
        self._held = threading.local()
        self.layers = [self._folded(layer) for layer in model.model.layers]
        self.words = (model.lm_head.weight.detach().float() * model.model.norm.weight.detach().float()).contiguous()

    @classmethod
    def of(cls, model: Any) -> FastLlama | None:
        """The copy, or None where it would not be the same function (another architecture, grouped keys, biases), for GPUs and large models."""
        if type(model).__name__ != "LlamaForCausalLM" or model.device.type != "cpu" or model.num_parameters() > _LARGEST:
            return None
        config = model.config
        plain = config.hidden_act == "silu" and not config.attention_bias and not config.mlp_bias
        whole = config.num_key_value_heads == config.num_attention_heads and config.head_dim * config.num_attention_heads == config.hidden_size
        return cls(model) if plain and whole and model.model.rotary_emb.rope_type == "default" else None

    def get_input_embeddings(self) -> Any:
        return self.embed

    def _folded(self, layer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(5 * width, width) query, key, their rotary halves and value; output; (2 * inner, width) gate and up; down."""
        attention, mlp = layer.self_attn, layer.mlp
        first, second = (norm.weight.detach().float() for norm in (layer.input_layernorm, layer.post_attention_layernorm))
        query = attention.q_proj.weight.detach().float() * (self.width // self.heads) ** -0.5
        key, value = attention.k_proj.weight.detach().float(), attention.v_proj.weight.detach().float()
        together = torch.cat([query, key, self._turned(query), self._turned(key), value]) * first
        inner = torch.cat([mlp.gate_proj.weight.detach().float(), mlp.up_proj.weight.detach().float()]) * second
        out, down = attention.o_proj.weight.detach(), mlp.down_proj.weight.detach()
        return together.to(self.dtype), out.to(self.dtype).contiguous(), inner.to(self.dtype), down.to(self.dtype).contiguous()

    def _turned(self, weight: Tensor) -> Tensor:
        """Rows of a query or key projection so that it gives [-second half, first half] of every head."""
        low, high = weight.view(self.heads, 2, -1, weight.shape[1]).unbind(1)
        return torch.stack([-high, low], 1).reshape(weight.shape)

    @torch.inference_mode()
    def greedy(self, inputs: Tensor, mask: Tensor, longest: int, end: int, hints: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
        """The likeliest token again and again, up to `longest` of them or until `end`, which is left out.

        inputs: (b, n, width) prompts, filled up on the left; mask: (b, n), 1 where a token is there; hints: tokens in which each row's
        words may stand already, as its prompt does. They change the speed and nothing else.
        """
        order = torch.argsort(mask.sum(1), stable=True)
        out: list[list[int]] = [[] for _ in order]
        for rows in order.split(TOGETHER):
            prompt = _up(int(mask[rows].sum(1).max()))
            there = F.pad(mask[rows], (max(0, prompt - mask.shape[1]), 0)).bool()[:, -prompt:]
            guesses = [Guess(hints[row] if hints is not None else ()) for row in rows.tolist()]
            for row, ids in zip(rows.tolist(), self._write(inputs[rows], there, longest, end, guesses), strict=True):
                out[row] = ids
        return out

    def _write(self, inputs: Tensor, mask: Tensor, longest: int, end: int, guesses: list[Guess]) -> list[list[int]]:
        """The same for rows of like length, shorter ones first; mask: (b, n), n a multiple of 16.

        Each step reads a row's last token and what is guessed to follow, and keeps the guesses that were right: greedy decoding, in
        fewer steps (Leviathan et al. 2023; the guesses are looked up, as in prompt lookup decoding).
        """
        rows, prompt = mask.shape
        cache = self._cache(rows, prompt + _up(longest + _AHEAD))
        last = self._read(inputs, mask, cache)
        start = mask.sum(1)
        hidden = torch.full((rows, prompt), _NEVER, dtype=self.dtype).masked_fill_(mask, 0.0)
        out = [[token] for token in self._likeliest(last)[:, 0].tolist()]
        alive = list(range(rows))
        while True:
            keep = [i for i, row in enumerate(alive) if out[row][-1] != end and len(out[row]) < longest]
            if not keep:
                return [row[:-1] if row[-1] == end else row for row in out]
            if len(keep) < len(alive):
                _close_up(cache, keep, prompt + max(len(out[row]) for row in alive))
                cache, start, hidden = cache[:, :, : len(keep)], start[keep], hidden[keep]
                alive = [alive[i] for i in keep]
            ahead = [guesses[row].after(out[row], min(_AHEAD, longest - len(out[row]) - 1)) for row in alive]
            width = 1 + max(map(len, ahead))
            tokens = [[out[row][-1], *guess, *[end] * (width - 1 - len(guess))] for row, guess in zip(alive, ahead, strict=True)]
            written = torch.tensor([len(out[row]) - 1 for row in alive])
            x = self._step(self.embed(torch.tensor(tokens)).float(), start, written, cache, hidden)
            for row, guess, said in zip(alive, ahead, self._likeliest(x).tolist(), strict=True):
                right = next((i for i, token in enumerate(guess) if said[i] != token), len(guess))
                fresh = said[: right + 1]
                out[row] += fresh[: fresh.index(end) + 1] if end in fresh else fresh

    def _cache(self, rows: int, room: int) -> Tensor:
        """(layers, 2, rows, heads, room, head width): keys and values. One for each thread, used again: fresh memory costs the system more
        time than the products that fill it. Everything in it is finite, so what is masked weighs nothing."""
        held: Tensor | None = getattr(self._held, "cache", None)
        if held is None or held.shape[2] < rows or held.shape[4] < room:
            most = (rows, room) if held is None else (max(rows, held.shape[2]), max(room, held.shape[4]))
            held = torch.zeros(len(self.layers), 2, most[0], self.heads, most[1], self.width // self.heads, dtype=self.dtype)
            self._held.cache = held
        return held[:, :, :rows, :, :room]

    def _read(self, inputs: Tensor, mask: Tensor, cache: Tensor) -> Tensor:
        """Prompts, (b, n, width), into the cache, some rows at a time. Returns the state after the last token, (b, 1, width)."""
        last = torch.empty(len(inputs), 1, self.width)
        prompt = mask.shape[1]
        for start in range(0, len(inputs), _GROUP):
            rows = slice(start, start + _GROUP)
            n = _up(int(mask[rows].sum(1).max()))
            there, columns = mask[rows, -n:], slice(prompt - n, prompt)
            seen = there[:, None, None, :] & torch.ones(n, n, dtype=torch.bool).tril()
            bias = torch.full(seen.shape, _NEVER, dtype=self.dtype).masked_fill_(seen, 0.0)
            x = torch.zeros(len(there), n, self.width)
            x[:, max(0, n - inputs.shape[1]) :] = inputs[rows, -n:]
            turn = self._rotation((there.cumsum(1) - 1).clamp_min(0))
            for depth, weights in enumerate(self.layers):
                query, key, value = self._heads(x, weights[0], turn)
                cache[depth, 0, rows, :, columns] = key
                cache[depth, 1, rows, :, columns] = value
                if depth + 1 == len(self.layers):
                    x, query, bias = x[:, -1:].contiguous(), query[:, :, -1:], bias[:, :, -1:]
                x = self._mixed(x, F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0), weights)
            last[rows] = x
        return last

    def _step(self, x: Tensor, start: Tensor, written: Tensor, cache: Tensor, hidden: Tensor) -> Tensor:
        """Some tokens a row. x: (b, n, width); start: (b,) tokens of its prompt; written: (b,) tokens after it that the cache holds already;
        hidden: (b, prompt) added to the scores of the prompt. Returns (b, n, width)."""
        b, n, _ = x.shape
        prompt = hidden.shape[1]
        after = written[:, None] + torch.arange(n)
        filled = _up(prompt + int(written.max()) + n)
        bias = torch.zeros(b, 1, n, filled, dtype=self.dtype)
        bias[..., :prompt] = hidden[:, None, None]
        bias[..., prompt:].masked_fill_((torch.arange(filled - prompt) > after[..., None])[:, None], _NEVER)
        turn = self._rotation(start[:, None] + after)
        at = torch.arange(b)[:, None], prompt + after
        for depth, weights in enumerate(self.layers):
            query, key, value = self._heads(x, weights[0], turn)
            keys, values = cache[depth, 0], cache[depth, 1]
            keys.transpose(1, 2)[at] = key.transpose(1, 2)
            values.transpose(1, 2)[at] = value.transpose(1, 2)
            keys, values = keys[:, :, :filled], values[:, :, :filled]
            x = self._mixed(x, F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0), weights)
        return x

    def _rotation(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary positions. at: (b, n). Returns (b, n, 1, 1, head width) twice."""
        angle = (at[..., None].float() * self.frequencies).repeat(1, 1, 2)[:, :, None, None]
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def _heads(self, x: Tensor, together: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, (b, heads, n, head width)."""
        parts = F.linear(self._normed(x), together).view(*x.shape[:2], 5, self.heads, -1)
        turned = (parts[:, :, :2] * turn[0]).addcmul_(parts[:, :, 2:4], turn[1])
        return turned[:, :, 0].transpose(1, 2), turned[:, :, 1].transpose(1, 2), parts[:, :, 4].transpose(1, 2)

    def _mixed(self, x: Tensor, attended: Tensor, weights: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """The rest of a block after attention. x: (b, n, width) float32, attended: (b, heads, n, head width)."""
        x = x + F.linear(attended.transpose(1, 2).reshape(x.shape), weights[1])
        gate, up = F.linear(self._normed(x), weights[2]).chunk(2, -1)
        return x.add_(F.linear(F.silu(gate).mul_(up), weights[3]))

    def _normed(self, x: Tensor) -> Tensor:
        """Root mean square norm without its gain, (b, n, width) float32 -> the model's format."""
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)).to(self.dtype)

    def _likeliest(self, x: Tensor) -> Tensor:
        """(b, n, width) -> (b, n) token ids."""
        return F.linear(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps), self.words).argmax(-1)


class Guess:
    """What may come next in a row: what stood after the same two tokens, or the same one, in its hints; the first such place counts."""

    def __init__(self, hints: Sequence[int]) -> None:
        self.hints = list(hints)
        self.places: dict[tuple[int, ...], int] = {}
        for i in range(len(self.hints) - 1, 0, -1):
            self.places[self.hints[i - 1],] = i
            self.places[tuple(self.hints[max(0, i - 2) : i])] = i

    def after(self, said: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens."""
        place = self.places.get(tuple(said[-2:]), self.places.get((said[-1],)))
        return [] if place is None else self.hints[place : place + most]


def _close_up(cache: Tensor, keep: Sequence[int], used: int) -> None:
    """Move the kept rows to the front, in place."""
    for new, old in enumerate(keep):
        if new != old:
            cache[:, :, new, :, :used] = cache[:, :, old, :, :used]


def _up(n: int) -> int:
    return -(-n // _ROUND) * _ROUND
