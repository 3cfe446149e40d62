"""The writer that runs here: evidence model, soft prompts, a causal LM with its LoRA adapter, guards.

writer = LocalWriter.open("generator", index)
drafts = writer.write(requests)

generator/
  base/  adapter/   the language model and its LoRA        soft.safetensors   the soft prompt
  evidence.safetensors   probabilities and thresholds      recipe.json   manifest.json (fingerprint of the encoder)
  context/   the chart encoder, of a writer that reads the patient's context
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
from regen.data_prep.coding import sentence as catalogue_sentence
from regen.data_prep.labeler import statements_in
from regen.data_prep.sentences import split_sentences
from regen.data_prep.statements import BY_CODE, CODES
from regen.encoders.chart_encoder import ChartBatch, ChartEncoder, chart_logits, read_chart, tensors
from regen.encoders.hub import quiet
from regen.encoders.training import has_fast_bf16
from regen.errors import ConfigError
from regen.generators.base import Request
from regen.generators.consensus import Witness, agreed
from regen.generators.context_guards import Known
from regen.generators.context_lines import context_lines, has_context
from regen.generators.decode import decode
from regen.generators.evidence import EvidenceModel, agreement, expected_f1
from regen.generators.fast_llama import FastLlama
from regen.generators.guards import guard
from regen.generators.judging import Basis
from regen.generators.language_model import load_base
from regen.generators.plan import Plan, make_plans
from regen.generators.prompt import measured_text, plan_report, plan_text, prompt_text, without_comparisons
from regen.generators.recipe import WriterRecipe
from regen.generators.rules import believable, unreadable, unreliable
from regen.generators.soft_prompt import SoftPrompt
from regen.generators.tasks import TASKS
from regen.generators.told import moved_by_context
from regen.index.case_index import CaseIndex
from regen.index.cases import hits_from
from regen.study import Draft, Finding, FloatArray, Hit, Study

Rows = dict[int, dict[str, Any]]
_VOTERS = 20
"""Cases nearest by cosine that may stand behind a sentence."""


@dataclass(slots=True, eq=False)
class LocalWriter:
    """See the module. model: the LM with its adapter merged, fast: its copy for decoding on a CPU; soft: the soft prompt; index: whose
    cases requests point to; chart: what the chart alone suggests, None for a writer that reads none."""

    model: Any
    tokenizer: Any
    soft: SoftPrompt
    evidence: EvidenceModel
    recipe: WriterRecipe
    index: CaseIndex
    name: str = ""
    chart: ChartEncoder | None = None
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
        chart = read_chart(folder / "context").to(device) if (folder / "context").is_dir() else None
        soft = SoftPrompt(stored["encoder_width"], stored["report_dim"], stored["model_width"], recipe, stored["scale"], chart)
        soft.load_state_dict({name: value.float() for name, value in load_file(folder / "soft.safetensors").items()})
        fast = has_fast_bf16(torch.device(device))
        model = model.to(device, torch.bfloat16 if fast else torch.float32).eval()
        evidence = EvidenceModel.load(folder / "evidence.safetensors")
        return cls(model, tokenizer, soft.to(device).eval(), evidence, recipe, index, str(folder), chart)

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
        cases, started = self._cases(requests, plans), time.perf_counter()
        moved = self._moved(requests, plans, texts)
        took = {"told": round((time.perf_counter() - started) * 1000 / len(requests), 3)} if self.recipe.context else {}
        drafts = [self._draft(r, p, text, wrote, cases, told) for r, p, text, told in zip(requests, plans, texts, moved, strict=True)]
        return [replace(draft, timing_ms=draft.timing_ms | took) for draft in drafts] if took else drafts

    def answer(self, requests: Sequence[Request], task: str) -> list[str]:
        """What the language model answers to another task than the draft (regen.generators.tasks), as it is, without evidence or guards.

        Raises:
            ConfigError: a task that the writer did not learn.
        """
        if task not in self.recipe.tasks:
            raise ConfigError(f"task: expected one that the writer learnt ({', '.join(self.recipe.tasks)}), got {task!r}")
        asked = [replace(request, task=task, study=TASKS[task].asked(request.study)) for request in requests]
        plans = self.plan(asked)
        with torch.no_grad():
            prefixes = self.prefixes(asked, plans)
        return self.decode(prefixes, [self.prompt(*each) for each in zip(asked, plans, strict=True)], plans)

    def plan(self, requests: Sequence[Request]) -> list[Plan]:
        """Probabilities, findings and the retrieved cases of each study; the whole batch at once."""
        return make_plans(self.evidence, self.index, self.recipe, requests, self.chart_logits(requests))

    def chart_logits(self, requests: Sequence[Request]) -> FloatArray | None:
        """(b, 71) what the charts alone suggest, NaN rows where nothing was charted; None for a writer that reads no charts."""
        if self.chart is None or not requests:
            return None
        return chart_logits(self.chart, [r.study.events for r in requests])

    def _charts(self, chart: ChartEncoder, requests: Sequence[Request]) -> ChartBatch:
        return tensors(chart.vocabulary.charts([r.study.events for r in requests], chart.most), self.soft.no_case.device)

    def prefixes(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Tensor:
        """Soft prompts, (b, soft.length, model width)."""
        device = self.soft.no_case.device
        tokens = torch.stack([r.tokens for r in requests]).to(device)
        ids = np.stack([p.ids for p in plans])
        reports = self.index.report_vectors[ids] if ids.size else np.zeros((len(plans), 0, self.index.report_vectors.shape[1]), np.float32)
        scores = torch.from_numpy(np.where(ids >= 0, np.stack([p.scores for p in plans]), np.nan).astype(np.float32))
        charts = self._charts(self.chart, requests) if self.chart is not None else None
        return self.soft(tokens, torch.from_numpy(reports).to(device), scores.to(device), charts)

    def prompt(self, request: Request, plan: Plan) -> str:
        """The text part of the prompt; ends where the report begins. Cases that say the same stand in it once."""
        rows = plan.cases
        told = dict.fromkeys(without_comparisons(text) for text in self.index.cases["report"][rows].to_list()) if rows else ()
        retrieved = list(told)[: self.recipe.retrieved_texts]
        lines = context_lines(request.study, self.tokenizer, self.recipe) if self.recipe.context else ()
        found = plan_text(c for c in CODES if c in plan.positive)
        return prompt_text(retrieved, measured_text(request.measured), found, self._language(request), lines, request.task)

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

    def _moved(self, requests: Sequence[Request], plans: Sequence[Plan], texts: Sequence[str]) -> list[dict[str, float]]:
        """Of every draft whose study has context: its sentences, the findings' own among them, and how much the context moved each."""
        out: list[dict[str, float]] = [{} for _ in texts]
        rows = [i for i, r in enumerate(requests) if self.recipe.context and has_context(r.study)]
        if rows:
            own = [{c: catalogue_sentence(c) for c in CODES if c in plans[i].positive - statements_in(texts[i])} for i in rows]
            parts = [[*split_sentences(texts[i]), *more.values()] for i, more in zip(rows, own, strict=True)]
            scored = moved_by_context(self, [requests[i] for i in rows], [plans[i] for i in rows], [" ".join(some) for some in parts], parts)
            for i, more, moved in zip(rows, own, scored, strict=True):
                out[i] = moved | {code: moved[sentence] for code, sentence in more.items() if sentence in moved}
        return out

    def _known(self, study: Study, plan: Plan, moved: dict[str, float]) -> Known | None:
        if not self.recipe.context:
            return None
        medications = self.chart.vocabulary.medications if self.chart is not None else frozenset[str]()
        only_chart = plan.positive - plan.blind.positive if plan.blind is not None else frozenset[str]()
        return Known(has_context(study), moved, only_chart, medications)

    def _cases(self, requests: Sequence[Request], plans: Sequence[Plan]) -> Rows:
        """What is known of every case that a sentence of these drafts may point to."""
        return self.index.rows(np.concatenate([*(r.ids[:_VOTERS] for r in requests), *(p.ids for p in plans)]).tolist())

    def _draft(self, request: Request, plan: Plan, text: str, wrote: float, cases: Rows, moved: dict[str, float] | None = None) -> Draft:
        study = request.study
        measured = believable(request.measured, plan.positive)
        limits = self.evidence.limits(plan.heard, plan.blind is not None)
        values = (np.round(row.astype(np.float64), 5).tolist() for row in (plan.probabilities, limits))
        findings = {code: Finding(code, BY_CODE[code].label, p, limit, code in plan.positive) for code, p, limit in zip(CODES, *values, strict=True)}
        near = hits_from(cases, plan.ids.tolist(), plan.scores.tolist(), request.allowed)
        voters = near + [h for h in self._voters(request, cases) if h.study_id not in {n.study_id for n in near}]
        known, before = self._known(study, plan, moved or {}), frozenset(c for p in study.priors for c in statements_in(p)) if study.priors else None
        basis = Basis(findings, plan.positive, measured, voters, bool(study.priors), self._language(request), known, before, self._wording)
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
        if self.chart is not None and self.chart.vocabulary.is_longer(study.events, self.chart.most):
            flags.append("chart_cut")
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
