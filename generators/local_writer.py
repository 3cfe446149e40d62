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
import torch
from safetensors.torch import load_file
from torch import Tensor

from regen.artifact import load_manifest, require_partner
from regen.data_prep.labeler import statements_in
from regen.data_prep.statements import BY_CODE, CODES
from regen.encoders.hub import quiet
from regen.encoders.training import has_fast_bf16
from regen.generators.base import Request
from regen.generators.consensus import Witness, agreed
from regen.generators.decode import decode
from regen.generators.evidence import EvidenceModel, agreement, expected_f1
from regen.generators.fast_llama import FastLlama
from regen.generators.guards import Basis, guard
from regen.generators.language_model import load_base
from regen.generators.plan import Plan, make_plans
from regen.generators.prompt import measured_text, plan_report, plan_text, prompt_text, without_comparisons
from regen.generators.recipe import WriterRecipe
from regen.generators.rules import believable, unreadable, unreliable
from regen.generators.soft_prompt import SoftPrompt
from regen.index.case_index import CaseIndex
from regen.index.cases import hits_from
from regen.study import Draft, Finding, Hit

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
    def open(cls, folder: str | Path, index: CaseIndex, device: torch.device | str = "cpu", adapter: bool = True) -> LocalWriter:
        """Read and check a generator folder. adapter: False leaves the LoRA out, to see what the base writes from the same soft prompts.

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
            model = PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload() if adapter else base
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
        texts = self.decode(prefixes, prompts, plans)
        if self.recipe.witnesses:
            texts = [self._agreed(*each) for each in zip(requests, plans, texts, strict=True)]
        wrote = (time.perf_counter() - start) * 1000 / len(requests)
        cases = self._cases(requests, plans)
        return [self._draft(r, p, text, wrote, cases) for r, p, text in zip(requests, plans, texts, strict=True)]

    def plan(self, requests: Sequence[Request]) -> list[Plan]:
        """Probabilities, findings and the retrieved cases of each study; the whole batch at once."""
        return make_plans(self.evidence, self.index, self.recipe, requests)

    def prefixes(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Tensor:
        """Soft prompts, (b, soft.length, model width)."""
        device = self.soft.no_case.device
        tokens = torch.stack([r.tokens for r in requests]).to(device)
        ids = np.stack([p.ids for p in plans])
        reports = self.index.report_vectors[ids] if ids.size else np.zeros((len(plans), 0, self.index.report_vectors.shape[1]), np.float32)
        scores = torch.from_numpy(np.where(ids >= 0, np.stack([p.scores for p in plans]), np.nan).astype(np.float32))
        return self.soft(tokens, torch.from_numpy(reports).to(device), scores.to(device))

    def prompt(self, request: Request, plan: Plan) -> str:
        """The text part of the prompt; ends where the report begins. Cases that say the same stand in it once."""
        rows = plan.cases
        told = dict.fromkeys(without_comparisons(text) for text in self.index.cases["report"][rows].to_list()) if rows else ()
        retrieved = list(told)[: self.recipe.retrieved_texts]
        return prompt_text(retrieved, measured_text(request.measured), plan_text(c for c in CODES if c in plan.positive), self._language(request))

    @property
    def _wording(self) -> frozenset[tuple[str, str]] | None:
        """What the small model has read; a model from elsewhere knows more."""
        return self.index.word_pairs if self.recipe.base == "small" else None

    def _language(self, request: Request) -> str:
        return request.language or self.index.language

    def decode(self, prefixes: Tensor, prompts: Sequence[str], plans: Sequence[Plan]) -> list[str]:
        """What the language model writes."""
        guesses = [plan_report(plan.positive) for plan in plans] if self.fast else None
        return decode(self.fast or self.model, self.tokenizer, prefixes, prompts, self.recipe.report_length, guesses=guesses)

    def _agreed(self, request: Request, plan: Plan, text: str) -> str:
        """The draft, or the usual wording of the nearest reports in the language asked for (see consensus)."""
        spoken = self.index.language_of_case[request.ids] == self._language(request)
        rows = np.flatnonzero(spoken & (request.ids >= 0))[: self.recipe.witnesses]
        ids = request.ids[rows]
        reports = [without_comparisons(report) for report in self.index.cases["report"][ids].to_list()]
        agreements = agreement(self.index.statements, ids[None], plan.probabilities[None])[0].tolist()
        witnesses = [Witness(*each) for each in zip(reports, request.scores[rows].tolist(), agreements, strict=True)]
        said = np.isin(CODES, list(statements_in(text)))
        return agreed(text, float(expected_f1(said, plan.probabilities)), witnesses)

    def _cases(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Rows:
        """What is known of every case that a sentence of these drafts may point to."""
        return self.index.rows(np.concatenate([*(r.ids[:_VOTERS] for r in requests), *(p.ids for p in plans)]).tolist())

    def _draft(self, request: Request, plan: Plan, text: str, wrote: float, cases: Rows) -> Draft:
        study = request.study
        measured = believable(request.measured, plan.positive)
        values = (np.round(row.astype(np.float64), 5).tolist() for row in (plan.probabilities, self.evidence.limits(plan.heard)))
        findings = {code: Finding(code, BY_CODE[code].label, p, limit, code in plan.positive) for code, p, limit in zip(CODES, *values, strict=True)}
        near = hits_from(cases, plan.ids.tolist(), plan.scores.tolist(), request.allowed)
        voters = near + [h for h in self._voters(request, cases) if h.study_id not in {n.study_id for n in near}]
        basis = Basis(findings, plan.positive, measured, voters, bool(study.priors), self._language(request), wording=self._wording)
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
        if plan.retrieved and not plan.heard:
            flags.append("low_evidence:cases_disagree")
        if unreliable(request.measured):
            flags.append("unreliable:qtc")
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
        return hits_from(cases, request.ids[:_VOTERS].tolist(), request.scores[:_VOTERS].tolist(), ranked=False)
