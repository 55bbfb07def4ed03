"""Firewalls that would drop what `divert` turns round are named, with the chain."""
import json
import os
import shutil
import subprocess

import pytest

from proxy import packetcheck
from proxy.doctor import apart
from redirector import handles

LIVE = pytest.mark.live
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
NFT = pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed: apt install nftables")
CHAIN = "table inet fw {{ chain door {{ type filter hook {hook} priority 0; policy {policy}; {rules} }} }}"


@pytest.mark.parametrize(("chain", "named"), [
    pytest.param({"hook": "input", "policy": "drop", "rules": "iif lo accept"}, True, id="policy drop"),
    pytest.param({"hook": "input", "policy": "accept", "rules": "iif lo accept; counter drop"}, True, id="a last rule drops"),
    pytest.param({"hook": "input", "policy": "accept", "rules": "iif lo accept; reject"}, True, id="a last rule rejects"),
    pytest.param({"hook": "input", "policy": "accept", "rules": "tcp dport 25 drop"}, False, id="one port is closed"),
    pytest.param({"hook": "input", "policy": "accept", "rules": "drop; accept"}, False, id="the last accepts"),
    pytest.param({"hook": "forward", "policy": "drop", "rules": ""}, False, id="another hook"),
])
@LIVE
@ROOT
@NFT
def test_firewall(chain, named):
    found = []

    def inside():
        rules = CHAIN.format(**chain).replace("; }", ";\n}").replace("{ ", "{\n").replace("; ", ";\n").replace(" }", "\n}")
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        found.extend(packetcheck.firewall())

    apart(os.CLONE_NEWNET, inside)
    assert [("table inet fw, chain door" in text, "PORT accept" in mend) for _, text, mend in found] == [(True, True)] * named


def test_other_families_are_none_of_ours():
    chain = {"family": "bridge", "table": "x", "name": "y", "hook": "input", "policy": "drop"}
    assert list(packetcheck.closed_inputs({"nftables": [{"chain": chain}]})) == []
    assert list(packetcheck.closed_inputs(json.loads("{}"))) == []


@LIVE
@ROOT
@pytest.mark.skipif(bool(handles.usable()), reason=str(handles.usable()))
def test_the_kernel_takes_our_programs():
    found = []
    apart(os.CLONE_NEWNET, lambda: found.extend(packetcheck.kernel()))
    assert [result for result, *_ in found] == ["ok"]


def test_without_the_library_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(handles, "usable", lambda: "pydivert is not installed: pip install pydivert")
    assert [(result, "pip install" in text) for result, text, _ in packetcheck.library()] == [("warn", True)]


@pytest.mark.parametrize(("there", "warned"), [(True, 0), (False, 1)])
def test_a_missing_bpf_filesystem_is_named(monkeypatch, there, warned):
    monkeypatch.setattr(handles, "usable", lambda: None)
    monkeypatch.setattr(packetcheck.divert, "bpffs", lambda: there)
    assert sum("mount -t bpf" in mend for *_, mend in packetcheck.library()) == warned
