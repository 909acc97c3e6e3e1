"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data and a published checkpoint: `../shared`, or `$MSMAML_SHARED`."""
    path = Path(os.environ.get("MSMAML_SHARED", REPOSITORY.parent / "shared")).resolve()
    if not path.is_dir():
        message = f"there is no folder {path} with real data; MSMAML_SHARED may name one"
        if os.environ.get("MSMAML_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(reason=message)
    return path


@pytest.fixture(scope="session")
def data_dir(shared_dir: Path) -> Path:
    return shared_dir / "data"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    """Where built data sets go, so that each is built once for all tests."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are faster on one thread; and results are compared to the last bit, which the number can change."""
    torch.set_num_threads(1)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    """Runs a test with one and with two intra-op threads: CPU kernels differ between the two."""
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)
