"""Model files that are damaged or do not belong together: refused in one line, before or at the load."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    also,
    both,
    configured,
    copy_of,
    cut,
    holding,
    removed,
    renamed,
    rewrite,
    sharded,
    without,
)
from conftest import Command
from tiny_models import FAMILIES, save_tiny, save_tiny_llama, tiny_model, tiny_tokenizer

from aceslm.core.errors import BrokenModel, EngineError, ModelUnavailable
from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import ModelSpec
from aceslm.engine import load_engine
from aceslm.engine.checks import refuse_misfit
from aceslm.engine.loading import LoadedModel, load_model
from aceslm.models.checkpoint import check_checkpoint
from aceslm.models.registry import prestage_model, resolve_model

pytestmark = pytest.mark.usefixtures("one_core")

Change = Callable[[Path], None]
QUANT_STATE = {
    "model__layers__0__mlp__up_proj__weight__absmax": torch.ones(8),
    "model__layers__0__mlp__up_proj__weight__quant_map": torch.ones(16),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "good")


def load(folder: Path, **options: Any) -> LoadedModel:
    given = {"quantization": "none", "dtype": "float32", "device": "cpu", **options}
    return load_model(resolve_model(str(folder)), **given)


# ---- what the files alone give away: refused before a run directory is written

FILES: dict[str, tuple[Change, str]] = {
    "torch.compile": (
        renamed("_orig_mod.{}".format),
        "21 of 21 weights are named after a wrapper, first _orig_mod.lm_head.weight: saved from "
        "torch.compile: strip '_orig_mod.'",
    ),
    "a compiled part": (
        renamed(lambda key: key.replace("model.layers", "model._orig_mod.layers")),
        "saved from torch.compile: strip '_orig_mod.'",
    ),
    "data parallel": (renamed("module.{}".format), "saved from DataParallel: strip 'module.'"),
    "PEFT": (renamed("base_model.model.{}".format), "saved from PEFT: strip 'base_model.model.'"),
    "FSDP": (renamed("_fsdp_wrapped_module.{}".format), "saved from FSDP"),
    "adapter beside its weights": (
        renamed(lambda key: key.replace("q_proj.weight", "q_proj.lora_A.weight")),
        "an adapter that was not merged: model.layers.0.self_attn.q_proj.lora_A.weight",
    ),
    "more layers than weights": (configured(num_hidden_layers=9), "says 9 layers, the weights hold 2"),
    "fewer layers than weights": (configured(num_hidden_layers=1), "says 1 layers, the weights hold 2"),
    "a layer in the middle is gone": (
        both(configured(num_hidden_layers=3), renamed(lambda key: key.replace("layers.1.", "layers.2."))),
        "says 3 layers, the weights hold 2",
    ),
    "another width": (configured(hidden_size=32), "tokens of 32 numbers, the weights hold"),
    "another vocabulary": (configured(vocab_size=999), "config.json says 999 tokens"),
    "cut weights": (cut("model.safetensors", 0.7), "model.safetensors is cut off ("),
    "weights cut in their header": (cut("model.safetensors", 0.002), "is no complete safetensors file"),
    "empty weights": (holding("model.safetensors", b""), "is no complete safetensors file (0 bytes)"),
    "a header of nonsense": (
        holding("model.safetensors", (20).to_bytes(8, "little") + b"x" * 40),
        "model.safetensors has no readable header",
    ),
    "LFS weights": (
        holding("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "model.safetensors is a Git LFS pointer, not the weights: `git lfs pull` fetches them",
    ),
    "LFS tokenizer": (
        holding("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "tokenizer.json is a Git LFS pointer",
    ),
    "a shard that is not there": (
        both(sharded, removed("model-00002-*.safetensors")),
        "files that model.safetensors.index.json names are missing",
    ),
    "a cut shard": (
        both(sharded, lambda folder: cut(min(path.name for path in folder.glob("model-*")), 0.9)(folder)),
        "is cut off (",
    ),
    "shards without their index": (
        both(sharded, removed("*.index.json")),
        "it has neither model.safetensors nor model.safetensors.index.json, only model-00001-of-",
    ),
    "an index that names nothing": (
        both(sharded, holding("model.safetensors.index.json", {"metadata": {}})),
        "model.safetensors.index.json has no weight_map",
    ),
    "weights of another name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "consolidated.safetensors") and None,
        "only consolidated.safetensors (1)",
    ),
    "empty configuration": (holding("config.json", {}), "config.json holds nothing"),
    "configuration of no bytes": (holding("config.json", b""), "config.json:1 is empty"),
    "configuration that is a list": (holding("config.json", b"[]"), "config.json holds a list"),
    "configuration without a type": (configured(model_type=None), "config.json has no key model_type"),
    "cut tokenizer": (cut("tokenizer.json", 0.5), "tokenizer.json:"),
    "broken generation settings": (
        holding("generation_config.json", b"{,}"),
        "generation_config.json:1 is not",
    ),
    "no tokenizer": (removed("tokenizer*"), "it has no tokenizer (tokenizer.json)"),
    "adapter alone": (
        both(
            removed("config.json"),
            holding("adapter_config.json", {"base_model_name_or_path": "org/base"}),
            lambda folder: (
                (folder / "model.safetensors").rename(folder / "adapter_model.safetensors") and None
            ),
        ),
        "holds an adapter (adapter_config.json) of org/base: merge it",
    ),
    "adapter and model in one folder": (
        holding("adapter_config.json", {"base_model_name_or_path": "org/base"}),
        "holds an adapter (adapter_config.json) of org/base: merge it",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_do_not_fit_are_refused_before_any_work(
    case: str, aceslm: Command, saved: Path, tmp_path: Path
) -> None:
    change, message = FILES[case]
    change(copy_of(saved, tmp_path / "copy"))
    grid = tmp_path / "grid.yaml"
    grid.write_text("models: [./copy]\ntasks: [iot_tiny]\nmodes: [baseline]\n")
    for command in (
        ("run", "--model-id", "./copy", "--task-name", "iot_tiny"),
        ("submit", "grid.yaml", "--dry-run"),
        ("prestage", "--model-id", "./copy"),
    ):
        result = aceslm(*command)
        assert message in result.err
        assert "copy' does not load" in result.err
        assert result.status == 2
        assert "Traceback" not in result.err
        assert "retry" not in result.err
        assert "loads offline" not in result.out
        assert len([line for line in result.err.splitlines() if "does not load" in line]) == 1
    assert not (tmp_path / "results").exists()


def test_a_damaged_hub_model_is_refused_and_says_how_to_fetch_it_again(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot = copy_of(saved, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert resolve_model("org/tiny").revision == "a" * 40
    cut("model.safetensors", 0.5)(snapshot)
    with pytest.raises(BrokenModel, match=r"'org/tiny' .* is cut off .*aceslm prestage --model-id org/tiny"):
        resolve_model("org/tiny")


def test_a_hub_model_of_which_only_the_tokenizer_is_here_is_not_called_broken(
    saved: Path, tmp_path: Path
) -> None:
    removed("*.safetensors")(copy_of(saved, tmp_path / "tokenizer"))
    check_checkpoint(tmp_path / "tokenizer", "tokenizer")


def test_a_repaired_file_is_looked_at_again(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    cut("model.safetensors", 0.5)(folder)
    with pytest.raises(BrokenModel):
        resolve_model(str(folder))
    shutil.copy(saved / "model.safetensors", folder)
    resolve_model(str(folder))


# ---- what only the load shows

LOADS: dict[str, tuple[Change, str]] = {
    "an unknown wrapper": (renamed("student.{}".format), "strip 'student.'"),
    "a model inside two others": (renamed("model.model.{}".format), "strip 'model.model.'"),
    "a base model without its head": (
        without("lm_head.weight"),
        "missing: lm_head.weight (1)): no output layer was saved",
    ),
    "one weight is missing": (
        without("model.layers.1.mlp.up_proj.weight"),
        "missing: model.layers.1.mlp.up_proj.weight (1)",
    ),
    "a weight too many": (
        also(model__layers__0__mlp__extra__weight=torch.ones(3)),
        "not in the model: model.layers.0.mlp.extra.weight (1)",
    ),
    "a value head": (
        also(v_head__summary__weight=torch.ones(1, 64)),
        "not in the model: v_head.summary.weight (1)",
    ),
    "one weight of another size": (
        lambda folder: rewrite(
            folder, lambda tensors: {**tensors, "model.layers.0.mlp.up_proj.weight": torch.ones(64, 64)}
        ),
        "of another size: model.layers.0.mlp.up_proj.weight 64x64 instead of 128x64 (1)",
    ),
    "heads of another size": (
        configured(num_key_value_heads=4),
        "of another size: model.layers.0.self_attn.k_proj",
    ),
    "quantized without saying so": (
        also(**QUANT_STATE),
        "the weights are quantized and config.json does not say how",
    ),
    "NaN in a norm": (
        lambda folder: rewrite(
            folder, lambda tensors: {**tensors, "model.norm.weight": torch.full((64,), torch.nan)}
        ),
        "of its own logits are NaN or infinite: its weights are damaged (dtype float32)",
    ),
    "one NaN": (
        lambda folder: rewrite(folder, lambda tensors: poisoned(tensors, "lm_head.weight", torch.nan)),
        "of its own logits are NaN or infinite",
    ),
    "one infinite weight": (
        lambda folder: rewrite(folder, lambda tensors: poisoned(tensors, "lm_head.weight", torch.inf)),
        "of its own logits are NaN or infinite",
    ),
    "an output layer of zeros": (
        lambda folder: rewrite(
            folder, lambda tensors: {**tensors, "lm_head.weight": 0 * tensors["lm_head.weight"]}
        ),
        "its own logits are all equal",
    ),
    "a template that fails": (
        holding("chat_template.jinja", "{{ raise_exception('no chat') }}"),
        "its chat template fails: TemplateError: no chat",
    ),
    "a template that leaves out the question": (
        holding("chat_template.jinja", "{{ messages[0]['role'] }}"),
        "its chat template leaves out what is asked",
    ),
    "a configuration of nonsense": (configured(num_attention_heads="many"), "does not load: "),
    "a tokenizer of nonsense": (holding("tokenizer.json", {"model": {"type": "none"}}), "does not load: "),
}


def poisoned(tensors: dict[str, Any], key: str, value: float) -> dict[str, Any]:
    changed = tensors[key].clone()
    changed[-1, -1] = value
    return {**tensors, key: changed}


@pytest.mark.parametrize("case", LOADS)
def test_weights_that_do_not_fit_are_refused_at_the_load(case: str, saved: Path, tmp_path: Path) -> None:
    change, message = LOADS[case]
    folder = copy_of(saved, tmp_path / "copy")
    change(folder)
    with pytest.raises(BrokenModel) as refusal:
        load(folder)
    assert message in str(refusal.value)
    assert f"model '{folder}' does not load: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", ["an unknown wrapper", "one NaN", "a base model without its head"])
def test_a_run_of_weights_that_do_not_fit_says_why_in_one_line_and_scores_nothing(
    case: str, aceslm: Command, saved: Path, tmp_path: Path
) -> None:
    change, message = LOADS[case]
    change(copy_of(saved, tmp_path / "copy"))
    (tmp_path / "grid.yaml").write_text("models: [./copy]\ntasks: [iot_tiny]\nmodes: [baseline, ace]\n")
    one = ("--model-id", "./copy", "--task-name", "iot_tiny")
    for verb in (("run", *one), ("evolve", *one), ("submit", "grid.yaml", "--cluster", "debug")):
        result = aceslm(*verb, "--device", "cpu", "--limit", "1")
        last = result.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert message in last
        assert result.status == 2
        assert "Traceback" not in result.err
        assert "retry" not in result.err
        assert "0.000" not in result.out


def test_where_some_models_answer_the_one_that_cannot_is_named_at_the_end(
    aceslm: Command, saved: Path, tmp_path: Path
) -> None:
    without("lm_head.weight")(copy_of(saved, tmp_path / "copy"))
    grid = tmp_path / "grid.yaml"
    grid.write_text("models: [scripted, ./copy]\ntasks: [iot_tiny]\nmodes: [baseline]\nlimit: 1\n")
    result = aceslm("submit", grid, "--cluster", "debug", "--device", "cpu")
    assert result.status == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("error: 1 of 2 shards cannot be answered: model '")
    assert "no output layer was saved" in last


@pytest.mark.slow
def test_prestage_refuses_weights_that_only_the_load_shows_to_be_wrong(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    without("model.layers.1.mlp.up_proj.weight")(folder)
    with pytest.raises(BrokenModel, match=r"copy' does not load offline: .*up_proj\.weight \(1\)"):
        prestage_model(str(folder), report=lambda _: None)


def test_the_embedding_model_of_a_similarity_is_not_taken_with_random_weights(
    saved: Path, tmp_path: Path
) -> None:
    from aceslm.engine.embedding import similarities

    folder = copy_of(saved, tmp_path / "copy")
    without("model.layers.1.mlp.up_proj.weight")(folder)
    with pytest.raises(BrokenModel, match=r"missing: layers\.1\.mlp\.up_proj\.weight"):
        similarities(resolve_model(str(folder)), ["a"], ["b"], "cpu")


def test_a_lack_of_memory_at_the_load_is_not_taken_for_broken_files(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        load(saved)


def test_a_model_that_does_not_compute_on_the_device_says_so(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no kernel for this dtype\nmore")

    monkeypatch.setattr("transformers.LlamaForCausalLM.forward", no_kernel)
    with pytest.raises(
        EngineError, match=r"on cpu in float32: NotImplementedError: no kernel for this dtype$"
    ):
        load(saved)


def test_a_package_that_is_missing_is_not_taken_for_broken_files(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_package(*_: Any, **__: Any) -> None:
        raise ImportError("tiktoken is required")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", no_package)
    with pytest.raises(ModelUnavailable, match="tiktoken is required") as refusal:
        load(saved)
    assert refusal.value.exit_status == 1


# ---- what must go on loading


def tied(folder: Path) -> None:
    """As save_pretrained writes a model whose output layer is its embedding."""
    both(without("lm_head.weight"), configured(tie_word_embeddings=True))(folder)


FINE: dict[str, Change] = {
    "as saved": lambda _: None,
    "tied": tied,
    "in shards": sharded,
    "an old rotary buffer": also(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(8)),
    "old positions": also(model__position_ids=torch.arange(9)[None]),
    "a causal mask that was saved": also(model__layers__0__self_attn__bias=torch.ones(1, 1, 4, 4)),
    "a file of another framework": holding("consolidated.safetensors", b"not read"),
    "a state of training": holding("trainer_state.json", b"not read ["),
    "a token that was added and is not used": lambda folder: with_extra_tokens(folder, "<image>"),
}


def with_extra_tokens(folder: Path, *tokens: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("case", FINE)
def test_what_fits_goes_on_loading(case: str, saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    FINE[case](folder)
    load(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_on_loading(family: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    load(save_tiny(tmp_path / "m", tiny_model(family, len(tokenizer)), tokenizer, 1))


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix("model."),
        lambda key: key.replace("model.", "model.model.", 1),
        "model.{}".format,
    ],
    ids=["bare", "base twice", "all inside one"],
)
def test_names_that_transformers_understands_give_the_same_logits(
    rename: Callable[[str], str], saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    renamed(rename)(folder)
    ids = torch.arange(12)[None]
    assert torch.equal(load(folder).model(ids).logits, load(saved).model(ids).logits)


def test_a_tied_model_computes_with_its_embedding(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    tied(folder)
    model = load(folder).model
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_a_gpt2_saved_without_its_head_and_with_old_masks_loads(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = tiny_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    renamed(lambda key: key.removeprefix("transformer."))(tmp_path / "m")
    also(h__0__attn__bias=torch.ones(1, 1, 64, 64), h__0__attn__masked_bias=torch.tensor(-1e4))(
        tmp_path / "m"
    )
    loaded = load(tmp_path / "m").model
    assert torch.equal(loaded.transformer.wte.weight, model.transformer.wte.weight)


def test_layers_for_training_that_the_configuration_names_are_no_fault(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    configured(num_nextn_predict_layers=1)(folder)
    also(model__layers__2__eh_proj__weight=torch.ones(3))(folder)
    check_checkpoint(folder, "copy")


# ---- what rows would say


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_checkpoint_is_loaded_only_as_what_it_is(kind: str, saved: Path, tmp_path: Path) -> None:
    full = load(saved, quantization=kind, dtype="bfloat16")
    full.model.save_pretrained(tmp_path / "m")
    full.tokenizer.save_pretrained(tmp_path / "m")
    assert load(tmp_path / "m", quantization=kind, dtype="bfloat16").quantization == kind
    other = {"int8": "nf4", "nf4": "int8"}[kind]
    for wanted in ("none", other):
        with pytest.raises(
            BrokenModel, match=rf"quantized already \({kind}\), and rows would say '{wanted}'"
        ):
            load(tmp_path / "m", quantization=wanted, dtype="bfloat16")


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(saved: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = copy_of(saved, tmp_path / "copy")
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["vocab"] |= {f"word{n}": 1000 + n for n in range(500)}
    path.write_text(json.dumps(value))
    Tokenizer.from_file(str(path))
    with pytest.raises(BrokenModel, match=r"its tokenizer knows [\d,]+ tokens, its embedding 320"):
        load(folder)


def test_a_chat_template_whose_control_tokens_have_no_embedding_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "copy")
    with_extra_tokens(folder, "<|turn|>")
    template = "{% for m in messages %}<|turn|>{{ m['content'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(BrokenModel, match=r"'<\|turn\|>' is 320: they belong to different models"):
        load(folder)


def test_padding_that_the_embedding_does_not_have_is_replaced(saved: Path, tmp_path: Path) -> None:
    from near_ties import GREEDY

    from aceslm.core.engine import never

    folder = copy_of(saved, tmp_path / "copy")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    tokenizer.save_pretrained(folder)
    prompts = [
        Prompt(text, (Message("user", text),), max_new_tokens=5) for text in ("revenue", "gross profit " * 9)
    ]
    spec = resolve_model(str(folder))
    engine = load_engine(spec, engine="generate", dtype="float32", device="cpu", batch_size=2)
    expected = load_engine(
        resolve_model(str(saved)), engine="generate", dtype="float32", device="cpu", batch_size=2
    )
    answers = [
        {one.request_id: one.token_ids for one in either.generate(prompts, GREEDY, never)}
        for either in (engine, expected)
    ]
    assert answers[0] == answers[1]


def test_a_template_that_drops_the_system_message_gets_it_in_the_first_user_message(saved: Path) -> None:
    from aceslm.engine.chat_template import Prompter

    template = (
        "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['content'] }}]{% endif %}{% endfor %}"
    )
    prompter = Prompter(tiny_tokenizer(template=template), ModelSpec("m", "m", "r"))
    messages = (Message("system", "Only the letter."), Message("user", "Which?"))
    assert prompter.render(Prompt("r", messages, 1)) == "[Only the letter.\n\nWhich?]"


def test_a_model_without_a_chat_template_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(save_tiny_llama(tmp_path / "plain", chat=False))
    assert "has no chat template" in caplog.text
    caplog.clear()
    load(save_tiny_llama(tmp_path / "chat"))
    assert "chat template" not in caplog.text


def test_weights_that_do_not_come_in_the_promised_dtype_are_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    real = transformers.AutoModelForCausalLM.from_pretrained

    def other_dtype(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **{**options, "dtype": torch.float32})

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", other_dtype)
    with pytest.raises(EngineError, match="came in float32, not in bfloat16"):
        load(saved, dtype="bfloat16")


def test_a_key_list_says_the_first_keys_and_how_many() -> None:
    info = {
        "missing_keys": {f"layers.{n}.weight" for n in range(9)},
        "unexpected_keys": set(),
        "mismatched_keys": set(),
        "error_msgs": [],
    }
    with pytest.raises(BrokenModel, match=r"missing: layers\.0\.weight, layers\.1\.weight, \.\.\. \(9\)"):
        refuse_misfit(ModelSpec("m", "m", "r"), info)


def test_files_are_judged_without_torch(saved: Path) -> None:
    import subprocess

    code = (
        "import sys\nfrom aceslm.models.registry import resolve_model\nresolve_model(sys.argv[1])\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)
