"""The recipe of `regen train writer`: one flat YAML file."""

from __future__ import annotations

from pydantic import Field, field_validator

from regen.config import Config
from regen.errors import did_you_mean
from regen.generators.tasks import TASKS


class WriterRecipe(Config):
    """Base language model, soft prompts, LoRA, retrieval. Rates are peak learning rates; lengths are in tokens."""

    seed: int = 0
    base: str = Field("small", description="'small': a Llama trained here on the reports; else a Hugging Face causal LM by name or folder")
    base_width: int = Field(256, gt=0, multiple_of=32)
    base_depth: int = Field(6, ge=1)
    base_heads: int = Field(4, ge=1)
    base_vocabulary: int = Field(1200, ge=300)
    base_epochs: int = Field(4, ge=1)
    base_rate: float = Field(2e-3, gt=0)

    study_tokens: int = Field(8, ge=0, description="soft tokens that the study's encoder tokens are resampled to; 0 leaves them out")
    neighbours: int = Field(5, ge=0, description="retrieved cases that reach the prompt and are shown; 0 writes without retrieval")
    neighbour_tokens: int = Field(2, ge=0, description="soft tokens a retrieved report; 0 leaves them out")
    retrieved_texts: int = Field(3, ge=0, description="retrieved reports whose text stands in the prompt; 0 leaves them out")
    voters: int = Field(400, ge=1, description="nearest cases that vote on every statement")
    vote_temperature: float = Field(0.1, gt=0, description="a case votes with exp(cosine / this)")

    witnesses: int = Field(
        0, ge=0, description="nearest reports in the language asked for whose usual wording is taken; 0 keeps the language model's own"
    )

    context_tokens: int = Field(0, ge=0, description="soft tokens that the chart's events are resampled to; 0 leaves the chart out")
    line_tokens: int = Field(0, ge=0, description="tokens of complaint, indication and history each that stand in the prompt; 0 leaves them out")
    prior_tokens: int = Field(0, ge=0, description="tokens of each of up to two earlier reports that stand in the prompt; 0 leaves them out")
    drop_context: float = Field(0.15, ge=0, lt=1, description="how often training hides each source, line and prior, each on its own")
    drop_all_context: float = Field(0.1, ge=0, lt=1, description="how often training hides the whole context")
    tasks: list[str] = Field(["draft"], description="what the writer learns: draft, impression, acuity")

    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    epochs: int = Field(3, ge=1)
    rate: float = Field(1e-3, gt=0)
    batch: int = Field(32, ge=2)
    weight_decay: float = Field(0.01, ge=0)
    drop_study: float = Field(0.1, ge=0, lt=1, description="how often training hides the study's tokens")
    drop_retrieval: float = Field(0.1, ge=0, lt=1, description="how often training hides the retrieved cases")
    plan_noise: float = Field(0.05, ge=0, lt=1, description="share of the planned findings that training drops, and adds from neighbours")
    report_length: int = Field(128, ge=16, description="longest report that is written")
    text_length: int = Field(320, ge=64, description="longest text part of a prompt in training, report included")

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, tasks: list[str]) -> list[str]:
        for name in tasks:
            if name not in TASKS:
                raise ValueError(f"of {', '.join(TASKS)}{did_you_mean(name, TASKS)}")
        if "draft" not in tasks:
            raise ValueError("tasks that include draft")
        return tasks

    @property
    def context(self) -> bool:
        """Whether the writer reads any of the patient's context."""
        return bool(self.context_tokens or self.line_tokens or self.prior_tokens)
