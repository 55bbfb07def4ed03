"""What can be said of Windows here: it has not been run there."""

import sys

import pytest

from proxy.windows_service import ACCOUNT, NAME, REDIRECTOR, commands
from redirector.pipe import SECURITY, serve


def test_the_proxy_gets_the_account_with_least_rights_and_both_come_back():
    made = commands(r"C:\Program Files\lockgate\python.exe", r"C:\p.yaml", r"C:\start.json")
    created = {command[2]: command for command in made if command[1] == "create"}
    assert created[NAME][-1] == ACCOUNT
    assert created[REDIRECTOR][-1] == "LocalSystem"
    assert created[NAME][4].startswith(r'"C:\Program Files\lockgate\python.exe" -I -m proxy.windows_service lockgate')
    assert {command[2] for command in made if command[1] == "failure"} == {NAME, REDIRECTOR}


def test_the_pipe_is_nobody_elses():
    """Who is not named has no access: the list is protected, and the network is denied first (MS-DTYP, 2.5.1)."""
    assert SECURITY.startswith("D:P(D;;GA;;;NU)")
    assert {entry[-2:] for entry in SECURITY.split("(A;")[1:] for entry in [entry.rstrip(")")]} == {"SY", "BA", "LS"}


@pytest.mark.skipif(sys.platform == "win32", reason="there it would wait for the proxy")
def test_elsewhere_it_says_so():
    with pytest.raises(OSError, match="Windows' own"):
        serve()
