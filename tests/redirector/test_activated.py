"""What a redirector believes that the service manager started: root's file, and nobody but the proxy's user."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from redirector.activated import check_peer, read_start
from redirector.plan import Plan
from redirector.wire import Heartbeat, Start, encode

PLAN = Plan(ports=(443,), listen_port=61000, exempt_uid=61184)


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def given(folder, data=None, mode=0o644):
    path = folder / "start.json"
    path.write_bytes(encode(Start("service", str(folder), PLAN)) if data is None else data)
    path.chmod(mode)
    return path


def test_it_reads_what_root_wrote(folder):
    assert read_start(str(given(folder))).plan == PLAN


@pytest.mark.parametrize(("data", "mode", "why"), [
    pytest.param(None, 0o666, "root alone may write", id="others may write it"),
    pytest.param(None, 0o664, "root alone may write", id="a group may write it"),
    pytest.param(encode(Heartbeat()), 0o644, "not a Start", id="another message"),
    pytest.param(encode(Start("service", "/run/x", None)), 0o644, "not a Start with a plan", id="no plan"),
    pytest.param(b"{}", 0o644, "not a message", id="nonsense"),
])
def test_other_files_are_refused(folder, data, mode, why):
    with pytest.raises(ValueError, match=why):
        read_start(str(given(folder, data, mode)))


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_file_of_another_user_is_refused(folder):
    path = given(folder)
    os.chown(path, 61184, 61184)
    with pytest.raises(ValueError, match="root alone"):
        read_start(str(path))


def test_neither_a_link_nor_a_folder_that_others_may_write(folder):
    path = given(folder)
    (folder / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        read_start(str(folder / "link"))
    folder.chmod(0o777)
    with pytest.raises(ValueError, match="root alone"):
        read_start(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="being another user needs root")
@pytest.mark.parametrize(("uid", "welcome"), [(61184, True), (0, True), (61185, False)])
def test_who_may_ask(folder, uid, welcome):
    """By the credentials that the kernel noted at connect(2), not by anything the peer says."""
    script = f"import os, socket, time; os.setuid({uid}); s = socket.socket(socket.AF_UNIX); s.connect('{folder}/s'); time.sleep(9)"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        (folder / "s").chmod(0o666)
        folder.parent.chmod(0o755)
        folder.parent.parent.chmod(0o755)
        listener.listen()
        listener.settimeout(10)
        with subprocess.Popen([sys.executable, "-I", "-c", script]) as process:
            peer, _ = listener.accept()
            with peer:
                start = Start("service", str(folder), PLAN)
                if welcome:
                    check_peer(start, peer.fileno())
                else:
                    with pytest.raises(ValueError, match="not the proxy's"):
                        check_peer(start, peer.fileno())
            process.kill()


def test_without_a_socket_or_a_file_it_says_so_and_ends(folder):
    for arguments, code in (((), 2), ((str(folder / "none"),), 1), ((str(given(folder, b"x")),), 2)):
        done = subprocess.run([sys.executable, "-I", "-m", "redirector.activated", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith("redirector: "), "Traceback" in done.stderr) == (code, True, False)


def test_nothing_that_is_said_chooses_the_rules(folder):
    """A Start on the channel is an error, as for any redirector that has one already."""
    if os.geteuid() != 0:
        pytest.skip("rules need root")
    path = given(folder, encode(Start("service", str(folder), replace(PLAN, fail="open"))))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["unshare", "--net", sys.executable, "-I", "-m", "redirector.activated", str(path)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as process:
            theirs.close()
            ours.settimeout(10)
            ours.sendall(encode(Start("service", str(folder), replace(PLAN, ports=(22,), fail="open"))))
            assert process.wait(10) == 2
