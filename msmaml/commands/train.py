"""Meta-train, evaluate and save a model.

    accelerate launch run_meta.py CONFIG.yaml [--any_option value ...]
    msmaml train CONFIG.yaml [--any_option value ...]

The YAML file may give any of the options; those of the command line take precedence. `--help` lists all of them.
CONFIG.yaml may also be one that comes with the code, by its name: msmaml train base
"""

import logging
import sys

import transformers
from accelerate import PartialState

from modeling_msmaml.training.disk_space import is_full

from ..runs.leave_one_out import run_leave_one_out
from ..runs.pushing import NOT_PUSHED, NotPushed
from ..runs.run import check_what_to_do, run
from ..runs.run_arguments import option_parser as parser
from ..runs.run_arguments import parse_arguments

__all__ = ["main", "parser"]


def main(argv: list[str] | None = None, command: str = "train") -> dict:
    """Runs what the options ask for, called by a command of this name; returns what `all_results.json` holds.

    With `--leave_one_out` it is what `leave_one_out.json` holds. A run that is complete but could not be uploaded ends
    with the exit status `NOT_PUSHED`.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments, data, args = parse_arguments(argv, command)
    try:
        check_what_to_do(arguments, args)
    except ValueError as error:
        sys.exit(f"{command}: {error}")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO if args.should_log else 30)
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    try:
        return run_leave_one_out(data, args, argv, command) if data.leave_one_out else run(arguments, data, args, argv)
    except NotPushed as error:
        print(f"{command}: {error}", file=sys.stderr)
        sys.exit(NOT_PUSHED)
    except Exception as error:  # of whichever library writes a model, results or a cache
        if not is_full(error):
            raise
        places = f"output_dir={args.output_dir} and cache_dir={data.cache_dir or 'that of datasets'}"
        sys.exit(f"{command}: a disk is full ({error}): free some space where {places} are")
    finally:
        # The processes of several machines end together: without this, the first to go may leave others waiting.
        PartialState().destroy_process_group()
