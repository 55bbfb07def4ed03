"""URL rules against cases that nobody here wrote, as `lockgate explain` sees requests."""

import gzip
import json
from pathlib import Path

import pytest

from addons.urls import Rules
from proxy.explain import Asked

CASES = Path(__file__).resolve().parents[3] / "shared/data/dlp/url_filter_match.jsonl.gz"


@pytest.mark.skipif(not CASES.exists(), reason="the development data are not here")
def test_development_data():
    right = total = 0
    for case in map(json.loads, gzip.decompress(CASES.read_bytes()).splitlines()):
        if case["url"].startswith("data:"):
            continue
        flow = Asked(case["url"], source=case["source_url"] or None, type=case["type"]).flow()
        total += 1
        right += (Rules(rules=tuple(case["filters"])).requestheaders(flow) is not None) == bool(case["expect"])
    assert right >= 0.999 * total
