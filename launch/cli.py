"""The `aceslm` command: verbs, common options, errors as one line.

Verbs live in `launch.verbs`; what they need is imported when they run, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from aceslm.core.errors import AceslmError
from aceslm.core.logs import CONSOLE_FORMAT, ConsoleLines
from aceslm.run.failures import explained
from launch.verbs import (
    bench,
    data,
    doctor,
    evolve,
    playbook,
    registry,
    report,
    results,
    retry,
    run,
    submit,
    sync,
    watch,
    work,
)

_HELP = """Find out whether an evolving playbook makes a small language model better, at what cost, and \
whether the difference is real.

Try it:  [bold]aceslm submit configs/quickstart.yaml --cluster local[/bold]
"""
_LEVELS = ("debug", "info", "warning", "error")

app = typer.Typer(
    name="aceslm", help=_HELP, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(data_app, name="data", help="Convert public datasets to the task format.")
playbook_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(playbook_app, name="playbook", help="Look at playbooks: show, diff, merge, stats.")


def main() -> int:
    """Run the command; return its exit status (0 success, 1 the work failed, 2 wrong usage)."""
    try:
        app()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0


def _verb(
    function: Callable[..., None], *, example: str, name: str | None = None, group: typer.Typer = app
) -> None:
    """Register a verb, of the command or of a group, with `--log-level`, `--debug` and errors as one line."""

    @functools.wraps(function)
    def command(*args: Any, log_level: str, debug: bool, **kwargs: Any) -> None:
        if log_level not in _LEVELS:
            raise typer.BadParameter(
                f"'{log_level}' is not one of {', '.join(_LEVELS)}", param_hint="--log-level"
            )
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(CONSOLE_FORMAT) if debug else ConsoleLines())
        logging.basicConfig(level=log_level.upper(), handlers=[handler])
        try:
            function(*args, **kwargs)
        except AceslmError as error:
            _fail(str(error), error.exit_status, debug)
        except KeyboardInterrupt:
            _fail("interrupted; finished rows are kept, the same command goes on from there", 130, debug)
        except BrokenPipeError:
            # The reader (`| head`) has gone: what is left in the buffer must not raise at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            told = explained(error)
            known = told != str(error)
            _fail(told if known else f"unexpected {type(error).__name__}: {error}", 1, debug)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            _fail(f"unexpected {message}; run again with --debug for the traceback", 1, debug)

    signature = inspect.signature(function, eval_str=True)
    common = [
        inspect.Parameter(
            "log_level",
            inspect.Parameter.KEYWORD_ONLY,
            default="warning",
            annotation=Annotated[str, typer.Option(help="debug, info, warning or error.")],
        ),
        inspect.Parameter(
            "debug",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
        ),
    ]
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *common])  # type: ignore[attr-defined]
    command.__annotations__ = {
        **inspect.get_annotations(function, eval_str=True),
        **{parameter.name: parameter.annotation for parameter in common},
    }
    # paragraphs as one line each: the terminal's width wraps them, not the source's
    text = "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))
    verb = name or function.__name__.replace("_", "-")
    group.command(verb, help=text, epilog=f"Example:  {example}")(command)


def _fail(message: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stdout.flush()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(status)


_verb(
    run.run,
    example="aceslm run --model-id smollm2-135m-gguf --task-name medqa_tiny --output-path out.csv",
)
_verb(evolve.evolve, example="aceslm evolve --task-name iot_tiny --epochs 3 --output-dir evolved/")
_verb(submit.submit, example="aceslm submit configs/exp_grid.yaml --cluster local --limit 3")
_verb(watch.status, example="aceslm status results/quickstart-1a2b3c4d --watch")
_verb(watch.logs, example="aceslm logs results/quickstart-1a2b3c4d --failed")
_verb(retry.retry, example="aceslm retry results/quickstart-1a2b3c4d")
_verb(retry.cancel, example="aceslm cancel results/exp-grid-1a2b3c4d")
_verb(results.aggregate, example="aceslm aggregate results/quickstart-1a2b3c4d")
_verb(results.summarize, example="aceslm summarize --input-dir results/")
_verb(report.report, example="aceslm report results/quickstart-1a2b3c4d --output report.html")
_verb(sync.sync, example="aceslm sync results/quickstart-1a2b3c4d --dry-run")
_verb(registry.prestage, example="aceslm prestage configs/quickstart.yaml")
_verb(doctor.doctor, example="aceslm doctor --profile slurm")
_verb(bench.bench, example="aceslm bench --workload ace --workload ragged --repeats 3")
_verb(work.work, example="aceslm work results/exp-grid-1a2b3c4d --index 3")
_verb(registry.models, example="aceslm models --json")
_verb(registry.tasks, example="aceslm tasks")
_verb(
    data.import_,
    name="import",
    group=data_app,
    example="aceslm data import tatqa SRC --output data/tatqa.parquet   (any table: see above)",
)
_verb(playbook.show, group=playbook_app, example="aceslm playbook show results/R/playbooks/CELL/v0007.jsonl")
_verb(playbook.diff, group=playbook_app, example="aceslm playbook diff v0003.jsonl v0007.jsonl")
_verb(
    playbook.merge,
    group=playbook_app,
    example="aceslm playbook merge one.jsonl two.jsonl --base start.jsonl --output both.jsonl",
)
_verb(
    playbook.stats,
    group=playbook_app,
    example="aceslm playbook stats results/R/playbooks/CELL --tokenizer smollm2-135m-gguf",
)
