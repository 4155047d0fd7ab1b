from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.config.grid import GridConfig
from aceslm.core.errors import ConfigError, RunError
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, ModelSpec, Resources, TaskTable
from aceslm.plan.cells import expand, run_digest
from aceslm.plan.files import load_plans, save_plan
from aceslm.plan.identity import GridTask
from aceslm.plan.ranges import chunks, subtract, unit_at, wanted_ranges
from aceslm.plan.shards import next_plan

MODEL = ModelSpec("m", "org/m", "abc")
TASK = TaskTable("t", "d1", "finance", "", tuple(f"s{n}" for n in range(10)))


def grid(**changes: object) -> GridConfig:
    return GridConfig.model_validate({"models": ["m"], "tasks": ["t"], "modes": ["baseline"], **changes})


def one_cell(**changes: object) -> Cell:
    model = changes.pop("model", MODEL)
    task = changes.pop("task", TASK)
    assert isinstance(model, ModelSpec)
    assert isinstance(task, TaskTable)
    (cell,) = expand(grid(**changes), [model], [GridTask(task)])
    return cell


@pytest.mark.parametrize(
    "changes",
    [
        {"model": replace(MODEL, revision="other")},
        {"model": replace(MODEL, model_id="org/other")},
        {"model": replace(MODEL, chat_template_args={"enable_thinking": False})},
        {"model": replace(MODEL, context_window=100)},
        {"quantization": ["int8"]},
        {"dtype": "float32"},
        {"task": replace(TASK, task_digest="d2")},
        {"task": replace(TASK, split="eval")},
        {"modes": ["scaffold"]},
        {"seeds": [1]},
        {"generation": {"max_new_tokens": 5}},
        {"generation": {"temperature": 0.5}},
        {"generation": {"stop": ["\n"]}},
    ],
)
def test_whatever_decides_the_results_changes_the_cell_id(changes: dict[str, object]) -> None:
    assert one_cell(**changes).cell_id.rsplit("-", 1)[1] != one_cell().cell_id.rsplit("-", 1)[1]


@pytest.mark.parametrize(
    "changes",
    [{"limit": 3}, {"shard_size": 2}, {"batch_size": 7}, {"engine": "generate"}, {"resources": {"gpus": 4}}],
)
def test_what_only_schedules_does_not_change_the_cell_id(changes: dict[str, object]) -> None:
    assert one_cell(**changes).cell_id == one_cell().cell_id


def test_a_local_folder_is_identified_by_its_files_not_its_place() -> None:
    here = ModelSpec("a", "/here/model", "sha256:1", source="folder")
    there = ModelSpec("a", "/there/model", "sha256:1", source="folder")
    assert one_cell(model=here).cell_id == one_cell(model=there).cell_id


def test_cell_ids_are_pinned_because_resuming_depends_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aceslm.tasks.PROMPT_VERSION", "pinned")
    monkeypatch.setattr("aceslm.tasks.DEFAULT_MAX_NEW_TOKENS", {"span": 1})
    assert one_cell().unit("s0", 0).unit_id == one_cell().unit("s0", 0).unit_id
    assert one_cell().unit("s0", 0).unit_id != one_cell().unit("s0", 1).unit_id
    assert one_cell().cell_id == "m-none-t-baseline-s0-d2a7be78c3a8"


def test_one_model_under_two_names_is_refused_because_its_rows_would_count_twice() -> None:
    here = ModelSpec("./m", "/here/m", "sha256:1", source="folder")
    again = ModelSpec("/there/m", "/there/m", "sha256:1", source="folder")
    with pytest.raises(ConfigError, match="twice under two names"):
        expand(grid(), [here, again], [GridTask(TASK)])


def test_of_two_simultaneous_planners_one_plan_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = RunPaths(tmp_path)
    cells = expand(grid(), [MODEL], [GridTask(TASK)])
    first = next_plan(grid(limit=2), cells, [TASK], [])
    second = next_plan(grid(limit=5), cells, [TASK], [])
    assert first is not None
    assert second is not None
    save_plan(paths, first)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # the other looked before the first wrote
    with pytest.raises(RunError, match="another `aceslm submit`"):
        save_plan(paths, second)
    assert load_plans(paths) == (first,)


def test_the_run_digest_does_not_depend_on_the_order_of_the_grid() -> None:
    cells = expand(grid(modes=["baseline", "scaffold"]), [MODEL], [GridTask(TASK)])
    assert run_digest(cells) == run_digest(reversed(cells))


def test_a_larger_limit_plans_only_the_new_units() -> None:
    cells = expand(grid(), [MODEL], [GridTask(TASK)])
    first = next_plan(grid(limit=3, shard_size=2), cells, [TASK], [])
    assert first is not None
    second = next_plan(grid(limit=None, shard_size=4), cells, [TASK], [first])
    assert second is not None
    assert [shard.ranges for shard in first.shards] == [((0, 2),), ((2, 3),)]
    assert [shard.ranges for shard in second.shards] == [((3, 7),), ((7, 10),)]
    assert next_plan(grid(), cells, [TASK], [first, second]) is None
    assert not {s.shard_id for s in first.shards} & {s.shard_id for s in second.shards}


def test_a_reordered_grid_keeps_the_first_plans_cell_order() -> None:
    forward = expand(grid(modes=["baseline", "scaffold"]), [MODEL], [GridTask(TASK)])
    first = next_plan(grid(limit=1), forward, [TASK], [])
    assert first is not None
    second = next_plan(grid(limit=2), forward[::-1], [TASK], [first])
    assert second is not None
    assert second.cells == first.cells


ranges = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (min(p), max(p))), max_size=5
)


@given(ranges, st.integers(1, 7))
def test_planned_ranges_cover_exactly_what_is_missing(covered: list[tuple[int, int]], size: int) -> None:
    pieces = chunks(subtract([(0, 40)], covered), size)
    planned = [n for piece in pieces for start, stop in piece for n in range(start, stop)]
    already = {n for start, stop in covered for n in range(start, stop)}
    assert planned == [n for n in range(40) if n not in already]
    assert all(sum(stop - start for start, stop in piece) <= size for piece in pieces)


def test_units_run_epoch_by_epoch() -> None:
    assert wanted_ranges(10, 2, 3) == ((0, 3), (10, 13))
    assert wanted_ranges(10, 2, None) == ((0, 20),)
    unit = unit_at(one_cell(), TASK.sample_ids, 12)
    assert (unit.sample_id, unit.epoch) == ("s2", 1)


def test_seeds_that_would_only_copy_greedy_results_are_refused() -> None:
    with pytest.raises(ConfigError, match="copies"):
        expand(grid(seeds=[0, 1]), [MODEL], [GridTask(TASK)])
    assert len(expand(grid(seeds=[0, 1], generation={"temperature": 1}), [MODEL], [GridTask(TASK)])) == 2


def test_too_many_shards_name_a_shard_size_that_fits() -> None:
    task = replace(TASK, sample_ids=tuple(str(n) for n in range(9000)))
    cells = expand(grid(), [MODEL], [GridTask(task)])
    with pytest.raises(ConfigError, match="--set shard_size=3"):
        next_plan(grid(shard_size=1), cells, [task], [])


def test_a_plan_reads_back_as_written_and_is_never_overwritten(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    model = replace(MODEL, chat_template_args={"a": [1, None]}, context_window=10)
    task = replace(TASK, sample_ids=("ü", "b"))
    plan = next_plan(grid(), expand(grid(), [model], [GridTask(task)]), [task], [], {"m": Resources(gpus=1)})
    assert plan is not None
    save_plan(paths, plan)
    assert load_plans(paths) == (plan,)
    with pytest.raises(RunError, match="exists already"):
        save_plan(paths, plan)


def test_a_gap_in_the_plans_is_an_error(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    plan = next_plan(grid(), expand(grid(), [MODEL], [GridTask(TASK)]), [TASK], [])
    assert plan is not None
    save_plan(paths, replace(plan, number=2))
    with pytest.raises(RunError, match=r"0001\.json is missing"):
        load_plans(paths)


@pytest.mark.parametrize("ace", [{"epochs": 2}, {"round_size": 3}, {"retrieve_top_k": 1}, {"capacity": 9}])
def test_ace_settings_change_the_cells_that_evolve_and_no_other(ace: dict[str, object]) -> None:
    assert one_cell(modes=["ace"], ace=ace).cell_id != one_cell(modes=["ace"]).cell_id
    assert one_cell(ace=ace).cell_id == one_cell().cell_id


def test_what_the_roles_are_told_is_part_of_an_evolving_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    before = one_cell(modes=["ace"]).cell_id, one_cell().cell_id
    monkeypatch.setattr("aceslm.ace.roles.wording.ROLE_PROMPT_VERSION", "other")
    assert one_cell(modes=["ace"]).cell_id != before[0]
    assert one_cell().cell_id == before[1]


def test_an_evolving_cell_is_one_shard_over_all_epochs() -> None:
    wanted = grid(modes=["ace"], limit=4, shard_size=2, ace={"epochs": 2})
    plan = next_plan(wanted, expand(wanted, [MODEL], [GridTask(TASK)]), [TASK], [])
    assert plan is not None
    assert [shard.ranges for shard in plan.shards] == [((0, 4), (10, 14))]
