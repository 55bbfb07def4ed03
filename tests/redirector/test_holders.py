"""Who holds sockets: real processes, one pass for all."""
import os
import socket
import subprocess
import sys
from pathlib import Path

from redirector.holders import holders
from redirector.processes import program


def test_each_socket_has_its_process():
    script = "import socket,os,sys; s=[socket.socket() for _ in range(3)]; print(*(os.fstat(x.fileno()).st_ino for x in s), flush=True); sys.stdin.read()"
    with (subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
          socket.socket() as mine):
        theirs = [int(word) for word in child.stdout.readline().split()]
        own = os.fstat(mine.fileno()).st_ino
        assert holders([*theirs, own, 2**31], [os.getuid()]) == {**dict.fromkeys(theirs, child.pid), own: os.getpid()}
        assert program(child.pid) == str(Path(f"/proc/{child.pid}/exe").readlink())
        child.stdin.close()


def test_nothing_asked_nothing_searched():
    assert holders([], []) == {}


def test_a_program_that_has_gone_has_no_name():
    assert program(2**22 + 1) == ""
