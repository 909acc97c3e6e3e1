"""What a launcher starts: each process says in a file of the given folder with which others it trains."""

import json
import sys
from pathlib import Path

from accelerate.utils import gather_object

from modeling_msmaml import MetaTrainingArguments


def main(folder: Path) -> None:
    args = MetaTrainingArguments(output_dir=str(folder / "run"), report_to="none")
    met = gather_object([args.process_index])
    said = {"world_size": args.world_size, "device": args.device.type, "tasks": args.tasks_per_step, "met": met}
    (folder / f"{args.process_index}.json").write_text(json.dumps(said))
    args.distributed_state.wait_for_everyone()
    args.distributed_state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
