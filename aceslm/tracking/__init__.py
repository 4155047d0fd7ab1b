"""Weights & Biases behind one door: nothing here may cost a row, or more than ten seconds a shard.

    tracking = shard_tracking(run)          # in a worker
    with tracking.shard(cell, shard, attempt) as live:
        live.row(record)
        live.progress(rows_done)
    tracking.close()

    track_run(run, analysed)                         # after a merge: a W&B run per cell and one for the grid

What is to be told is written first, as a script: a file of JSON lines (`script.py`). A process of its own
plays scripts (`player.py`, the only module that imports wandb): what hangs or breaks there is killed with
it, no signal handler or thread of W&B's enters a worker, and a script that was not sent is played later.
"""
