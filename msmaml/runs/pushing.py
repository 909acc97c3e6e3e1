"""The upload of a run, which comes last: one that fails loses nothing of the run, and can be repeated by a command."""

import shlex

from modeling_msmaml import MetaTrainer
from modeling_msmaml.model.hub_files import limit_silence
from modeling_msmaml.training.trainer_hooks import UPLOAD_ERRORS

# The exit status of a run that is complete but was not uploaded.
NOT_PUSHED = 3


class NotPushed(RuntimeError):
    """A complete run, whose files are all in its folder, could not be uploaded."""


def push(trainer: MetaTrainer) -> None:
    """Uploads the output folder of a run.

    Raises:
        NotPushed: the upload failed; the message holds the command that repeats it.
    """
    limit_silence()  # a client that failed meanwhile was replaced by a new one
    try:
        trainer.push_to_hub()
    except UPLOAD_ERRORS as error:
        raise NotPushed(
            f"the run is complete, and model, card and results are in {trainer.args.output_dir}, but "
            f"{trainer.hub_model_id} was not changed ({error}). To upload them: {push_command(trainer)}"
        ) from error


def push_command(trainer: MetaTrainer) -> str:
    """Returns the command that uploads the output folder of a run."""
    args = trainer.args
    options = ["--private"] if args.hub_private_repo else []
    options += ["--revision", args.hub_revision] if args.hub_revision else []
    return shlex.join(["msmaml", "push", str(args.output_dir), str(trainer.hub_model_id), *options])
