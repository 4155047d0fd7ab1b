"""`aceslm bench`: which engine is how much faster here?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.options import BatchOption, DeviceOption, JsonOption

if TYPE_CHECKING:
    from aceslm.bench.suite import BenchResult
    from aceslm.bench.timing import WorkloadTiming

_BASELINES = "Slow baselines (generate, generate_loop, continuous)"


def bench(
    model_id: Annotated[
        str, typer.Option(help="A registry name, a hub id, or a local folder.")
    ] = "smollm2-135m-gguf",
    workload: Annotated[
        list[str] | None,
        typer.Option(help="ace, ace-long, short, ragged, contexts; may be repeated. Default: ace, ragged."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated; the first is compared with each other one. Any engine, generate_loop (one "
            "prompt at a time), continuous (transformers' continuous batching), vllm, vllm_warm (prefix "
            "cache kept). Default: shared_prefix, generate."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes of each engine, in turns.")] = 3,
    baseline_repeats: Annotated[
        int | None, typer.Option(min=1, help="Fewer passes of these.", rich_help_panel=_BASELINES)
    ] = None,
    baseline_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only so many prompts, spread evenly; ratios then compare samples/s.",
            rich_help_panel=_BASELINES,
        ),
    ] = None,
    quantization: Annotated[str, typer.Option(help="none, int8 or nf4.")] = "none",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(help="A Python of another environment that can import vllm; adds vllm and vllm_warm."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Lengths and counts divided by 8.")] = False,
    json_: JsonOption = False,
) -> None:
    """Time engines side by side on made-up prompts: medians, ratios, and how near each is to the device.

    All engines are loaded at once, each with its own weights, because they take turns: memory must hold the
    model once an engine. Every prompt is answered to its full length; every pass has new texts.
    """
    from aceslm.bench.contenders import LoadOptions
    from aceslm.bench.suite import engine_names, run_bench
    from aceslm.bench.timing import Repeats
    from aceslm.bench.workloads import QUICK_SCALE
    from aceslm.models.registry import resolve_model
    from launch.show.console import print_json, steps

    options = LoadOptions(quantization, dtype, device, batch_size, vllm_python)
    plan = Repeats(repeats, baseline_repeats, baseline_samples, QUICK_SCALE if quick else 1.0)
    spec = resolve_model(model_id)
    names = engine_names(engine, options)
    with steps("bench") as progress:
        result = run_bench(spec, workload or ["ace", "ragged"], names, options, plan, progress)
    if json_:
        print_json(result.as_json())
        return
    for timing in result.workloads:
        _print_workload(timing)
    _print_engines(result)


def _print_workload(timing: WorkloadTiming) -> None:
    from launch.show.console import print_table, say

    first = next(iter(timing.engines))
    rows = [
        [
            name,
            f"{engine.wall_s:.2f}",
            f"{engine.repeats} x {engine.samples}",
            f"{engine.samples_per_s:.2f}",
            f"{engine.new_tokens_per_s:,.0f}",
            f"{engine.prompt_tokens_per_s:,.0f}",
            f"{timing.ratios[f'{first}/{name}']:.2f}" if name != first else "-",
        ]
        for name, engine in timing.engines.items()
    ]
    headers = [
        "engine",
        "median s",
        "repeats",
        "samples/s",
        "new tokens/s",
        "prompt tokens/s",
        f"{first} is x",
    ]
    title = (
        f"{timing.workload}: {timing.description}; {timing.prompt_tokens:,} prompt tokens "
        f"({timing.distinct_prompt_tokens:,} distinct), {timing.new_tokens:,} new"
    )
    print_table(title, headers, rows, numeric=6)
    for pair, fraction in timing.equal_answers.items():
        say(f"equal greedy answers, {pair}: {fraction:.0%}")
    for line in timing.notes:
        say(line)


def _print_engines(result: BenchResult) -> None:
    from launch.show.console import print_table, say

    rows = []
    for name, report in result.engines.items():
        near, same = report.roofline, report.determinism
        rows.append(
            [
                name,
                report.info.determinism,
                _share(near.prefill_mfu if near else None),
                _share(near.decode_bandwidth_share if near else None),
                _share(same.greedy),
                _share(same.sampled),
            ]
        )
    headers = ["engine", "determinism", "prefill MFU", "decode bandwidth", "alone = batch", "sampled"]
    print_table("shares of the device's measured peaks; answers alone against in a batch", headers, rows, 4)
    measured = result.hardware
    if measured:
        say(
            f"{measured['name']}, {measured['cores']} cores, {measured['dtype']}: matrix products "
            f"{measured['gemm_flop_per_s'] / 1e9:,.0f} GFLOP/s, "
            f"copy {measured['copy_bytes_per_s'] / 1e9:.1f} GB/s"
        )


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.0%}"
