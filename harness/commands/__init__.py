"""Subcommands of `trt-harness`; a module has `add(subparsers)` and `run(args) -> int`.

The subcommand's name is the module's, with dashes; imports of anything heavy belong into `run`.
"""

COMMANDS: tuple[str, ...] = (
    "init", "fetch", "search_fp32", "bundle", "report", "diff", "inspect", "doctor", "trtexec", "prune",
)  # fmt: skip
"""The modules, in the order of `trt-harness --help`."""
