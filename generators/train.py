"""`regen train writer`: retrieve as at use, fit the evidence, pre-train or load the language model, tune LoRA and soft prompt, save."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor

from regen.artifact import Work, file_digest, new_artifact, require_partner
from regen.data_prep.measure import UNITS
from regen.data_prep.prepared import Prepared, study_from
from regen.data_prep.statements import CODES
from regen.data_prep.study_context import with_context
from regen.encoders.chart_encoder import CHART_FILES, ChartEncoder, chart_logits, load_chart
from regen.encoders.hub import quiet
from regen.encoders.recordings import Recordings, load_recordings
from regen.encoders.store import Towers, compact, load_towers
from regen.encoders.training import Checkpoint, Curve, autocast, draw_curves, epoch_seed, make_optimizer, one_cycle, seeded, take_step
from regen.errors import ConfigError, DataError
from regen.generators.base import Request
from regen.generators.context_lines import cut_lines, dropped, said
from regen.generators.decode import prompt_inputs
from regen.generators.evidence import EvidenceModel, votes_of
from regen.generators.examples import noisy, ordered, text_examples, told_from, vocabulary_texts
from regen.generators.language_model import encode_pair, length_batches, load_base, next_token_loss, positions, pretrain, save_base, small_llama
from regen.generators.local_writer import LocalWriter
from regen.generators.plan import Plan
from regen.generators.recipe import WriterRecipe
from regen.generators.soft_prompt import SoftPrompt
from regen.generators.tasks import TASKS
from regen.index.archive import Archive
from regen.index.case_index import Asker, CaseIndex
from regen.study import FloatArray

Progress = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One split, seen and retrieved for: what the encoder says of every recording and which cases lie near."""

    recordings: Recordings
    requests: list[Request]
    head: FloatArray
    ids: npt.NDArray[np.int64]
    scores: FloatArray


def train_writer(
    recipe: WriterRecipe, data_path: str | Path, encoder_path: str | Path, index_path: str | Path, out: str | Path, device: torch.device,
    force: bool = False, progress: Progress = lambda items, title: items, context_path: str | Path | None = None,
) -> None:  # fmt: skip
    """Train on the train split, fit the evidence on val, write the generator folder. context_path: of regen train context, for recipes that
    read charts.

    Raises:
        DataError: no coded recordings with reports in train or val.
        ConfigError: context_tokens without a context folder, or the other way round.
        ArtifactError: `out` exists without force, an input is damaged, or the index or the context belongs to another encoder.
    """
    if bool(recipe.context_tokens) != (context_path is not None):
        given = "none" if context_path is None else str(context_path)
        raise ConfigError(f"--context: expected a folder of regen train context with context_tokens above 0, got {given}, {recipe.context_tokens}")
    data, towers, index = Prepared.open(data_path), load_towers(encoder_path, device), Archive.open(index_path).part("ecg")
    require_partner(str(index_path), index.fingerprint, towers.fingerprint, "regen index build")
    inputs = {"data": data.digest, "encoder": towers.fingerprint} | ({"events": data.events_digest} if recipe.context else {})
    chart = None
    if context_path is not None:
        chart, fingerprint = load_chart(context_path)
        require_partner(str(context_path), fingerprint, towers.fingerprint, "regen train context")
        inputs["context"] = file_digest(Path(context_path) / "chart.safetensors")
    with new_artifact(out, "writer", recipe.model_dump(), inputs, force) as work:
        needs = max(recipe.voters, recipe.neighbours)
        train, val = (see(data, name, towers, index, needs, work.scratch, recipe.context) for name in ("train", "val"))
        evidence = fit_evidence(val, index, recipe, chart)

        torch.manual_seed(recipe.seed)
        model, tokenizer, curves = _base(recipe, data, work, device, progress)
        with seeded(epoch_seed(recipe.seed, "writer", -1)):
            soft = _soft_prompt(model, towers, index, recipe, chart).to(device)
            tuned = _with_adapter(model, recipe)
        writer = LocalWriter(tuned, tokenizer, soft, evidence, recipe, index, chart=chart.to(device) if chart is not None else None)
        curves["writer"] = tune(writer, train, val, work.scratch, device, progress)

        _save(work, writer, towers, recipe, context_path)
        draw_curves(curves, work.path / "curves.png")
        work.manifest["fingerprint"] = towers.fingerprint


def see(data: Prepared, split: str, towers: Towers, index: CaseIndex, k: int, scratch: Path, context: bool = False) -> Part:
    """Encode a split and retrieve for every recording, its own subject left out, exactly as at use. context: with what was charted before."""
    rows = data.split(split)
    recordings = load_recordings(data, rows, scratch, split)
    if not len(recordings) or np.isnan(recordings.labels).all():
        raise DataError(f"{data.path}: expected coded recordings in the {split} split, got none; prepare more studies")
    measures = np.asarray(recordings.measures)
    embeddings, head, tokens = towers.encode(np.asarray(recordings.signals), measures)
    studies = [study_from(row, None, data.fs) for row in rows.to_dicts()]
    studies = with_context(data, studies) if context else studies
    ids, scores = index.search(embeddings, k, [Asker.of(study) for study in studies])
    named = [dict(zip(UNITS, row[: len(UNITS)].tolist(), strict=True)) for row in measures]
    requests = [
        Request(study, tokens[i], head[i], named[i], ids[i], scores[i], study.language) for i, study in enumerate(studies)
    ]  # fmt: skip
    return Part(recordings, requests, head, ids, scores)


def fit_evidence(val: Part, index: CaseIndex, recipe: WriterRecipe, chart: ChartEncoder | None = None) -> EvidenceModel:
    votes = votes_of(index.statements, val.ids, val.scores, recipe.vote_temperature)
    nearest = np.nan_to_num(val.scores[:, 0], nan=-1.0)
    charts = chart_logits(chart, [r.study.events for r in val.requests]) if chart is not None else None
    return EvidenceModel.fit(val.head, votes, val.recordings.labels, index.statements, nearest, chart=charts)


def _base(recipe: WriterRecipe, data: Prepared, work: Work, device: torch.device, progress: Progress) -> tuple[Any, Any, dict[str, Curve]]:
    if recipe.base != "small":
        model, tokenizer = load_base(recipe.base, device)
        return model, tokenizer, {}
    rows = data.split("train", with_ecg=False)
    studies = with_context(data, [study_from(row, None, data.fs) for row in rows.to_dicts()]) if recipe.context else None
    told = told_from(rows, [tuple(said(study)) for study in studies] if studies is not None else None)
    model, tokenizer = small_llama(vocabulary_texts(told), recipe)

    def cut(lines: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[str]:
        return cut_lines([line for line in lines if rng.random() >= recipe.drop_context], tokenizer, recipe)

    def examples(rng: np.random.Generator) -> list[tuple[str, str]]:
        return text_examples(told, recipe.retrieved_texts, recipe.plan_noise, rng, cut if recipe.context else None)

    curve = pretrain(model, tokenizer, examples, recipe, work.scratch, device, progress)
    return model, tokenizer, {"base language model": curve}


def _soft_prompt(model: Any, towers: Towers, index: CaseIndex, recipe: WriterRecipe, chart: ChartEncoder | None) -> SoftPrompt:
    """Scaled to the spread of the model's own word vectors."""
    words = model.get_input_embeddings().weight
    return SoftPrompt(towers.recipe.width, index.report_vectors.shape[1], words.shape[1], recipe, float(words.detach().float().std()), chart)


def _with_adapter(model: Any, recipe: WriterRecipe) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, target_modules="all-linear")
    with quiet():
        return get_peft_model(model, lora)


def tune(writer: LocalWriter, train: Part, val: Part, scratch: Path, device: torch.device, progress: Progress) -> Curve:
    """Train adapter and soft prompt; the base stays as it is. Prompts are composed as `write` composes them, plus noise."""
    recipe = writer.recipe
    modules = {"adapter": _Trainable(writer.model), "soft": writer.soft}
    optimizer = make_optimizer(modules, recipe.weight_decay)
    checkpoint = Checkpoint(scratch / "writer.safetensors", modules, optimizer)
    start = checkpoint.load()
    curve = Curve(scratch / "writer.jsonl", start)
    plans = writer.plan(train.requests)
    told = _examples(train, recipe)
    for epoch in progress(range(start, recipe.epochs), "writer"):
        writer.model.train()
        writer.soft.train()
        total = 0.0
        with seeded(epoch_seed(recipe.seed, "writer", epoch)) as rng:
            hidden = [_hide(replace(train.requests[i], task=task), plans[i], recipe, rng) for i, task, _ in told]
            pairs = [_pair(writer, *hidden[j], train.recordings, i, rng, target) for j, (i, _, target) in enumerate(told)]
            batches = length_batches([len(p[0]) for p in pairs], recipe.batch, rng)
            for step, rows in enumerate(batches):
                loss = _loss(writer, [hidden[r] for r in rows], [pairs[r] for r in rows], device)
                take_step(optimizer, loss, one_cycle(epoch * len(batches) + step, recipe.epochs * len(batches), recipe.rate, 0.1))
                total += float(loss.detach())
        curve.add(train=total / len(batches), validation=validation_loss(writer, val, device))
        checkpoint.save(epoch + 1)
    return curve


def _examples(part: Part, recipe: WriterRecipe) -> list[tuple[int, str, str]]:
    """(row, task, target) of all that the recipe's tasks ask of a split."""
    studies = [request.study for request in part.requests]
    return [(i, task, target) for task in recipe.tasks for i, study in enumerate(studies) if (target := TASKS[task].target(study))]


@torch.no_grad()
def validation_loss(writer: LocalWriter, val: Part, device: torch.device) -> float:
    """Next-token loss on the reports of val, with plans and neighbours as at use. Nats a token, mean over batches."""
    writer.model.eval()
    writer.soft.eval()
    told = [i for i, report in enumerate(val.recordings.reports) if report]
    plans = writer.plan([val.requests[i] for i in told])
    rows = [(val.requests[i], plan) for i, plan in zip(told, plans, strict=True)]
    pairs = [
        encode_pair(writer.tokenizer, writer.prompt(*row), val.recordings.reports[i], writer.recipe.text_length)
        for row, i in zip(rows, told, strict=True)
    ]
    size = 2 * writer.recipe.batch
    losses = [float(_loss(writer, rows[j : j + size], pairs[j : j + size], device)) for j in range(0, len(rows), size)]
    return float(np.mean(losses))


def _hide(request: Request, plan: Plan, recipe: WriterRecipe, rng: np.random.Generator) -> tuple[Request, Plan]:
    """Leave out the study's tokens, the retrieved cases, parts of the context now and then, as the recipe says."""
    if rng.random() < recipe.drop_study:
        request = replace(request, tokens=torch.zeros_like(request.tokens))
    if rng.random() < recipe.drop_retrieval:
        plan = replace(plan, ids=np.full_like(plan.ids, -1), scores=np.full_like(plan.scores, np.nan))
    if recipe.context:
        request = replace(request, study=dropped(TASKS[request.task].asked(request.study), recipe, rng))
    return request, plan


def _pair(
    writer: LocalWriter, request: Request, plan: Plan, recordings: Recordings, row: int, rng: np.random.Generator, target: str | None = None
) -> tuple[list[int], int]:
    labels = recordings.labels[row]
    true = plan.positive if np.isnan(labels).any() else {CODES[j] for j in np.flatnonzero(labels)}
    others = [CODES[j] for i in plan.cases for j in np.flatnonzero(np.nan_to_num(writer.index.statements[i]))]
    codes = noisy(ordered(set(true)), others, writer.recipe.plan_noise, rng)
    prompt = writer.prompt(request, replace(plan, positive=frozenset(codes)))
    return encode_pair(writer.tokenizer, prompt, target or recordings.reports[row], writer.recipe.text_length)


def _loss(writer: LocalWriter, rows: list[tuple[Request, Plan]], pairs: list[tuple[list[int], int]], device: torch.device) -> Tensor:
    """Next-token loss over the report part."""
    with autocast(device):
        prefix = writer.prefixes([r for r, _ in rows], [p for _, p in rows])
        inputs, mask = prompt_inputs(writer.model, writer.tokenizer, prefix, [ids for ids, _ in pairs])
        logits = writer.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions(mask)).logits
    ids = torch.zeros(mask.shape, dtype=torch.long)
    counted = torch.zeros(mask.shape, dtype=torch.bool)
    for i, (row, start) in enumerate(pairs):
        ids[i, -len(row) :] = torch.tensor(row)
        counted[i, start - len(row) :] = True
    return next_token_loss(logits, ids.to(device), counted.to(device))


class _Trainable(torch.nn.Module):
    """The trainable part of a model with an adapter, so that checkpoints hold the adapter alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)


def _save(work: Work, writer: LocalWriter, towers: Towers, recipe: WriterRecipe, context: str | Path | None) -> None:
    adapter = writer.model.cpu()
    with quiet():
        adapter.save_pretrained(work.path / "adapter")
    (work.path / "adapter" / "README.md").unlink(missing_ok=True)
    if recipe.base == "small":
        save_base(adapter.unload(), writer.tokenizer, work.path / "base")
    save_file(compact(writer.soft), work.path / "soft.safetensors")
    writer.evidence.save(work.path / "evidence.safetensors")
    if context is not None:
        (work.path / "context").mkdir(exist_ok=True)
        for name in CHART_FILES:
            shutil.copyfile(Path(context) / name, work.path / "context" / name)
    shape = {
        "encoder_width": towers.recipe.width, "report_dim": writer.index.report_vectors.shape[1],
        "model_width": writer.soft.no_case.shape[0], "scale": writer.soft.scale,
    }  # fmt: skip
    base = str(Path(recipe.base).resolve()) if Path(recipe.base).is_dir() else recipe.base
    (work.path / "recipe.json").write_text(json.dumps({"recipe": recipe.model_dump() | {"base": base}, **shape}, indent=1))
