"""`regen bench draft`: the pipeline against the same bundle run study by study with stock parts.

The peer reads with wfdb, cleans lead by lead with scipy, encodes one recording at a time in float32, and writes with transformers'
`generate`, one study at a time in float32. Measuring, searching, planning and guarding are the bundle's own on both sides, because no stock
part does them; the peer runs them for one study at a time. Both must write the same reports; every one that differs is listed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regen.batch import line
from regen.data_prep.clean import remove_baseline, standard
from regen.data_prep.measure import UNITS, measure_all
from regen.data_prep.prepared import SPLITS, Prepared, study_from
from regen.data_prep.readers import read_study
from regen.encoders.hub import quiet
from regen.encoders.recordings import FS
from regen.errors import ConfigError, DataError, did_you_mean
from regen.eval import timing
from regen.eval.bench_ecg import by_lead, find_records
from regen.generators.base import Request
from regen.generators.decode import prompt_inputs
from regen.generators.language_model import load_base
from regen.generators.local_writer import LocalWriter
from regen.index.case_index import Asker
from regen.pipeline import Pipeline
from regen.study import Draft, Study

TARGET = 10.0
"""Times the peer."""
_CHUNK = 150
_MEMORY_AT = (100, 300)
"""Numbers of studies whose peak memory is compared."""


@dataclass(frozen=True, slots=True)
class Case:
    """A WFDB record, and what a prepared folder knows about it."""

    path: Path
    row: dict[str, Any] | None = None

    def study(self) -> Study:
        """Read with the product's reader."""
        study = read_study(self.path)
        return replace(self.known(), ecg=study.ecg, flags=study.flags)

    def known(self) -> Study:
        """Everything but the recording."""
        return Study(self.path.stem, source=str(self.path)) if self.row is None else study_from(self.row, None, FS)


def find_cases(root: Path | None, studies: Path | None, split: str, records: int) -> list[Case]:
    """Records below a folder, or those that a prepared split was made from.

    Raises:
        ConfigError: both or neither given, or an unknown split.
        DataError: no usable record.
    """
    if (root is None) == (studies is None):
        raise ConfigError("regen bench draft: expected --root with WFDB records, or --studies, got " + ("neither" if root is None else "both"))
    if root is not None:
        return [Case(path) for path in find_records(root, records)]
    assert studies is not None
    if split not in SPLITS:
        raise ConfigError(f"--split: expected one of {', '.join(SPLITS)}, got {split!r}{did_you_mean(split, SPLITS)}")
    rows = [row for row in Prepared.open(studies).split(split).to_dicts() if Path(row["source"]).suffix == ".hea"]
    by_path = {Path(row["source"]): row for row in rows if Path(row["source"]).exists()}
    if not by_path:
        raise DataError(f"{studies}: expected the WFDB records that its {split} split was prepared from, found none of them; give --root instead")
    return [Case(path, by_path[path]) for path in find_records(by_path, records)]


@dataclass(slots=True, eq=False)
class StockParts:
    """The peer. model: the language model in float32 with its adapter merged; spent: seconds by part."""

    pipeline: Pipeline
    writer: LocalWriter
    model: Any
    spent: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline: Pipeline) -> StockParts:
        from peft import PeftModel

        writer = _local(pipeline)
        folder = pipeline.folder / "generator"
        base, _ = load_base(folder / "base" if (folder / "base").is_dir() else writer.recipe.base)
        with quiet():
            model = PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload().float().eval()
        return cls(pipeline, writer, model)

    @torch.no_grad()
    def draft(self, case: Case) -> Draft:
        """One study from file to draft."""
        towers, index, writer = self.pipeline.towers, self.pipeline.index, self.writer
        study, (at_rate, cleaned) = case.known(), self._timed("read, clean", lambda: by_lead(case.path))
        signal = cleaned[None].astype(np.float32)
        measures = self._timed("measure", lambda: measure_all(signal, at_rate[None].astype(np.float32))[1])
        embedding, head, tokens = self._timed("encode", lambda: _encode(towers, signal, measures))
        asker = Asker.of(study)
        ids, scores = self._timed("retrieve", lambda: index.search(embedding, writer.needs, [asker]))
        measured = dict(zip(UNITS, measures[0, : len(UNITS)].tolist(), strict=True))
        request = Request(study, tokens[0], head[0], measured, ids[0], scores[0], study.language, index.why(asker))
        plan = self._timed("plan", lambda: writer.plan([request])[0])
        text = self._timed("generate", lambda: self._generate(writer.prefixes([request], [plan]), writer.prompt(request, plan)))
        if writer.recipe.witnesses:
            text = self._timed("consensus", lambda: writer._agreed(request, plan, text))
        return self._timed("guard", lambda: writer._draft(request, plan, text, 0.0, writer._cases([request], [plan])))

    def _generate(self, prefix: torch.Tensor, prompt: str) -> str:
        tokenizer = self.writer.tokenizer
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        inputs, mask = prompt_inputs(self.model, tokenizer, prefix.float(), [ids])
        out = self.model.generate(
            inputs_embeds=inputs, attention_mask=mask, max_new_tokens=self.writer.recipe.report_length, do_sample=False, num_beams=1,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        return str(tokenizer.decode(out[0], skip_special_tokens=True)).strip()

    def _timed(self, name: str, part: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        out = part()
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start
        return out


def bench(cases: Sequence[Case], bundle: str, repeats: int, memory: bool = True) -> dict[str, Any]:
    """The comparison, the product's time by part, and its peak memory at two numbers of studies (None with memory off)."""
    pipeline = Pipeline.from_pretrained(bundle, "cpu")
    peer = StockParts.of(pipeline)
    reports: dict[str, dict[str, str]] = {"product": {}, "peer": {}}

    def ours(chunk: Sequence[Case]) -> None:
        for draft in pipeline.drafts(case.study() for case in chunk):
            line(draft)
            reports["product"][draft.study_id] = draft.report

    def theirs(chunk: Sequence[Case]) -> None:
        for case in chunk:
            draft = peer.draft(case)
            line(draft)
            reports["peer"][draft.study_id] = draft.report

    ours(cases[:_CHUNK])
    theirs(cases[:2])
    peer.spent.clear()
    chunks = [cases[i : i + _CHUNK] for i in range(0, len(cases), _CHUNK)]
    times = timing.interleave({"product": ours, "peer": theirs}, chunks, repeats, warm=False)
    each = 1000 / len(cases)
    different = [
        {"study_id": name, "product": report, "peer": reports["peer"][name]}
        for name, report in reports["product"].items()
        if report != reports["peer"][name]
    ]
    return {
        "machine": timing.machine(), "bundle": bundle, "records": len(cases), "repeats": repeats,
        "product_ms": timing.spread(times["product"].wall, each), "peer_ms": timing.spread(times["peer"].wall, each),
        "ratio": timing.ratio(times["peer"], times["product"]), "ratio_cpu": timing.ratio(times["peer"], times["product"], "cpu"),
        "product_parts_ms": parts(pipeline, cases), "peer_parts_ms": {k: v * each / repeats for k, v in peer.spent.items()},
        "different": different, "peak_mib": {str(n): peak_memory(cases, bundle, n) for n in _MEMORY_AT} if memory else None,
    }  # fmt: skip


def parts(pipeline: Pipeline, cases: Sequence[Case]) -> dict[str, float]:
    """Milliseconds a study of every part of the product, batch by batch as the pipeline runs them."""
    writer, spent = _local(pipeline), dict.fromkeys(("read", "clean", "measure", "encode", "retrieve", "plan", "prefix", "decode", "guard"), 0.0)
    for start in range(0, len(cases), _CHUNK):
        marks = [time.perf_counter()]

        def done(value: Any, marks: list[float] = marks) -> Any:
            marks.append(time.perf_counter())
            return value

        studies = done([case.study() for case in cases[start : start + _CHUNK]])
        raw = np.stack([standard(study.ecg, FS)[0] for study in studies])
        cleaned = done(remove_baseline(raw, FS))
        measures = done(measure_all(cleaned, raw)[1])
        embeddings, head, tokens = done(pipeline.towers.encode(cleaned, measures))
        askers = [Asker.of(study) for study in studies]
        ids, scores = done(pipeline.index.search(embeddings, writer.needs, askers))
        requests = [
            Request(study, tokens[i], head[i], dict(zip(UNITS, measures[i].tolist(), strict=False)), ids[i], scores[i], study.language)
            for i, study in enumerate(studies)
        ]
        plans = writer.plan(requests)
        prompts = done([writer.prompt(request, plan) for request, plan in zip(requests, plans, strict=True)])
        with torch.no_grad():
            prefixes = done(writer.prefixes(requests, plans))
        texts = done(writer.decode(prefixes, prompts, plans))
        rows = writer._cases(requests, plans)
        done([line(writer._draft(*each, 0.0, rows)) for each in zip(requests, plans, texts, strict=True)])
        for name, before, after in zip(spent, marks, marks[1:], strict=False):
            spent[name] += after - before
    return {name: seconds * 1000 / len(cases) for name, seconds in spent.items()}


def peak_memory(cases: Sequence[Case], bundle: str, count: int) -> float:
    """Highest resident memory of a new process that drafts `count` studies (the cases again and again), MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, list(cases), bundle, count).result()


def _peak(cases: list[Case], bundle: str, count: int) -> float:
    pipeline = Pipeline.from_pretrained(bundle, "cpu")
    for draft in pipeline.drafts(cases[i % len(cases)].study() for i in range(count)):
        line(draft)
    return timing.peak_mib()


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield timing.machine_line(result["machine"])
    yield f"drafting, {result['records']} WFDB records, bundle {result['bundle']}, {result['repeats']} repeats, median [lowest, highest]"
    for name, title in (("product", "regen"), ("peer", "stock parts")):
        by_part = ", ".join(f"{part} {ms:.2f}" for part, ms in result[f"{name}_parts_ms"].items())
        yield f"  {title:12s} {timing.shown(result[f'{name}_ms'], 1)} ms a study ({by_part})"
    yield (f"  ratio        {timing.shown(result['ratio'], 1)} by the clock, {timing.shown(result['ratio_cpu'], 1)} in CPU time; wanted {TARGET:g}")
    yield f"  {len(result['different'])} of {result['records']} reports differ"
    for row in result["different"]:
        yield f"    {row['study_id']}\n      regen: {row['product']}\n      stock: {row['peer']}"
    if result["peak_mib"]:
        yield "  peak memory  " + ", ".join(f"{mib:.0f} MiB at {count} studies" for count, mib in result["peak_mib"].items())


def _encode(towers: Any, signal: Any, measures: Any) -> tuple[Any, Any, torch.Tensor]:
    states, mask = towers.ecg.tokens(torch.from_numpy(signal))
    features = towers.ecg.features(states, mask)
    head = towers.head.probabilities(features, torch.from_numpy(measures))
    return towers.ecg.embed(features).numpy(), head.numpy(), states.masked_fill(~mask[..., None], 0)


def _local(pipeline: Pipeline) -> LocalWriter:
    if not isinstance(pipeline.writer, LocalWriter):
        raise ConfigError("regen bench draft: expected a bundle whose writer runs here, got a hosted one; give a bundle of regen train writer")
    return pipeline.writer
