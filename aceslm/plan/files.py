"""The plan files of a run directory: written once, never changed.

run = read_run(RunPaths(Path("results/quickstart-1a2b3c4d")))
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aceslm.core.errors import RunError
from aceslm.core.files import create_json, read_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Plan

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def save_plan(paths: RunPaths, plan: Plan) -> None:
    """Write a plan; an existing plan of that number is never changed."""
    path = paths.plan(plan.number)
    if not create_json(path, _plan_adapter().dump_python(plan, mode="json")):
        raise RunError(f"{path} exists already: another `aceslm submit` is planning this run; try again")


def load_plans(paths: RunPaths) -> tuple[Plan, ...]:
    """Read all plans of a run in order; an empty tuple where there is none.

    Raises:
        RunError: a plan does not read back.
    """
    files = sorted(paths.plans.glob("[0-9]*.json")) if paths.plans.is_dir() else []
    plans = []
    for number, path in enumerate(files, start=1):
        if path != paths.plan(number):
            raise RunError(f"{paths.plan(number)} is missing, though {path.name} is there: restore it")
        remedy = (
            f"restore it from a copy; without one `mv {paths.root} {paths.root}.damaged`, and the command "
            "that made the run starts it afresh"
        )
        plans.append(_plan_from_json(read_json(path, remedy), str(path)))
    return tuple(plans)


def read_run(paths: RunPaths) -> Run:
    """Read a run directory's plans.

    Raises:
        RunError: it is not a run directory, or a plan does not read back.
    """
    return Run(paths, require_plans(paths))


def require_plans(paths: RunPaths) -> tuple[Plan, ...]:
    """Like `load_plans`, but a folder without a plan is an error that says what a run directory is."""
    plans = load_plans(paths)
    if not plans:
        what = "is not a run directory (no plans/0001.json)" if paths.root.is_dir() else "does not exist"
        raise RunError(f"{paths.root} {what}: `aceslm status` lists the runs")
    return plans


@cache
def _plan_adapter() -> TypeAdapter[Plan]:
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


def _plan_from_json(value: Any, where: str) -> Plan:
    from pydantic import ValidationError

    try:
        return _plan_adapter().validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise RunError(f"{where}: key '{key}': {fault['msg']}; this is not a plan of this version") from None
