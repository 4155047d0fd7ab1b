"""Words with few values, as types: modes, quantizations, answer types."""

from __future__ import annotations

from typing import Literal

Mode = Literal["baseline", "scaffold", "ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"]


PLAYBOOK_MODES = frozenset({"ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"})


Quantization = Literal["none", "int8", "nf4"]


Dtype = Literal["auto", "bfloat16", "float16", "float32"]


AnswerType = Literal["choice", "number", "span", "label"]
