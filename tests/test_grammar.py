"""Replies that follow a JSON schema, on tiny random models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_llama, tiny_tokenizer

from aceslm.ace.roles.schemas import CURATOR_JSON, REFLECTOR_JSON
from aceslm.core.engine import Engine, never
from aceslm.core.errors import EngineError
from aceslm.core.prompts import Completion, Message, Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine import load_engine
from aceslm.engine.grammar.bounded_schema import check_bounded
from aceslm.engine.grammar.masks import Grammars, Matcher, _pack, _unpack
from aceslm.engine.grammar.position import bounded_strings
from aceslm.engine.sampling import gumbel_noise, sampling_scores
from aceslm.models.registry import resolve_model

HOT = GenerationSettings(temperature=1.5)
END = 1
WIDTH = 352  # the tiny tokenizer has 320 tokens
SECTIONS = ["rules", "formulas", "pitfalls"]
DELTAS = json.dumps(
    {
        "type": "object",
        "properties": {
            "deltas": {
                "type": "array",
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {
                        "op": {"const": "ADD"},
                        "section": {"enum": SECTIONS},
                        "text": {"type": "string", "maxLength": 12},
                    },
                    "required": ["op", "section", "text"],
                },
            }
        },
        "required": ["deltas"],
    }
)
RATING = json.dumps(
    {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": 0, "maximum": 120},
            "sure": {"type": "boolean"},
            "tag": {"type": "string", "pattern": "^[a-z]{1,4}$"},
        },
        "required": ["score", "sure", "tag"],
    }
)


ALTERNATIVES = json.dumps(  # what follows a string depends on more than its length, or on a name used twice
    {
        "type": "object",
        "properties": {
            "unit": {"type": "string", "pattern": "^(kg|m{1,2}s)$"},
            "mode": {"enum": ["fast", "slow"]},
            "more": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"id": {"type": "string", "pattern": "^b[1-9][0-9]{0,2}$"}},
                        "required": ["id"],
                    },
                    {
                        "type": "object",
                        "properties": {"mode": {"type": "string", "maxLength": 3}},
                        "required": ["mode"],
                    },
                ]
            },
        },
        "required": ["unit", "mode", "more"],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(tiny_tokenizer(), WIDTH)


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    loaded = make(folder, 30)
    yield loaded
    loaded.close()


def make(folder: Path, batch_size: int, name: str = "generate") -> Engine:
    engine = load_engine(
        resolve_model(str(folder)), engine=name, dtype="float32", device="cpu", batch_size=batch_size
    )
    assert engine.info.engine_effective == name
    return engine


def prompt(name: str, schema: str | None, new: int = 320) -> Prompt:
    return Prompt(name, (Message("user", "What is 1?"),), max_new_tokens=new, json_schema=schema)


def answers(
    engine: Engine, prompts: list[Prompt], settings: GenerationSettings = HOT
) -> dict[str, Completion]:
    return {completion.request_id: completion for completion in engine.generate(prompts, settings, never)}


def assert_deltas(completion: Completion, longest: int = 12) -> None:
    assert completion.finish_reason == "stop"
    reply = json.loads(completion.text)
    assert list(reply) == ["deltas"]
    assert len(reply["deltas"]) <= 3
    for delta in reply["deltas"]:
        assert list(delta) == ["op", "section", "text"]
        assert delta["op"] == "ADD"
        assert delta["section"] in SECTIONS
        assert len(delta["text"]) <= longest


def assert_rating(completion: Completion) -> None:
    assert completion.finish_reason == "stop"
    reply = json.loads(completion.text)
    assert list(reply) == ["score", "sure", "tag"]
    assert 0 <= reply["score"] <= 120
    assert isinstance(reply["sure"], bool)
    assert 1 <= len(reply["tag"]) <= 4


def allowed(grammars: Grammars, matcher: Any) -> list[int]:
    masked = grammars.mask(torch.zeros(1, WIDTH), [matcher])
    return masked[0].isfinite().nonzero().flatten().tolist()


def spell(matcher: Any, text: bytes) -> None:
    """Feed a text without blanks and control characters to a matcher, one byte a token."""
    vocabulary = tiny_tokenizer().get_vocab()
    for byte in text:
        assert matcher.accept(vocabulary[letter(byte)]), text


def letter(byte: int) -> str:
    """Return how a byte-level vocabulary writes a byte: the others in order from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in plain:
        return chr(byte)
    return chr(0x100 + [other for other in range(256) if other not in plain].index(byte))


@pytest.mark.slow
def test_hot_random_models_write_valid_json_every_time_and_stop(engine: Engine) -> None:
    found = answers(engine, [prompt(f"r{n}", DELTAS) for n in range(30)])
    for completion in found.values():
        assert_deltas(completion)
    assert len({completion.text for completion in found.values()}) > 10


def test_greedy_replies_follow_the_schema_too(engine: Engine) -> None:
    assert_rating(answers(engine, [prompt("r", RATING)], GenerationSettings())["r"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate", "shared_prefix"])
def test_rows_with_two_schemas_and_without_do_not_disturb_each_other(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aceslm.engine.shared_prefix.MIN_SAVED_TOKENS", 8)
    schemas = [DELTAS, None, RATING, None, DELTAS, RATING]
    prompts = [prompt(f"r{n}", schema, 300 if schema else 20) for n, schema in enumerate(schemas)]
    together = answers(make(folder, 6, name), prompts)
    alone = make(folder, 1, name)
    for one in prompts:
        assert answers(alone, [one])[one.request_id].token_ids == together[one.request_id].token_ids
    for name in ("r0", "r4"):
        assert_deltas(together[name])
    for name in ("r2", "r5"):
        assert_rating(together[name])


@pytest.mark.parametrize(
    "settings",
    [
        GenerationSettings(temperature=1.0, top_k=1),
        GenerationSettings(temperature=1.0, top_p=0.1),
        GenerationSettings(temperature=1.0, min_p=0.9),
        GenerationSettings(temperature=1.0, repetition_penalty=3.0),
    ],
)
def test_filters_count_legal_tokens_only(engine: Engine, settings: GenerationSettings) -> None:
    assert_rating(answers(engine, [prompt("r", RATING)], settings)["r"])


def test_an_out_of_memory_retry_starts_its_grammars_afresh(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = json.dumps({"enum": SECTIONS})
    expected = answers(engine, [prompt(f"r{n}", section) for n in range(4)])
    real = engine._loaded.model.generate

    def tight(input_ids: torch.Tensor, **arguments: Any) -> Any:
        result = real(input_ids=input_ids, **arguments)
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result

    monkeypatch.setattr(engine._loaded.model, "generate", tight)
    found = answers(engine, [prompt(f"r{n}", section) for n in range(4)])
    assert {k: v.text for k, v in found.items()} == {k: v.text for k, v in expected.items()}


def test_the_mask_leaves_rows_without_a_grammar_bit_equal(grammars: Grammars) -> None:
    logits = torch.randn(3, WIDTH)
    before = logits.clone()
    masked = grammars.mask(logits, [None, grammars.matcher(RATING, [END]), None])
    assert torch.equal(logits, before)
    assert torch.equal(masked[[0, 2]], logits[[0, 2]])
    legal = masked[1].isfinite()
    assert 0 < legal.sum() < 10
    assert torch.equal(masked[1][legal], logits[1][legal])
    assert grammars.mask(logits, [None] * 3) is logits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_mask_takes_half_precision(grammars: Grammars, dtype: torch.dtype) -> None:
    full = grammars.mask(torch.zeros(1, WIDTH), [grammars.matcher(RATING, [END])])
    half = grammars.mask(torch.zeros(1, WIDTH, dtype=dtype), [grammars.matcher(RATING, [END])])
    assert torch.equal(half.float(), full)


def test_padding_rows_and_control_tokens_are_never_allowed(grammars: Grammars) -> None:
    matcher = grammars.matcher('{"type": "string", "maxLength": 9}', [END])
    spell(matcher, b'"a')
    legal = allowed(grammars, matcher)
    assert not {0, 1, 2} & set(legal)
    assert max(legal) < 320
    vocabulary = tiny_tokenizer().get_vocab()
    assert vocabulary["b"] in legal
    assert vocabulary[letter(0x09)] not in legal
    assert not matcher.accept(vocabulary[letter(0x09)])


def test_bytes_of_a_surrogate_are_not_allowed_but_korean_is(grammars: Grammars) -> None:
    korean = grammars.matcher('{"type": "string", "maxLength": 9}', [END])
    spell(korean, '"한'.encode())
    surrogate = grammars.matcher('{"type": "string", "maxLength": 9}', [END])
    spell(surrogate, b'"\xed')
    vocabulary = tiny_tokenizer().get_vocab()
    legal = allowed(grammars, surrogate)
    assert vocabulary[letter(0x95)] in legal
    assert vocabulary[letter(0xA0)] not in legal


def test_end_tokens_are_allowed_exactly_when_the_json_is_complete(grammars: Grammars) -> None:
    ends = (END, 319)
    matcher = grammars.matcher('{"enum": ["yes"]}', ends)
    spell(matcher, b'"yes')
    assert not set(ends) & set(allowed(grammars, matcher))
    assert not matcher.accept(END)
    spell(matcher, b'"')
    assert allowed(grammars, matcher) == sorted(ends)
    assert not matcher.finished
    assert matcher.accept(319)
    assert matcher.finished
    assert not matcher.accept(END)
    logits = torch.randn(1, WIDTH)
    assert grammars.mask(logits, [matcher]) is logits


def test_a_model_without_end_tokens_finishes_with_its_json(grammars: Grammars) -> None:
    matcher = grammars.matcher('{"enum": ["yes"]}', ())
    spell(matcher, b'"yes')
    assert not matcher.finished
    spell(matcher, b'"')
    assert matcher.finished


def test_json_is_compact(grammars: Grammars) -> None:
    matcher = grammars.matcher(RATING, [END])
    spell(matcher, b'{"score":7,"sure":true,"tag":"ab"}')
    assert allowed(grammars, matcher) == [END]


@pytest.mark.parametrize("schema", [REFLECTOR_JSON, CURATOR_JSON], ids=["reflector", "curator"])
def test_schemas_with_several_patterns_compile(grammars: Grammars, schema: str) -> None:
    first, second = (grammars.matcher(schema, (1,)) for _ in range(2))
    logits = torch.zeros(2, WIDTH)
    assert torch.isinf(grammars.mask(logits, [first, second])).any()


@pytest.mark.parametrize("schema", [DELTAS, RATING, REFLECTOR_JSON, CURATOR_JSON, ALTERNATIVES])
def test_what_is_kept_of_a_place_is_what_the_grammar_says_there(schema: str) -> None:
    kept, fresh = Grammars(tiny_tokenizer(), WIDTH), Grammars(tiny_tokenizer(), WIDTH)
    chosen = torch.Generator().manual_seed(0)
    for _ in range(6):  # replies part ways at random and come back to places that others have been at
        rows = [(kept.matcher(schema, [END]), fresh.matcher(schema, [END])) for _ in range(3)]
        while rows:
            words = kept._allowed([row[0] for row in rows])
            assert torch.equal(words, fresh._filled([row[1] for row in rows]) & _harmless(fresh, rows))
            for row, allowed in zip(list(rows), _unpack(words), strict=True):
                tokens = allowed.nonzero().flatten()
                token = int(tokens[torch.randint(len(tokens), (1,), generator=chosen)])
                assert all(matcher.accept(token) for matcher in row)
            rows = [row for row in rows if not row[0].finished]


def _harmless(grammars: Grammars, rows: list[tuple[Matcher, Matcher]]) -> torch.Tensor:
    every = torch.full_like(grammars._not_high, -1)
    return torch.stack([grammars._not_high if row[1].may_be_surrogate else every for row in rows])


def test_only_strings_whose_length_decides_are_counted() -> None:
    assert bounded_strings(ALTERNATIVES) == {"id"}
    assert bounded_strings(DELTAS) == {"text"}
    assert bounded_strings(REFLECTOR_JSON) == {"diagnosis", "lesson", "helpful", "harmful"}
    assert bounded_strings(CURATOR_JSON) == {"section", "text", "id", "ids"}


def test_a_place_that_a_reply_has_been_at_is_not_asked_for_again(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    fill = grammars._filled
    monkeypatch.setattr(
        grammars, "_filled", lambda matchers: (asked.append(len(matchers)), fill(matchers))[1]
    )

    def walk(text: str, rows: int) -> None:
        matchers = [grammars.matcher(REFLECTOR_JSON, [END]) for _ in range(rows)]
        for token in tiny_tokenizer()(text, add_special_tokens=False).input_ids:
            grammars._allowed(matchers)
            assert all(matcher.accept(token) for matcher in matchers)

    walk('{"diagnosis":"abcd","lesson":"abcdefgh ijkl', 4)
    assert set(asked) == {1}  # four rows at one place are one question
    asked.clear()
    walk('{"diagnosis":"wxyz","lesson":"ponmlkji hgfe', 2)
    assert sum(asked) < 5  # other words of the same length: at most where their tokens are cut otherwise


def test_bits_pack_in_the_order_of_the_tokens() -> None:
    flags = torch.rand(70) < 0.5
    words = _pack(flags)
    assert words.dtype == torch.int32
    assert torch.equal(_unpack(words[None])[0, :70], flags)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{"type": "string"}', r"\$ has no maxLength"),
        ('{"type": "array", "items": {"type": "null"}}', r"\$ has no maxItems"),
        ('{"type": "array", "maxItems": 2}', r"\$\[\] must be an object"),
        ('{"type": "object", "properties": {"a": {"type": "string"}}}', r"\$\.a has no maxLength"),
        ('{"type": "string", "pattern": "^[a-z]+$"}', "pattern without an end"),
        ('{"type": "string", "pattern": "a{2,}"}', "pattern without an end"),
        ('{"type": "string", "pattern": "[a-z]", "maxLength": 3}', "put the length into the pattern"),
        ('{"type": "integer", "minimum": 0}', "has no maximum"),
        ('{"type": "object"}', "has no properties"),
        (
            '{"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": true}',
            "any property",
        ),
        ('{"anyOf": [{"const": 1}, {"type": "string"}]}', "no maxLength"),
        ('{"type": ["null", "string"]}', "no maxLength"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}', "no maxLength"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}', "refers to itself"),
        ('{"type": "string", "maxLength": 3, "allOf": []}', "uses allOf"),
        ('{"type": "strnig"}', 'type "strnig"'),
        ("{}", "type null"),
        ("{nonsense", "not JSON"),
        ('{"type": "string", "maxLength": 2, "minLength": 5}', "minLength 5 is greater than maxLength 2$"),
    ],
)
def test_an_unbounded_or_broken_schema_is_refused_in_one_line(
    grammars: Grammars, schema: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        grammars.matcher(schema, [END])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        DELTAS,
        RATING,
        r'{"type": "string", "pattern": "^[*+]\\*{1,3}$"}',
        '{"type": ["string", "null"], "maxLength": 3}',
        '{"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"enum": [1]}}}',
        '{"type": "number", "exclusiveMinimum": 0, "maximum": 1}',
    ],
)
def test_a_bounded_schema_is_taken(schema: str) -> None:
    check_bounded(schema)


def test_a_bad_schema_in_a_prompt_breaks_the_run_with_its_own_words(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"^JSON schema: \$ has no maxLength"):
        answers(engine, [prompt("r", '{"type": "string"}')])


@pytest.mark.slow
def test_importing_the_engines_does_not_import_xgrammar() -> None:
    code = "import sys, aceslm.engine.generate; sys.exit('xgrammar' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_noise_in_a_batch_equals_the_noise_of_each_request() -> None:
    logits = torch.randn(5, 1000)
    names, positions = [f"r{n}" for n in range(5)], [0, 7, 7, 2, 9]
    scores = sampling_scores(logits, names, positions, GenerationSettings(temperature=1.0))
    for row in range(5):
        assert torch.equal(scores[row], logits[row] + gumbel_noise(names[row], positions[row], 1000))


@pytest.mark.real_model
@pytest.mark.usefixtures("prestaged")
def test_smollm2_writes_valid_deltas_sixteen_times() -> None:
    realistic = json.loads(DELTAS)
    realistic["properties"]["deltas"]["maxItems"] = 3
    realistic["properties"]["deltas"]["items"]["properties"]["text"]["maxLength"] = 120
    engine = load_engine(resolve_model("smollm2-135m-gguf"), device="cpu", batch_size=16)
    question = Message(
        "user", "Suggest up to three short rules for reading a financial table. Reply in JSON."
    )
    prompts = [
        Prompt(f"r{n}", (question,), max_new_tokens=480, json_schema=json.dumps(realistic)) for n in range(16)
    ]
    found = list(engine.generate(prompts, GenerationSettings(temperature=0.8, top_p=0.95), never))
    assert len(found) == 16
    for completion in found:
        assert_deltas(completion, longest=120)
