"""The lab, one for each module, and a state folder for each test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.lab import Lab, missing


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("namespaces and nftables need root")
    if absent := missing("nft", "ip", "nginx", "curl", "nsenter", "unshare"):
        pytest.skip(f"not installed: {absent}")
    with tempfile.TemporaryDirectory(prefix="lockgate-lab-", ignore_cleanup_errors=True) as name:
        lab = Lab(Path(name))
        try:
            lab.open()
            yield lab
        finally:
            lab.close()


@pytest.fixture
def state(lab: Lab, tmp_path: Path) -> Path:
    """A folder for keys and events, below one that only root may enter."""
    return tmp_path / "state"
