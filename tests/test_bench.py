"""`aceslm bench`: workloads, interleaved timing, ratios, counts, checks, the vLLM worker's protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Command
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import save_tiny_llama

from aceslm.bench.checks import check_determinism
from aceslm.bench.contender import TimedRun
from aceslm.bench.contenders import LoadOptions, LocalContender, close_all, load_contenders
from aceslm.bench.roofline import decode_bytes_per_step, necessary, prefill_flop
from aceslm.bench.timing import Repeats, time_workload
from aceslm.bench.workloads import WORKLOADS, make_workload
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.hardware import ModelShape, measure_hardware, model_shape
from aceslm.engine.scripted import ScriptedEngine
from aceslm.models.registry import resolve_model

FAKE_VLLM = """
class SamplingParams:
    def __init__(self, **options): self.options = options
class _Output:
    def __init__(self, ids): self.token_ids = ids
class _Request:
    def __init__(self, ids): self.outputs = [_Output(ids)]
class LLM:
    def __init__(self, **options):
        print("chatter on stdout")
        self.seen = set()
        if options["dtype"] != "float32": raise ValueError(f"dtype {options['dtype']}")
    def reset_prefix_cache(self): self.seen.clear()
    def generate(self, prompts, settings, use_tqdm):
        answers = []
        for prompt, wanted in zip(prompts, settings):
            key = tuple(prompt["prompt_token_ids"])
            answers.append(_Request([int(key in self.seen)] * wanted.options["max_tokens"]))
            self.seen.add(key)
        return answers
__version__ = "0.0-fake"
"""


class Slow:
    """A contender whose clock is made up; remembers the prompts of every pass."""

    keeps_prefix = False
    samples = True

    def __init__(self, walls: Sequence[float], log: list[str], name: str, token: int = 1) -> None:
        self.info = replace(ScriptedEngine().info, engine=name)
        self.walls = list(walls)
        self.passes: list[list[Prompt]] = []
        self._log = log
        self._token = token

    def run(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> TimedRun:
        self._log.append(self.info.engine)
        self.passes.append(list(prompts))
        answers = {prompt.request_id: (self._token,) * prompt.max_new_tokens for prompt in prompts}
        return TimedRun(self.walls.pop(0), answers, sum(map(len, answers.values())))

    def close(self) -> None:
        """Nothing is held."""


def words(text: str) -> int:
    return len(text.split())


def content(prompt: Prompt) -> list[str]:
    return " ".join(message.content for message in prompt.messages).split()


def test_the_ace_workload_has_the_lengths_it_names() -> None:
    prompts = make_workload("ace", words, key="0").prompts
    assert len(prompts) == 32
    assert {prompt.messages[0].content for prompt in prompts} == {prompts[0].messages[0].content}
    assert words(prompts[0].messages[0].content) == 1024
    questions = [words(prompt.messages[1].content) for prompt in prompts]
    assert min(questions) >= 40
    assert max(questions) <= 200
    assert len(set(questions)) > 5
    assert {(prompt.max_new_tokens, prompt.ignore_eos) for prompt in prompts} == {(48, True)}


def test_contexts_form_a_tree_of_two_levels() -> None:
    prompts = make_workload("contexts", words, key="0").prompts
    contexts = [prompt.messages[1].content.split("\n\n")[0] for prompt in prompts]
    assert [contexts.count(context) for context in dict.fromkeys(contexts)] == [6] * 8
    assert {words(context) for context in contexts} == {400}
    assert {words(prompt.messages[0].content) for prompt in prompts} == {512}


@pytest.mark.parametrize("name", ["short", "ragged"])
def test_workloads_without_a_prefix_share_none(name: str) -> None:
    prompts = make_workload(name, words, key="0").prompts
    assert all(message.role == "user" for prompt in prompts for message in prompt.messages)
    assert len({tuple(content(prompt)[:4]) for prompt in prompts}) == 64


@pytest.mark.parametrize("name", WORKLOADS)
def test_another_repeat_has_other_texts_of_the_same_lengths(name: str) -> None:
    first, again, other = (make_workload(name, words, key=key).prompts for key in ("0", "0", "1"))
    assert first == again
    assert [len(content(prompt)) for prompt in first] == [len(content(prompt)) for prompt in other]
    assert [prompt.max_new_tokens for prompt in first] == [prompt.max_new_tokens for prompt in other]
    assert not {tuple(content(prompt)[:8]) for prompt in first} & {
        tuple(content(prompt)[:8]) for prompt in other
    }


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12))
def test_necessary_tokens_are_the_nodes_of_the_prefix_tree(rows: list[list[int]]) -> None:
    nodes = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    found = necessary(rows)
    assert (found.tokens, found.pairs) == (len(nodes), sum(map(len, nodes)))


def test_flop_and_bytes_follow_the_formulas() -> None:
    shape = ModelShape(3, 1000, 500, 0, attention_width=8, kv_width=4)
    rows = [[1, 2, 3], [1, 2, 4]]  # 4 tokens, 1 + 2 + 3 + 3 = 9 pairs
    assert prefill_flop(shape, rows) == 2 * 1000 * 4 + 4 * 3 * 8 * 9 + 2 * 500 * 2
    assert decode_bytes_per_step(shape, rows, 10, "bfloat16", 7000) == 7000 + 2 * 3 * 4 * 2 * (4 + 10)


def test_engines_take_turns_and_medians_are_compared() -> None:
    log: list[str] = []
    contenders = {"fast": Slow([9, 1, 3, 2], log, "fast"), "generate": Slow([9, 8, 80, 16], log, "generate")}
    timing = time_workload("short", contenders, Repeats(3), encode, words, lambda _: None)
    assert log == ["fast", "generate"] * 4  # the first turn warms up
    assert timing.engines["fast"].wall_s == 2
    assert timing.engines["generate"].wall_s == 16
    assert timing.ratios == {"fast/generate": 8.0}
    assert timing.engines["fast"].samples_per_s == 32
    assert timing.engines["fast"].new_tokens_per_s == 64 * 16 / 2
    assert timing.equal_answers == {"fast/generate": 1.0}
    texts = [{prompt.request_id for prompt in asked} for asked in contenders["fast"].passes]
    assert all(not one & other for one, other in pairwise(texts))


def test_a_baseline_on_a_fraction_is_compared_by_rate_and_says_so() -> None:
    log: list[str] = []
    contenders = {"fast": Slow([9, 2, 2], log, "fast"), "generate": Slow([9, 4], log, "generate", token=2)}
    plan = Repeats(2, baseline_repeats=1, baseline_samples=16)
    timing = time_workload("short", contenders, plan, encode, words, lambda _: None)
    assert timing.engines["generate"].repeats == 1
    assert timing.engines["generate"].samples == 16
    assert timing.ratios == {"fast/generate": 8.0}  # 64 in 2 s against 16 in 4 s
    assert "16 of 64" in timing.notes[0]
    assert timing.equal_answers == {"fast/generate": 0.0}


def test_an_answer_that_depends_on_company_is_counted() -> None:
    class Sociable(Slow):
        def run(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> TimedRun:
            odd = {
                prompt.request_id: (len(prompts) if index == 0 else 0,)
                for index, prompt in enumerate(prompts)
            }
            return TimedRun(1.0, odd if not settings.temperature else dict.fromkeys(odd, (0,)), 1)

    prompts = make_workload("short", words, key="0").prompts[:4]
    found = check_determinism(Sociable([], [], "x"), prompts)
    assert (found.greedy, found.sampled) == (0.0, 1.0)


def encode(prompt: Prompt) -> list[int]:
    return [hash(word) for word in content(prompt)]


def test_a_model_is_counted_without_its_weights(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "tiny")
    found = model_shape(resolve_model(str(folder)))
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128
    assert found == ModelShape(2, 2 * layer, found.head_weights, found.head_weights, 64, 32)
    assert found.head_weights % 64 == 0


@pytest.mark.slow
def test_peaks_are_measured_at_the_dtype_asked_for() -> None:
    found = measure_hardware("cpu", "float32")
    assert found.gemm_flop_per_s > 1e9
    assert found.copy_bytes_per_s > 1e8


def test_bench_prints_the_agreed_json(aceslm: Command) -> None:
    result = aceslm(
        "bench", "--model-id", "scripted", "--engine", "scripted", "--engine", "generate", "--quick", "--json"
    )
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert list(found) == ["workloads", "hardware", "model"]
    ace, _ = found["workloads"]
    assert ace["workload"] == "ace"
    assert set(ace["engines"]) == {"scripted", "generate"}
    assert set(ace["ratios"]) == {"scripted/generate"}
    assert ace["engines"]["scripted"]["repeats"] == 3
    assert found["model"]["engines"]["scripted"]["determinism"] == {
        "prompts": 6,
        "greedy": 1.0,
        "sampled": 1.0,
    }


@pytest.mark.slow
def test_a_real_model_is_timed_against_vllm(tmp_path: Path, aceslm: Command) -> None:
    folder = save_tiny_llama(tmp_path / "tiny")
    (tmp_path / "vllm.py").write_text(FAKE_VLLM)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    engines = [f"--engine={name}" for name in ("generate", "generate_loop", "vllm", "vllm_warm")]
    shape = ["--workload", "ace", "--quick", "--repeats", "1", "--device", "cpu", "--dtype", "float32"]
    result = aceslm("bench", "--model-id", folder, *engines, *shape, "--vllm-python", python, "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    (ace,) = found["workloads"]
    assert ace["equal_answers"]["generate_loop/generate"] == 1.0
    assert 128 <= ace["distinct_prompt_tokens"] < ace["prompt_tokens"] / 2
    ours = found["model"]["engines"]["generate"]
    assert 0 < ours["roofline"]["prefill_mfu"] < 1
    assert "fp32" in ours["info"]["determinism"]
    assert found["model"]["engines"]["vllm"]["info"]["engine"] == "vllm 0.0-fake"
    assert found["model"]["engines"]["vllm_warm"]["roofline"] is None
    assert found["hardware"]["dtype"] == "float32"


@pytest.mark.slow
def test_continuous_batching_answers_like_generate(tmp_path: Path) -> None:
    spec = resolve_model(str(save_tiny_llama(tmp_path / "tiny")))
    options = LoadOptions(dtype="float32", device="cpu")
    contenders = load_contenders(spec, ["generate", "continuous"], options)
    prompts = make_workload("ragged", words, key="0", scale=1 / 8).prompts
    runs = [contender.run(prompts, GenerationSettings()) for contender in contenders.values()]
    close_all(contenders)
    assert runs[0].answers == runs[1].answers
    assert runs[0].output_tokens == sum(prompt.max_new_tokens for prompt in prompts)


def test_the_vllm_worker_empties_its_cache_only_when_told(tmp_path: Path) -> None:
    from aceslm.bench.vllm_client import load_vllm

    folder = save_tiny_llama(tmp_path / "tiny")
    (tmp_path / "vllm.py").write_text(FAKE_VLLM)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    both = load_vllm(resolve_model(str(folder)), python, "float32")
    prompts = make_workload("short", words, key="0").prompts[:2]
    try:
        for _ in range(2):
            cold, warm = (both[name].run(prompts, GenerationSettings()) for name in ("vllm", "vllm_warm"))
            assert set(cold.answers.values()) == {(0,) * 16}
            assert set(warm.answers.values()) == {(1,) * 16}
    finally:
        both["vllm"].close()
        both["vllm_warm"].close()


def test_a_vllm_that_does_not_start_says_why(tmp_path: Path, aceslm: Command) -> None:
    folder = save_tiny_llama(tmp_path / "tiny")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 3\n")
    python.chmod(0o755)
    result = aceslm("bench", "--model-id", folder, "--quick", "--device", "cpu", "--vllm-python", python)
    assert result.status == 1
    assert "no room left" in result.err


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        (["--workload", "aces"], "did you mean 'ace'?"),
        (["--engine", "vlm"], "did you mean 'vllm'?"),
        (["--engine", "generate", "--engine", "vllm"], "--vllm-python"),
        (["--engine", "vllm", "--vllm-python", sys.executable], "one more --engine"),
        (["--engine", "generate", "--engine", "generate"], "twice"),
    ],
)
def test_wrong_names_are_refused_before_anything_loads(
    aceslm: Command, words_: list[str], message: str
) -> None:
    result = aceslm("bench", "--model-id", "scripted", *words_)
    assert result.status == 2
    assert message in result.err
    assert result.out == ""


def test_a_prompt_that_fails_is_an_error_and_not_a_fast_engine(
    aceslm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_FAIL", "user:")
    result = aceslm("bench", "--model-id", "scripted", "--engine", "scripted", "--quick")
    assert result.status == 1
    assert "prompts failed" in result.err


def test_a_local_engine_reports_every_answer() -> None:
    prompts = make_workload("short", words, key="0").prompts[:3]
    done = LocalContender(ScriptedEngine()).run(prompts, GenerationSettings())
    assert done.answers.keys() == {prompt.request_id for prompt in prompts}
    assert done.output_tokens > 0
