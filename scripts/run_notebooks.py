"""
Executes the notebooks in examples/ and stores what they print and draw, without times, progress bars and warnings.

    python -m scripts.run_notebooks [NOTEBOOK ...]
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPOSITORY / "examples").glob("*.ipynb"))
TIMEOUT = 200  # s for a cell


def executed(path: Path, folder: Path) -> NotebookNode:
    """
    A notebook with the outputs of its cells.

    Args:
        path: the notebook, which is left as it is.
        folder: the working directory of its code.

    Raises:
        `nbclient.exceptions.CellExecutionError`: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel takes the code beside this script, wherever one is installed.
    environment = {"HF_HUB_OFFLINE": "1", **os.environ, "PYTHONPATH": str(REPOSITORY)}
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS, help="by default all of examples/")
    for path in parser.parse_args(argv).notebooks:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path.name)


if __name__ == "__main__":
    main()
