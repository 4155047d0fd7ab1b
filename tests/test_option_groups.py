"""Groups of options: a verb has those of the groups it takes, and what is typed reaches the grid as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from conftest import Command

from aceslm.config.grid import GridConfig, load_grid
from aceslm.core.errors import ConfigError
from launch.cli import app
from launch.verbs.groups import GridChoice, How, ModelChoice, TaskChoice, Where, WhereAgain, spread


@dataclass(frozen=True, slots=True)
class Pace:
    """A group of a test."""

    speed: Annotated[int, typer.Option("--speed", min=1, help="How fast.")]
    colour: Annotated[str, typer.Option(help="Which colour.")] = "red"


def test_a_verb_has_the_options_of_its_groups_in_the_place_of_the_group_and_gets_the_groups() -> None:
    seen: list[object] = []

    @spread
    def verb(name: str, *, pace: Pace, loud: bool = False) -> None:
        seen.extend([name, pace, loud])

    parameters = inspect.signature(verb).parameters
    assert list(parameters) == ["name", "speed", "colour", "loud"]
    assert parameters["speed"].default is inspect.Parameter.empty
    assert parameters["colour"].default == "red"
    verb(name="n", speed=3, colour="blue", loud=True)
    assert seen == ["n", Pace(3, "blue"), True]


def test_a_spread_verb_is_a_command_with_help_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    @spread
    def verb(*, pace: Pace) -> None:
        print(pace)

    command = typer.Typer()
    command.command()(verb)
    with pytest.raises(SystemExit):
        command(["--speed", "2"])
    assert "Pace(speed=2, colour='red')" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command(["--help"])
    shown = capsys.readouterr().out
    assert "How fast." in shown
    assert "x>=1" in shown
    with pytest.raises(SystemExit) as stop:
        command(["--speed", "0"])
    assert stop.value.code == 2


TAKEN = {
    "submit": (Where, GridChoice, How),
    "retry": (WhereAgain, How),
    "run": (ModelChoice, TaskChoice, How),
    "evolve": (ModelChoice, TaskChoice, How),
}


@pytest.mark.parametrize("verb", TAKEN)
def test_every_field_of_a_group_is_an_option_of_the_verbs_that_take_it(verb: str) -> None:
    root: Any = typer.main.get_command(app)
    options = {one.name: one for one in root.commands[verb].params}
    for group in TAKEN[verb]:
        for one in fields(group):
            assert options[one.name].default == one.default
            assert options[one.name].help


@pytest.fixture
def grid_of_names(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text("models: [m]\ntasks: [t]\nmodes: [baseline]\nlimit: 9\nbatch_size: 4\n")
    return path


def test_a_typed_name_is_never_read_as_yaml(grid_of_names: Path) -> None:
    names = ["null", "[a, b]", "1e3", "it's", "a: b", "#x", "yes"]
    grid = GridChoice(model_id=names, task_name=["007"]).read(grid_of_names, None)
    assert grid.models == tuple(names)
    assert grid.tasks == ("007",)


def test_a_typed_option_wins_over_set_and_set_over_the_file(grid_of_names: Path) -> None:
    choice = GridChoice(set_=["limit=5", "batch_size=2", "seeds=[3]"], limit=7)
    grid = choice.read(grid_of_names, None)
    assert (grid.limit, grid.batch_size, grid.seeds) == (7, 2, (3,))
    assert choice.read(grid_of_names, 8).batch_size == 8


def test_what_was_not_typed_leaves_the_file_as_it_is(grid_of_names: Path) -> None:
    assert GridChoice().read(grid_of_names, None) == load_grid(grid_of_names)


def test_a_typed_value_is_validated_like_one_of_the_file(grid_of_names: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine.*'shared' is not one of them"):
        GridChoice(engine="shared").read(grid_of_names, None)
    with pytest.raises(ConfigError, match="m is listed twice"):
        GridChoice(model_id=["m", "m"]).read(grid_of_names, None)


@pytest.mark.parametrize("words", [("--mode", "basline"), ("--engine", "no"), ("--engine", "7")])
def test_a_typed_word_that_is_none_is_one_line(
    aceslm: Command, grid_file: Path, words: tuple[str, str]
) -> None:
    refused = aceslm("submit", grid_file, *words)
    assert refused.status == 2
    assert f"'{words[1]}' is not one of them" in refused.err


@pytest.mark.parametrize(
    ("again", "how", "expected"),
    [
        (WhereAgain("debug"), How(), ("scripted", "auto", 6)),
        (WhereAgain("debug"), How(device="cpu", batch_size=2), ("scripted", "cpu", 2)),
    ],
)
def test_a_retry_goes_on_with_the_engine_and_batch_of_before(
    again: WhereAgain, how: How, expected: tuple[object, ...], intent: Callable[..., Any]
) -> None:
    launcher: Any = again.again([intent(engine="generate"), intent(engine="scripted", batch_size=6)], how)
    options = launcher.options
    assert (options.engine, options.device, options.batch_size) == expected


def test_a_retry_goes_to_the_last_profile_that_was_used_unless_told(intent: Callable[..., Any]) -> None:
    earlier = [intent(profile="cpu-only"), intent(profile=None)]
    launcher: Any = WhereAgain("slurm").again(earlier, How())
    assert launcher.profile_name == "cpu-only"
    told: Any = WhereAgain("slurm", profile="whole-node").again(earlier, How())
    assert told.profile_name == "whole-node"
    first: Any = WhereAgain("slurm").again([], How())
    assert first.profile_name == "slurm"


@pytest.fixture
def intent() -> Callable[..., Any]:
    from launch.ledger import Intent, WorkerOptions

    def make(profile: str | None = None, **options: Any) -> Intent:
        return Intent(1, "t", "slurm", (), WorkerOptions(**options), "code", "host", 1, 0.0, profile)

    return make


def test_workers_are_told_the_batch_size_that_the_grid_ends_up_with() -> None:
    grid = GridConfig(models=("m",), tasks=("t",), modes=("baseline",), batch_size=5, engine="generate")
    options = How(device="cpu").options(grid)
    assert (options.engine, options.device, options.batch_size) == ("generate", "cpu", 5)
