"""Upload a folder with a model or a fitted classifier to the Hub.

The folder is the output_dir of `msmaml train`, or one to which `save_pretrained` wrote. Checkpoints of training are
left out. The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

from . import is_of_network

EPILOG = """
examples:
  msmaml push outputs/quickstart USER/NAME
  msmaml push crow_or_wren USER/NAME --private

exit status: 0 if it was uploaded, 1 if not, 2 if an option is wrong
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "msmaml push", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with config.json and model.safetensors")
    parser.add_argument("repository", help="USER/NAME; the repository is created if it does not exist")
    parser.add_argument("--private", action="store_true", default=None, help="make the repository private if it is new")
    parser.add_argument("--commit_message", default="Upload model", help="message of the commit")
    parser.add_argument("--revision", help="branch of the repository that is changed; by default main")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Prints the address of the repository."""
    arguments = parser().parse_args(sys.argv[1:] if argv is None else argv)
    if not (arguments.folder / "config.json").is_file():
        sys.exit(f"push: {arguments.folder} holds no config.json: name the folder of a saved model")
    from huggingface_hub import HfApi

    from modeling_msmaml.model.hub_files import limit_silence, uploaded
    from modeling_msmaml.training.checkpoints import UNFINISHED
    from modeling_msmaml.training.trainer_hooks import UPLOAD_ERRORS

    limit_silence()
    try:
        hub = HfApi()
        repository = hub.create_repo(arguments.repository, private=arguments.private, exist_ok=True).repo_id
        commit = uploaded(
            repository,
            lambda: hub.upload_folder(
                repo_id=repository,
                folder_path=arguments.folder,
                commit_message=arguments.commit_message,
                revision=arguments.revision,
                ignore_patterns=["checkpoint-*", f"{UNFINISHED}/*", "runs/*"],
            ),
        )
    except Exception as error:
        if not (isinstance(error, UPLOAD_ERRORS) or is_of_network(error)):
            raise
        sys.exit(f"push: {arguments.repository} was not changed: {error}")
    print(commit.repo_url)
