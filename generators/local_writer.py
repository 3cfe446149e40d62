"""The writer that runs here: evidence model, soft prompts, a causal LM with its LoRA adapter, guards.

writer = LocalWriter.open("generator", index)
drafts = writer.write(requests)

generator/
  base/  adapter/   the language model and its LoRA        soft.safetensors   the soft prompt
  evidence.safetensors   probabilities and thresholds      recipe.json   manifest.json (fingerprint of the encoder)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from regen.artifact import load_manifest, require_partner
from regen.data_prep.statements import BY_CODE, CODES
from regen.encoders.hub import quiet
from regen.encoders.training import has_fast_bf16
from regen.generators.base import Request
from regen.generators.decode import decode
from regen.generators.evidence import EvidenceModel, agreement, votes_of
from regen.generators.fast_llama import FastLlama
from regen.generators.guards import Basis, guard
from regen.generators.language_model import load_base
from regen.generators.prompt import measured_text, plan_text, prompt_text, without_comparisons
from regen.generators.recipe import WriterRecipe
from regen.generators.rules import believable, unreadable
from regen.generators.soft_prompt import SoftPrompt
from regen.index.case_index import CaseIndex
from regen.index.cases import hits_from
from regen.study import Draft, Finding, FloatArray, Hit

Rows = dict[int, dict[str, Any]]
_VOTERS = 20
"""Cases nearest by cosine that may stand behind a sentence."""


@dataclass(slots=True, eq=False)
class LocalWriter:
    """See the module. model: the LM with its adapter merged, fast: its copy for decoding on a CPU; soft: the soft prompt; index: whose
    cases requests point to."""

    model: Any
    tokenizer: Any
    soft: SoftPrompt
    evidence: EvidenceModel
    recipe: WriterRecipe
    index: CaseIndex
    name: str = ""
    fast: FastLlama | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.fast = FastLlama.of(self.model)

    @classmethod
    def open(cls, folder: str | Path, index: CaseIndex, device: torch.device | str = "cpu") -> LocalWriter:
        """Read and check a generator folder.

        Raises:
            ArtifactError: not a generator, damaged, or made for another encoder than the index.
        """
        from peft import PeftModel

        folder = Path(folder)
        manifest = load_manifest(folder, "writer")
        require_partner(str(folder), manifest["fingerprint"], index.fingerprint, "regen train writer")
        stored = json.loads((folder / "recipe.json").read_text())
        recipe = WriterRecipe(**stored["recipe"])
        base, tokenizer = load_base(folder / "base" if (folder / "base").is_dir() else recipe.base, device)
        with quiet():
            model = PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload()
        soft = SoftPrompt(stored["encoder_width"], stored["report_dim"], stored["model_width"], recipe, stored["scale"])
        soft.load_state_dict({name: value.float() for name, value in load_file(folder / "soft.safetensors").items()})
        fast = has_fast_bf16(torch.device(device))
        model = model.to(device, torch.bfloat16 if fast else torch.float32).eval()
        return cls(model, tokenizer, soft.to(device).eval(), EvidenceModel.load(folder / "evidence.safetensors"), recipe, index, str(folder))

    @property
    def needs(self) -> int:
        return max(self.recipe.voters, self.recipe.neighbours) if self.recipe.neighbours else 1

    def write(self, requests: Sequence[Request]) -> list[Draft]:
        """One draft a request, in order."""
        if not requests:
            return []
        start = time.perf_counter()
        plans = self.plan(requests)
        prompts = [self.prompt(request, plan) for request, plan in zip(requests, plans, strict=True)]
        with torch.no_grad():
            prefixes = self.prefixes(requests, plans)
        texts = decode(self.fast or self.model, self.tokenizer, prefixes, prompts, self.recipe.report_length)
        wrote = (time.perf_counter() - start) * 1000 / len(requests)
        cases = self._cases(requests, plans)
        return [self._draft(r, p, text, wrote, cases) for r, p, text in zip(requests, plans, texts, strict=True)]

    def plan(self, requests: Sequence[Request]) -> list[Plan]:
        """Probabilities, findings and the retrieved cases of each study; the whole batch at once."""
        ids = _pad([r.ids for r in requests], -1, np.int64)
        scores = _pad([r.scores for r in requests], np.nan, np.float32)
        head = np.stack([r.head for r in requests])
        retrieved = np.asarray((ids >= 0).any(axis=1) & bool(self.recipe.neighbours), np.bool_)
        probabilities, positive = self._findings(head, ids, scores, retrieved)
        k = self.recipe.neighbours
        order = np.argsort(-agreement(self.index.statements, ids, probabilities), axis=1, kind="stable")[:, :k]
        return [
            Plan(
                probabilities[i], frozenset(CODES[j] for j in np.flatnonzero(positive[i])), bool(retrieved[i]),
                ids[i][order[i]], scores[i][order[i]],
            )
            for i in range(len(requests))
        ]  # fmt: skip

    def _findings(
        self, head: FloatArray, ids: npt.NDArray[np.int64], scores: FloatArray, retrieved: npt.NDArray[np.bool_]
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        alone = self.evidence.probabilities(head, None)
        votes = votes_of(self.index.statements, ids, scores, self.recipe.vote_temperature) if ids.shape[1] else np.zeros_like(head)
        probabilities = np.where(retrieved[:, None], self.evidence.probabilities(head, votes), alone)
        positive = np.where(retrieved[:, None], self.evidence.decide(probabilities), self.evidence.decide(probabilities, retrieved=False))
        return probabilities, positive

    def prefixes(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Tensor:
        """Soft prompts, (b, soft.length, model width)."""
        device = self.soft.no_case.device
        tokens = torch.stack([r.tokens for r in requests]).to(device)
        ids = np.stack([p.ids for p in plans])
        reports = self.index.report_vectors[ids] if ids.size else np.zeros((len(plans), 0, self.index.report_vectors.shape[1]), np.float32)
        scores = torch.from_numpy(np.where(ids >= 0, np.stack([p.scores for p in plans]), np.nan).astype(np.float32))
        return self.soft(tokens, torch.from_numpy(reports).to(device), scores.to(device))

    def prompt(self, request: Request, plan: Plan) -> str:
        """The text part of the prompt; ends where the report begins."""
        rows = [int(i) for i in plan.ids[: self.recipe.retrieved_texts] if i >= 0]
        retrieved = [without_comparisons(text) for text in self.index.cases["report"][rows].to_list()] if rows else []
        return prompt_text(retrieved, measured_text(request.measured), plan_text(c for c in CODES if c in plan.positive), self._language(request))

    def _language(self, request: Request) -> str:
        return request.language or self.index.language

    def _cases(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Rows:
        """What is known of every case that a sentence of these drafts may point to."""
        return self.index.rows(np.concatenate([*(r.ids[:_VOTERS] for r in requests), *(p.ids for p in plans)]).tolist())

    def _draft(self, request: Request, plan: Plan, text: str, wrote: float, cases: Rows) -> Draft:
        study = request.study
        measured = believable(request.measured, plan.positive)
        thresholds = self.evidence.thresholds if plan.retrieved else self.evidence.alone_thresholds
        findings = {
            code: Finding(code, BY_CODE[code].label, round(float(plan.probabilities[j]), 5), round(float(thresholds[j]), 5), code in plan.positive)
            for j, code in enumerate(CODES)
        }
        near = hits_from(cases, plan.ids.tolist(), plan.scores.tolist(), request.allowed)
        voters = near + [h for h in self._voters(request, cases) if h.study_id not in {n.study_id for n in near}]
        basis = Basis(findings, plan.positive, measured, voters, bool(study.priors), self._language(request))
        kept, dropped, flags = guard(text, basis)
        deaf = unreadable(request.measured)
        if deaf:
            dropped = [replace(s, status="contradicted", reason=deaf) for s in kept] + dropped
            kept, flags = [], [f"no_readable_ecg:{deaf}"]
            findings = {code: replace(f, positive=False) for code, f in findings.items()}
        cited = {e.study_id for s in kept for e in s.evidence}
        near += [h for h in voters[len(near) :] if h.study_id in cited]
        if not plan.retrieved:
            flags.append("no_retrieval")
        elif len(request.scores) and request.scores[0] < self.evidence.limit[0]:
            flags.append("low_evidence")
        shown = sorted(findings.values(), key=lambda f: -f.probability)
        return Draft(
            study.study_id, study.subject_id, " ".join(s.text for s in kept), tuple(kept), tuple(shown), tuple(near),
            (*study.flags, *flags), {k: None if math.isnan(v) else round(float(v), 3) for k, v in measured.items()}, self.name,
            {"write": round(wrote, 3)}, tuple(dropped),
        )  # fmt: skip

    def _voters(self, request: Request, cases: Rows) -> list[Hit]:
        """The nearest cases by cosine, which back a sentence beside those that are shown."""
        if not self.recipe.neighbours:
            return []
        return [replace(h, rank=0) for h in hits_from(cases, request.ids[:_VOTERS].tolist(), request.scores[:_VOTERS].tolist())]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is going to be said: probabilities (71,), positive codes, and the cases shown: those that agree best, (k,) rows and cosines."""

    probabilities: FloatArray
    positive: frozenset[str]
    retrieved: bool
    ids: npt.NDArray[np.int64]
    scores: FloatArray


def _pad(rows: Sequence[npt.NDArray[Any]], fill: float, kind: type) -> npt.NDArray[Any]:
    out: npt.NDArray[Any] = np.full((len(rows), max(map(len, rows), default=0)), fill, kind)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
