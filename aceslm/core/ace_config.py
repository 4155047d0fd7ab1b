"""The `ace:` section of a grid file: how a playbook evolves."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AceConfig(BaseModel):
    """How a playbook evolves.

    Attributes:
        epochs: passes over the samples (`aceslm evolve` answers an epoch 0 baseline before).
        round_size: samples answered with one playbook version before it changes; 1 is the paper's setting.
        reflect: reflect on wrong answers only, on all, or on none: then exemplars alone are learnt.
        reflection_rounds: times the Reflector goes over one answer (the paper: up to 5, diminishing returns).
        curate_every: rounds between two curations.
        labels: the Reflector sees gold answers of samples that were scored; false: no gold in any prompt.
        reflector_model, curator_model: model of a role; null is the cell's own.
        playbook: file of the initial playbook; null starts empty.
        adapt_samples, validate_samples: only the first so many of the split; null takes all.
        frozen_playbook: file of a finished playbook that `ace_frozen` carries, instead of adapting one.
        capacity: most bullets shown.
        token_budget: most tokens of the rendered playbook, in the model's own tokens.
        dedup_similarity: bullets at least this alike are one.
        prune_unused_rounds: bullets without credit for so many rounds go; null keeps them. Credit comes by
            citation or retrieval: without either every bullet would go.
        retrieve_top_k: bullets ranked by the question, behind the shared playbook; 0 is off.
        exemplars: most questions answered rightly before that are shown with one like them; 0 is off.
        gate: accept a version only by a paired comparison on the `validate` split, else roll back.
        gate_on: what gate and candidates count: `score`, the headline of the answer type (token F1 of spans;
            elsewhere the same as `correct`), or `correct`, exact matches alone.
        gate_threshold: accept when gains - losses >= this times sqrt(gains + losses), the changes within one
            context netted first; 0: "does not lose".
        gate_samples: about how many validation samples one comparison asks (whole contexts, redrawn);
            candidates are compared on as many, of a part of the split that the gate never asks.
        candidates: deltas sampled per round; with more than 1 only the best is kept, and only if it gains.
        candidate_temperature: temperature of the Curator for candidates where the cell itself is greedy.
        workers: array tasks that evolve in parallel for an epoch and are merged; 1 is sequential.
        constrained: decode Reflector and Curator under their JSON schemas; false: the tolerant parser.
        held_out: `last`: `ace_frozen` answers behind the playbook the adaptation ended with; `each`: also
            behind the one of each epoch before (the held-out curve).
        shuffled_from: task whose playbook `ace_shuffled` takes; null is the next task of the grid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=3, ge=1, le=100)
    round_size: int = Field(default=8, ge=1, le=10_000)
    reflect: Literal["wrong", "all", "none"] = "wrong"
    reflection_rounds: int = Field(default=1, ge=1, le=5)
    curate_every: int = Field(default=1, ge=1, le=1000)
    labels: bool = True
    reflector_model: str | None = Field(default=None, min_length=1)
    curator_model: str | None = Field(default=None, min_length=1)
    playbook: str | None = Field(default=None, min_length=1)
    frozen_playbook: str | None = Field(default=None, min_length=1)
    adapt_samples: int | None = Field(default=None, ge=1)
    validate_samples: int | None = Field(default=None, ge=1)
    capacity: int = Field(default=64, ge=1, le=2000)
    token_budget: int = Field(default=1024, ge=32, le=131_072)
    dedup_similarity: float = Field(default=0.9, ge=0.5, le=1.0)
    prune_unused_rounds: int | None = Field(default=None, ge=1, le=100_000)
    retrieve_top_k: int = Field(default=0, ge=0, le=50)
    exemplars: int = Field(default=0, ge=0, le=32)
    gate: bool = False
    gate_on: Literal["score", "correct"] = "score"
    gate_threshold: float = Field(default=1.28, ge=0.0, le=5.0)
    gate_samples: int = Field(default=70, ge=1, le=100_000)
    candidates: int = Field(default=1, ge=1, le=64)
    candidate_temperature: float = Field(default=0.8, gt=0.0, le=5.0)
    workers: int = Field(default=1, ge=1, le=1000)
    constrained: bool = True
    held_out: Literal["last", "each"] = "last"
    shuffled_from: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.retrieve_top_k > self.capacity:
            raise ValueError(
                f"retrieve_top_k {self.retrieve_top_k} is more than the capacity of {self.capacity} bullets"
            )
        if not self.labels and self.reflect == "wrong":
            raise ValueError("reflect 'wrong' needs gold answers: with labels false say reflect: all")
        if self.reflect == "none" and not self.exemplars:
            raise ValueError("reflect 'none' learns exemplars alone: say how many to show, exemplars: 4")
        if not self.labels and self.exemplars:
            raise ValueError("exemplars are answers found right: with labels false say exemplars: 0")
        return self
