"""`aceslm doctor`: is everything here that a run needs?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.verbs.options import JsonOption

_JOB_TIME_MIN = 5
_SBATCH_KEYS = (
    *("job_name", "time", "mem", "cpus_per_task", "gpus_per_node"),
    *("partition", "account", "qos", "constraint", "gres"),
)


def doctor(
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Check a compute node: a five-minute job with this profile."),
    ] = None,
    write_profile: Annotated[
        bool, typer.Option("--write-profile", help="Print a draft of a cluster profile for this site.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Check Python, torch, bitsandbytes, Slurm, W&B, caches and folders; one line each, with the fix."""
    from dataclasses import asdict

    from aceslm.core.errors import WorkError
    from launch.doctor import draft_profile, examine
    from launch.show.console import print_json, say

    if write_profile:
        say(draft_profile().rstrip())
        return
    if profile is not None:
        _on_a_node(profile)
        return
    checks = examine()
    if json_:
        print_json([asdict(check) for check in checks])
    for check in [] if json_ else checks:
        fix = f"  -> {check.fix}" if check.fix else ""
        say(f"{check.state:4}  {check.name:13}  {check.found}{fix}")
    failed = [check.name for check in checks if check.state == "fail"]
    if failed:
        raise WorkError(f"{len(failed)} checks failed: {', '.join(failed)}")


def _on_a_node(profile_name: str) -> None:
    """Run the checks in a short job and show what it printed."""
    import sys
    import tempfile
    from dataclasses import replace

    from aceslm.config.cluster import cluster_profile
    from aceslm.core.values import Resources
    from launch.prepare.targets import at_site
    from launch.show.console import note, say
    from launch.slurm import client as slurm
    from launch.submit.sbatch import parameters, python_command

    slurm.require()
    profile = cluster_profile(profile_name)
    # asks for what a task of a run would, so that it lands on such a node and sees its GPUs
    asked = replace(at_site(Resources(), profile), time_min=_JOB_TIME_MIN)
    values = parameters(asked, profile, "aceslm-doctor")
    options = {key: values[key] for key in _SBATCH_KEYS if key in values} | profile.sbatch
    flags = [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, value in options.items()
    ]
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".doctor-") as folder:
        script = Path(folder) / "doctor.sh"
        output = Path(folder) / "doctor.out"
        lines = ["#!/bin/bash", *values["setup"], f"{python_command(profile)} -m launch doctor"]
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        note(f"waiting for a {_JOB_TIME_MIN}-minute job with profile {profile_name} ({sys.platform})")
        command = ["sbatch", "--wait", f"--output={output}", *flags, str(script)]
        try:
            slurm.run(command, timeout_s=3600)
        finally:
            if output.exists():
                say(output.read_text(encoding="utf-8").rstrip())
