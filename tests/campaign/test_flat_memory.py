"""What runs for long does not grow; `python -m tests.campaign.memory` counts to 2,000."""

import pytest

from . import memory


@pytest.mark.parametrize("kind", memory.KINDS)
def test_memory_is_flat_over_what_repeats(kind, tmp_path):
    assert memory.KINDS[kind](tmp_path, 100) < memory.BOUND
