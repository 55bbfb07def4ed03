"""Errors of nftables come with what to do about them."""
import pytest

from redirector import nft
from redirector.plan import BackendError


@pytest.mark.parametrize(("error", "advice"), [
    pytest.param("Error: Could not process rule: Operation not permitted\nx\n^", "run as root", id="no right"),
    pytest.param('Error: cgroupv2 path fails: No such file or directory\n"x"', "nsenter", id="no control group"),
    pytest.param("Error: Could not process rule: No such file or directory\n", "nft_redir", id="no such expression"),
    pytest.param("Error: Could not process rule: Operation not supported\n", "5.12", id="old kernel"),
])
def test_advice(error, advice):
    text = nft.explain(error)
    assert advice in text
    assert "\n" not in text


@pytest.mark.parametrize(("error", "text"), [("Error: syntax error\nx", "nftables: Error: syntax error"),
                                             ("", "nftables: no reason given")])
def test_no_advice_is_made_up(error, text):
    assert nft.explain(error) == text


def test_without_nftables_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nft, "LIBRARY", "libnonesuch.so.1")
    nft._library.cache_clear()
    with pytest.raises(BackendError, match="apt install nftables"):
        nft.Tables()
