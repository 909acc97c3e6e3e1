"""
Fits SetFit to tasks, in an environment of its own: it needs another version of transformers than this project. Started
by `setfit_texts.py`; it imports nothing of this project.

    python setfit_worker.py FOLDER_OF_ENCODER THREADS < TASKS

Each line of the input is a task in JSON, `{"support": texts, "labels": integers, "query": texts}`; each line of the
output is `{"predictions": integers, "seconds": CPU seconds of fit and predict}`, the model
loaded before.
"""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main(encoder: str, threads: int) -> None:
    torch.set_num_threads(threads)
    output = sys.stdout
    sys.stdout = sys.stderr  # the libraries print to it
    for line in sys.stdin:
        task = json.loads(line)
        model = SetFitModel.from_pretrained(encoder, local_files_only=True, device="cpu")
        data = Dataset.from_dict({"text": task["support"], "label": task["labels"]})
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(output_dir=folder, report_to="none", seed=0, show_progress_bar=False)
            start = time.process_time()
            Trainer(model=model, args=args, train_dataset=data).train()
            predictions = model.predict(task["query"], use_labels=False, show_progress_bar=False)
            seconds = time.process_time() - start
        found = {"predictions": [int(label) for label in predictions], "seconds": seconds}
        print(json.dumps(found), file=output, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
