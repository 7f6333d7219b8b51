"""Subcommands of `trt-harness`; a module has `add(subparsers)` and `run(args) -> int`.

The subcommand's name is the module's, with dashes; imports of anything heavy belong into `run`.
"""

COMMANDS: tuple[str, ...] = (
    "validate", "init", "lower", "build", "search_fp32", "bundle", "report", "diff", "baseline", "inspect",
    "trtexec", "fetch", "prune", "doctor",
)  # fmt: skip
"""The modules, in the order of `trt-harness --help`."""
