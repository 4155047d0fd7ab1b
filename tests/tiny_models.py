"""Tiny random models and a tokenizer, made on the spot: real architectures, milliseconds to run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = (
    "What is the answer to this question Context Answer with number only letter of correct option",
    "revenue gross profit rose because normal anomalous 1 2 3 4 5 6 7 8 9 0 A B C D . , : ? \n",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Nothing but the messages: a test then decides every token, down to a prompt of one.
RAW_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tiny_tokenizer(*, chat: bool = True, template: str = CHAT_TEMPLATE) -> Any:
    """Return a byte-level BPE tokenizer with `<|im_start|>`, `<|im_end|>` and, if wanted, a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(WORDS * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    if chat:
        tokenizer.chat_template = template
    return tokenizer


def save_tiny_llama(folder: Path, *, chat: bool = True, context_window: int = 512, seed: int = 0) -> Path:
    """Save a two-layer random Llama with its tokenizer; return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(chat=chat)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_window,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture as a tiny random model: its transformers config class and what differs from SIZES.

    `shares` says whether the shared-prefix engine must drive it (True), must leave it to `generate`
    (False) or may do either (None). `std` is the spread of the random weights: large enough that answers
    depend on the whole prompt, small enough that rounding stays far below a near-tie.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    shares: bool | None = None
    std: float = 0.3


WINDOW = 16  # of every sliding-window family: the prompts of the tests are longer
ORIGINAL_LENGTH = 48  # of LongRoPE: some prompts of the tests are shorter, some longer
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GQA = {**SIZES, "num_key_value_heads": 2}
PARTIAL_ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * n for n in range(6)],
    "long_factor": [1.5 + 0.5 * n for n in range(6)],
    "factor": 256 / ORIGINAL_LENGTH,
}
ALTERNATING = {
    **GQA,
    "num_hidden_layers": 3,
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
FAMILIES = {
    "llama": Family("LlamaConfig", GQA, shares=True),
    "qwen2": Family("Qwen2Config", GQA),
    "qwen3": Family("Qwen3Config", {**GQA, "head_dim": 16}, shares=True),
    "mistral": Family("MistralConfig", {**GQA, "sliding_window": None}, shares=True),
    "mistral-sliding": Family("MistralConfig", {**GQA, "sliding_window": WINDOW}, shares=True),
    "phi3": Family("Phi3Config", {**SIZES, "original_max_position_embeddings": 256}, shares=True),
    "phi3-partial-rotary": Family(
        "Phi3Config",
        {**GQA, "original_max_position_embeddings": 256, "rope_parameters": PARTIAL_ROTARY},
        shares=True,
    ),
    "phi3-longrope": Family(
        "Phi3Config",
        {**GQA, "original_max_position_embeddings": ORIGINAL_LENGTH, "rope_parameters": LONG_ROPE},
    ),
    "gemma2": Family(
        "Gemma2Config",
        {**ALTERNATING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 8.0},
        std=0.2,
    ),
    "gemma3": Family("Gemma3TextConfig", ALTERNATING, shares=True, std=0.2),
    "gpt2": Family("GPT2Config", {"n_positions": 256, "n_embd": 48, "n_layer": 2, "n_head": 4}, shares=True),
    "gpt-neox": Family(
        "GPTNeoXConfig",
        {**SIZES, "rope_parameters": {**PARTIAL_ROTARY, "partial_rotary_factor": 0.25}},
        shares=True,
    ),
    "granite": Family(
        "GraniteConfig",
        {
            **GQA,
            "attention_multiplier": 0.15,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.7,
            "logits_scaling": 2.0,
        },
    ),
    "cohere": Family("CohereConfig", {**GQA, "logit_scale": 0.5}, std=0.2),
    "falcon": Family("FalconConfig", {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "olmo2": Family("Olmo2Config", GQA, std=0.2),
    "gpt-oss": Family(
        "GptOssConfig",
        {
            **GQA,
            "head_dim": 16,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "bloom": Family("BloomConfig", {"hidden_size": 48, "n_layer": 2, "n_head": 4}, shares=False),
}


def tiny_model(name: str, vocab_size: int, seed: int = 0) -> Any:
    """Return a random fp32 model of a family, with eager attention: the most literal one transformers has."""
    import torch
    import transformers

    family = FAMILIES[name]
    config = getattr(transformers, family.config)(
        vocab_size=vocab_size,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
        **family.options,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, family.std, generator=noise)
            else:  # norms and biases: a wrong one must show
                parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.2, generator=noise))
    return model.eval()


def save_tiny(folder: Path, model: Any, tokenizer: Any, end_token: int) -> Path:
    """Save a model whose answers end with `end_token`; return the folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": end_token}))
    return folder
