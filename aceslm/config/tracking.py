"""The `tracking:` section of a grid file: where the story of a run is told. Never part of an identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TrackingMode = Literal["auto", "online", "offline", "disabled"]


class TrackingConfig(BaseModel):
    """How a run is tracked in W&B. `$WANDB_MODE`, where set, replaces `mode`.

    Attributes:
        mode: `auto` is online where a key is present and the server answers, else offline.
        project, entity: where the W&B runs go; entity null is the key's own.
        per_shard: a live W&B run for every shard; `auto`: up to 50 shards.
        tags, notes: on every W&B run.
        answer_timeout_s: how long the server may take to answer before the run is offline.
        finish_timeout_s: how long a task may wait at its end for what is still being sent.
        upload_timeout_s: how long the aggregation may wait for one W&B run to be sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: TrackingMode = "auto"
    project: str = Field(default="aceslm", min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")
    entity: str | None = None
    per_shard: Literal["auto"] | bool = "auto"
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    notes: str | None = None
    answer_timeout_s: float = Field(default=3.0, gt=0, le=30)
    finish_timeout_s: float = Field(default=5.0, ge=0, le=9)
    upload_timeout_s: float = Field(default=120.0, gt=0)
