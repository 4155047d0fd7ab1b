"""The report as a file: what it says, what it holds, what it leaves out. (How it behaves: tests/browser.)"""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, only_run
from hypothesis import given
from hypothesis import strategies as st
from report_runs import add_playbooks, cell_of, make_run, prose
from shards import reported

from aceslm import report as report_package
from aceslm.core.errors import RunError
from aceslm.core.paths import RunPaths
from aceslm.report.blocks import BLOCK_CHARS, TextStore, Words, as_json, packed, script_json
from aceslm.report.prompts import PromptParts, put_back, take_out
from aceslm.report.samples import choose_rows
from aceslm.report.svg import Axis, Mark, Row, axis_over, rows_chart

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(3)>',
    "{{ 7 * 7 }} {% raw %}",
    "\u202eevil\u2028 \x00",
)


def unpacked(block: str) -> str:
    return zlib.decompress(base64.b85decode(block.replace(",", "<").replace(".", "&"))).decode()


def block(page: str, name: str) -> Any:
    (text,) = re.findall(f'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return json.loads(unpacked(text))


def index(page: str) -> Any:
    (text,) = re.findall('<script type="application/json" id="index">(.*?)</script>', page)
    return json.loads(text)


def made(paths: RunPaths, **options: Any) -> str:
    return reported(paths, **options).path.read_text(encoding="utf-8")


def test_a_run_ends_with_a_report_that_says_what_ran(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    page = (only_run(tmp_path) / "report.html").read_text()
    assert '<span class="badge complete">complete</span>' in page
    for words in (
        "22 of 22",
        "scaffold",
        "iot_tiny",
        "exact: the answer depends on the prompt alone",
        "greedy",
    ):
        assert words in page
    assert len(block(page, "rows")["sample"]) == 22


def test_the_report_of_a_copied_run_directory_is_the_same(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    copy = tmp_path / "elsewhere" / run.name
    shutil.copytree(run, copy)
    shutil.rmtree(run.parent)
    before = (copy / "report.html").read_bytes()
    result = aceslm("report", copy, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["rows_shown"] == 22
    after = (copy / "report.html").read_bytes()
    clock = re.compile(rb"merged</th><td>[^<]*")
    assert clock.sub(b"", after) == clock.sub(b"", before)


def test_a_partial_run_says_so_and_what_to_type(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    done = sorted((run / "shards").glob("*.done.json"))[0]
    done.unlink()
    (run / "coverage.json").unlink()  # nothing merged since: the verb merges first
    result = aceslm("report", run)
    assert result.status == 0
    assert "partial" in result.err
    page = (run / "report.html").read_text()
    assert "Partial run." in page
    assert done.name.removesuffix(".done.json") in page
    assert "aceslm retry" in page


def test_a_run_that_an_older_version_merged_is_merged_again(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    lines = (run / "summary.csv").read_text().splitlines()
    (run / "summary.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    result = aceslm("report", run)
    assert result.status == 0, result.err
    assert (run / "summary.csv").read_text().splitlines() == lines


def test_a_folder_that_is_no_run_is_refused(aceslm: Command, tmp_path: Path) -> None:
    result = aceslm("report", tmp_path)
    assert result.status == 1
    assert "plans" in result.err or "run directory" in result.err


def test_a_report_that_fails_never_fails_the_merge(
    aceslm: Command,
    grid_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(report_package, "write_report", broken)
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    run = only_run(tmp_path)
    assert (run / "results.parquet").exists()
    assert not (run / "report.html").exists()
    warned = [record for record in caplog.records if "disk full" in record.getMessage()]
    assert len(warned) == 1
    assert "aceslm report" in warned[0].getMessage()


def test_texts_of_models_and_tasks_never_become_markup(tmp_path: Path) -> None:
    def hostile(number: int, mode: str) -> Mapping[str, Any]:
        text = HOSTILE[number]
        return {
            name: f"{name} {text}" for name in ("question", "context", "gold", "pred", "raw_output", "error")
        }

    paths = make_run(tmp_path / "run<b>", len(HOSTILE), ("baseline", "scaffold"), hostile)
    add_playbooks(paths, "tiny-words-ace-all", [[], ["</script><script>alert(4)</script>", "<img src=x>"]])
    page = made(paths)
    for number, text in enumerate(HOSTILE):
        if "<" in text:
            assert text not in page
        assert block(page, "outputs-0")[number][0] == f"pred {text}"
    assert "alert" not in re.sub(r"&lt;.*?&gt;", "", page.replace("alert(4)", ""))
    assert page.count("<script") == page.count("</script>")
    assert page.count("<!--") == 0
    assert "run&lt;b&gt;" in page


def test_json_inside_a_script_element_cannot_leave_it() -> None:
    text = script_json({"model": "</script><!--<script>&\u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"model": "</script><!--<script>&\u2028"}


def test_the_page_may_load_nothing_and_run_only_itself(tmp_path: Path) -> None:
    page = made(make_run(tmp_path / "run"))
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["'](?!#|data:,")""", page)
    assert " style=" not in page
    assert " onclick=" not in page


def test_texts_are_stored_once_and_prompts_as_skeletons(tmp_path: Path) -> None:
    def shared(number: int, mode: str) -> Mapping[str, Any]:
        return {"context": f"A long table about year {number // 2}. " * 20, "choices": ("an apple", "a pear")}

    page = made(make_run(tmp_path / "run", 6, change=shared))
    assert len(block(page, "samples-0")) == 6
    assert len(block(page, "contexts-0")) == 3
    assert block(page, "skeletons-0") == [
        "<|user|>Context:\n\ue000\nQuestion: \ue001\n\ue010\n\ue011\nAnswer:<|bot|>"
    ]
    assert len(block(page, "outputs-0")) == 24


@given(
    st.text(max_size=60), st.text(max_size=20), st.lists(st.text(max_size=8), max_size=4), st.text(max_size=9)
)
def test_a_prompt_comes_back_from_its_skeleton(
    context: str, question: str, choices: list[str], playbook: str
) -> None:
    parts = PromptParts(context, question, tuple(choices), playbook)
    for text in (f"{playbook}\n{context}\n{question}\n" + "\n".join(choices), context, ""):
        assert put_back(take_out(text, parts), parts) == text


def test_a_prompt_whose_parts_imitate_the_marks_is_kept_whole() -> None:
    parts = PromptParts("", "why", ("xx", "\ue010a"))
    assert put_back(take_out("why xxa", parts), parts) == "why xxa"


def test_blocks_give_back_every_value() -> None:
    store = TextStore()
    texts = [f"{n} " * (n % 50) + str(random.Random(n).random()) for n in range(8000)]
    assert [store.add(text) for text in texts] == list(range(8000))
    assert store.add(texts[7]) == 7
    blocks = [json.loads(one) for one in store.blocks()]
    assert [text for one in blocks for text in one] == texts
    assert [sum(map(len, blocks[:n])) for n in range(len(blocks))] == store.starts
    assert max(sum(map(len, one)) for one in blocks) < BLOCK_CHARS + 1000


def test_frequent_words_become_single_characters_and_come_back() -> None:
    texts = [as_json([f'{prose(n, 200_000)} é中 <&> \\ "quoted"']) for n in range(12)]
    words = Words.of(texts)
    assert len(words.codes) > 5000
    assert not {"é", "中"} & set(words.codes.values())
    plain = [packed(text) for text in texts]
    coded = [packed(text, words) for text in texts]
    assert sum(map(len, coded)) < 0.85 * sum(map(len, plain))
    assert not set("<&") & set("".join(coded))
    codes, known = json.loads(unpacked(words.block()))
    back = dict(zip(codes, known, strict=True))
    assert ["".join(back.get(char, char) for char in unpacked(one)) for one in coded] == texts


def test_little_text_has_no_list_of_words() -> None:
    assert Words.of(["a few words a few words a few words"]).codes == {}


def test_over_the_limit_whole_samples_are_drawn_errors_first(tmp_path: Path) -> None:
    def some_fail(number: int, mode: str) -> Mapping[str, Any]:
        if number in {7, 31} and mode == "scaffold":
            return {"error": "too long", "parsed": False, "pred": None, "raw_output": None}
        return {"error": "unparsed: no span in the output", "parsed": False} if number == 12 else {}

    paths = make_run(tmp_path / "run", 40, change=some_fail)
    chosen = choose_rows(paths, 20)
    assert chosen == choose_rows(paths, 20)
    assert chosen.keys is not None
    assert {("words", "s00007"), ("words", "s00031"), ("words", "s00012")} < chosen.keys
    assert (chosen.shown, chosen.total, len(chosen.keys)) == (20, 160, 5)
    page = made(paths, max_rows=20)
    assert "20 of 160 rows can be looked at here" in page
    assert "seed 0" in page
    assert len(block(page, "rows")["sample"]) == 20
    assert choose_rows(paths, 4).keys < {("words", "s00007"), ("words", "s00031")}  # type: ignore[operator]


def test_a_file_that_would_be_too_large_shows_fewer_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(number: int, mode: str) -> Mapping[str, Any]:
        return {"context": random.Random(number).randbytes(2000).hex()}

    paths = make_run(tmp_path / "run", 100, change=noise)
    monkeypatch.setattr(report_package, "MAX_BYTES", 150_000)
    small = reported(paths)
    assert small.size_bytes <= 150_000
    assert 0 < small.rows_shown < small.rows_total == 400


def test_rows_of_the_adapt_split_can_be_looked_at_but_enter_no_accuracy(tmp_path: Path) -> None:
    def all_right_where_learnt(number: int, mode: str) -> Mapping[str, Any]:
        return {"correct": int(mode == "ace")}

    adaptation = cell_of("ace", split="adapt")
    paths = make_run(tmp_path / "run", 5, ("scaffold",), all_right_where_learnt, extra=[adaptation])
    page = made(paths)
    assert index(page)["cells"][1]["split"] == "adapt"
    assert [flags & 16 for flags in block(page, "rows")["flags"]] == [0] * 5 + [16] * 5
    accuracy = page[page.index('id="accuracy"') : page.index('id="samples"')]
    assert "1.000" not in accuracy.replace("1.000]", "").replace("p 1.000", "")
    assert "c2" not in accuracy  # the colour of ace
    assert "adaptations" in page


def test_playbook_versions_share_their_bullets_and_the_prompts_share_the_playbook(tmp_path: Path) -> None:
    lessons = [[], ["Add the numbers."], ["Add the numbers.", "Look at units."]]

    def learnt(number: int, mode: str) -> Mapping[str, Any]:
        return {
            "playbook_version": 2,
            "context": "## general\n- [b1] Add the numbers.\n- [b2] Look at units.",
        }

    paths = make_run(tmp_path / "run", 3, ("ace",), learnt)
    add_playbooks(paths, "tiny-words-ace-all", lessons)
    page = made(paths)
    book = block(page, "book-0")
    assert book["versions"] == [[], [0], [0, 1]]
    assert [state[2] for state in book["states"]] == ["Add the numbers.", "Look at units."]
    assert block(page, "playbooks-0") == ["## general\n- [b1] Add the numbers.\n- [b2] Look at units."]
    assert "Playbook growth" in page


def test_a_damaged_playbook_version_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = make_run(tmp_path / "run", 2, ("ace",))
    add_playbooks(paths, "tiny-words-ace-all", [[], ["One."], ["One.", "Two."]])
    (paths.playbooks("tiny-words-ace-all") / "v0001.jsonl").write_text("cut of")
    assert block(made(paths), "book-0")["numbers"] == [0, 2]
    assert "v0001.jsonl" in caplog.text


def test_a_run_that_was_never_planned_raises(tmp_path: Path) -> None:
    with pytest.raises((RunError, FileNotFoundError)):
        reported(RunPaths(tmp_path))


def test_plots_escape_their_labels_and_keep_marks_inside() -> None:
    chart = rows_chart("<t>", [Row("<b>", (Mark(5.0, -1.0, 7.0, text="<i>"),))], Axis("<x>", 0, 1))
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert all(0 <= float(x) <= 600 for x in re.findall(r'\b(?:x1|x2|cx)="([^"]*)"', chart))


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("a", 0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis("a", 0, 3, whole=True), [0, 1, 2, 3]),
        (Axis("a", 8.0, 900.0, log=True), [10, 20, 50, 100, 200, 500]),
        (axis_over("a", [5.0, 5.0]), [4.8, 5.0, 5.2]),
    ],
)
def test_axes_have_round_ticks(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_an_axis_with_one_value_has_no_column_and_every_figure_has_one_table(tmp_path: Path) -> None:
    page = made(make_run(tmp_path / "run", 3, ("baseline", "scaffold")))
    heads = re.findall("<thead>(.*?)</thead>", page)
    answered, compared, took = (
        [re.sub("<.*?>", "", head) for head in re.findall("<th.*?</th>", one)] for one in heads[:3]
    )
    assert answered[:3] == ["task", "mode", "accuracy [95 %]"]
    assert took[:3] == ["task", "mode", "mean ms"]
    assert not {"errors", "score"} & set(took)
    assert "model" not in compared
