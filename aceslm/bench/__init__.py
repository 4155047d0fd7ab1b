"""Throughput of the engines on this machine, as ratios: `aceslm bench`.

result = run_bench(spec, ["ace"], ["shared_prefix", "generate"], LoadOptions(), Repeats(), progress)
result.workloads[0].ratios["shared_prefix/generate"]
"""
