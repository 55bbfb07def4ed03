"""Each connect() of the tree: where it leads, what its caller sees, and who is told what."""
import os
import signal
import time

import pytest

from redirector import keeper
from redirector.wire import Ready
from tests.redirector.hooked import Hooked, hooked

__all__ = ["hooked"]        # a fixture

#: Connect to a port of 127.0.0.1, and say where one is.
SIMPLE = """
s = socket.socket()
say(tried(s.connect, ("127.0.0.1", {port})), s.getpeername()[1])
"""


def test_a_captured_connect_leads_to_the_proxy_which_is_told_all(hooked: Hooked):
    assert hooked.start() == Ready("hook", 0, False)
    process = hooked.python(SIMPLE.format(port="origin"))
    owner = hooked.told()
    assert process.communicate()[0] == f"[null, {hooked.ports[2]}]\n"       # getpeername() is the proxy
    assert owner.server == ("127.0.0.1", hooked.ports[0])
    assert owner.process is not None
    assert (owner.process.pid, owner.process.uid) == (process.pid, os.getuid())
    assert hooked.came(hooked.origin) == 0


@pytest.mark.parametrize(("code", "where"), [
    pytest.param(SIMPLE.format(port="untouched"), "untouched", id="another port"),
    pytest.param("s = socket.socket(); s.setblocking(False); e = s.connect_ex(('127.0.0.1', origin));"
                 "time.sleep(.1); say(errno.errorcode[e], s.getpeername()[1])", "proxy", id="without blocking"),
    pytest.param("s = socket.socket(); s.settimeout(5); say(tried(s.connect, ('127.0.0.1', origin)), 0)", "proxy",
                 id="with a timeout"),
    pytest.param("s = socket.socket(socket.AF_INET6);"
                 "say(tried(s.connect, ('::ffff:127.0.0.1', origin)), s.getpeername()[0])", "proxy", id="v4-mapped"),
    pytest.param("s = socket.socket(socket.AF_INET6); say(tried(s.connect, ('::1', origin)), s.getpeername()[0])",
                 "proxy6", id="IPv6"),
    pytest.param("s = socket.socket(); say(tried(s.connect, ('0.0.0.0', origin)), s.getpeername()[1])", "proxy",
                 id="no address is this computer"),
    pytest.param("if not (pid := os.fork()): os.execvp(sys.executable, [sys.executable, '-c',"
                 "f\"import socket; socket.create_connection(('127.0.0.1', {origin}))\"])\n"
                 "say(os.waitpid(pid, 0)[1])", "proxy", id="a child's child, by exec"),
    pytest.param("import subprocess; say(subprocess.run(['bash', '-c', f'exec 3<>/dev/tcp/127.0.0.1/{origin}'])"
                 ".returncode)", "proxy", id="by vfork"),
    pytest.param("def act(): socket.create_connection(('127.0.0.1', origin))\n"
                 "t = threading.Thread(target=act); t.start(); t.join(); say(0)", "proxy", id="in a thread"),
    pytest.param("s = socket.socket(); s.bind(('127.0.0.1', 0)); say(tried(s.connect, ('127.0.0.1', origin)))",
                 "proxy", id="a bound socket"),
    pytest.param("s = socket.socket(); s.setsockopt(6, 30, 1); say(tried(s.connect, ('127.0.0.1', origin)));"
                 "s.send(b'x')", "proxy", id="TCP_FASTOPEN_CONNECT"),
    pytest.param("s = socket.socket(proto=262) if os.path.exists('/proc/sys/net/mptcp') else socket.socket();"
                 "say(tried(s.connect, ('127.0.0.1', origin)))", "proxy", id="multipath TCP"),
])
def test_where_a_connection_leads(hooked: Hooked, code, where):
    hooked.start()
    process = hooked.python(code)
    getattr(hooked, where).accept()[0].close()
    process.communicate()
    assert process.returncode == 0
    assert sum(hooked.came(each) for each in (hooked.origin, hooked.untouched, hooked.proxy, hooked.proxy6)) == 0


@pytest.mark.parametrize(("code", "expected"), [
    pytest.param("say(syscall(42, 77, b'', 16))", "EBADF", id="no such descriptor"),
    pytest.param("say(syscall(42, 1, b'', 16))", "ENOTSOCK", id="no socket"),
    pytest.param("say(syscall(42, socket.socket().detach(), 4, 16))", "EFAULT", id="no such memory"),
    pytest.param("say(syscall(42, socket.socket().detach(), -8, 16))", "EFAULT", id="the kernel's memory"),
    pytest.param("say(syscall(42, socket.socket().detach(), b'', 129))", "EINVAL", id="too long"),
    pytest.param("say(syscall(42, socket.socket().detach(), b'', -1))", "EINVAL", id="a negative length"),
    pytest.param("say(syscall(42, socket.socket().detach(), b'', 0))", "EINVAL", id="no address"),
    pytest.param("say(syscall(42, socket.socket().detach(), struct.pack('H', 99) + bytes(14), 16))", "EAFNOSUPPORT",
                 id="another family"),
    pytest.param("s = socket.socket(); s.connect(('127.0.0.1', origin));"
                 "say(tried(s.connect, ('127.0.0.1', origin)))", "EISCONN", id="connected already"),
    pytest.param("say(tried(socket.socket().connect, ('127.0.0.1', 1)))", "ECONNREFUSED", id="nobody listens"),
    pytest.param("s = socket.socket(); s.setblocking(False); a = tried(s.connect, ('127.0.0.1', 1)); time.sleep(.1);"
                 "say(a, errno.errorcode[s.getsockopt(1, 4)])", ["EINPROGRESS", "ECONNREFUSED"],
                 id="nobody listens, without blocking"),
    pytest.param("s = socket.socket(); a = tried(s.connect, ('127.0.0.1', 1));"
                 "say(a, tried(s.connect, ('127.0.0.1', untouched)))", ["ECONNREFUSED", None], id="tries again"),
    pytest.param("s = socket.socket(); s.connect(('127.0.0.1', untouched)); u = struct.pack('16x');"
                 "say(syscall(42, s.fileno(), u, 16), tried(s.getpeername), tried(s.connect, ('127.0.0.1', untouched)))",
                 [None, "ENOTCONN", None], id="disconnects"),
    pytest.param("s = socket.socket(); s.listen(); say(tried(s.connect, ('127.0.0.1', untouched)))", "EISCONN",
                 id="a listener"),
    pytest.param("s = socket.socket(); s.setsockopt(1, 25, b'lo'); say(tried(s.connect, ('127.0.0.1', origin)))",
                 "ENETUNREACH", id="bound to a device, where the proxy need not be"),
])
def test_errors_are_those_of_the_call(hooked: Hooked, code, expected):
    if "42" in code and os.uname().machine != "x86_64":
        pytest.skip("numbers of another machine")
    hooked.start()
    assert hooked.run(code) == expected


@pytest.mark.parametrize(("quic", "code", "expected"), [
    pytest.param("reject", "s.connect(('127.0.0.1', 443))", "ECONNREFUSED", id="connect"),
    pytest.param("allow", "s.connect(('127.0.0.1', 443))", None, id="connect, allowed"),
    pytest.param("reject", "s.connect(('127.0.0.1', 53)); s.send(b'x')", None, id="another port"),
    pytest.param("reject", "s.sendto(bytes(1200), ('127.0.0.1', 443))", "ECONNREFUSED", id="the start of QUIC"),
    pytest.param("reject", "s.sendto(bytes(1199), ('127.0.0.1', 443))", None, id="too short for that"),
    pytest.param("reject", "s.sendto(bytes(1200), ('127.0.0.1', 53))", None, id="long, for another port"),
    pytest.param("allow", "s.sendto(bytes(1200), ('127.0.0.1', 443))", None, id="allowed"),
])
def test_quic_is_refused_at_once(hooked: Hooked, quic, code, expected):
    hooked.start(quic=quic)
    assert hooked.run(f"s = socket.socket(type=socket.SOCK_DGRAM)\ndef act(): {code}\nsay(tried(act))") == expected


def test_a_unix_socket_is_the_callers_to_its_peer(hooked: Hooked):
    hooked.start()
    code = ("l = socket.socket(socket.AF_UNIX); l.bind('\\0hooked%d' % os.getpid()); l.listen();"
            "c = socket.socket(socket.AF_UNIX); c.connect(l.getsockname());"
            "say(struct.unpack('iii', l.accept()[0].getsockopt(1, 17, 12))[0] == os.getpid())")
    assert hooked.run(code) is True


def test_what_was_judged_is_what_is_used(hooked: Hooked):
    """A second thread writes the other port over the address all the time: nothing gets to the captured one."""
    hooked.start()
    assert hooked.run("""
address = ctypes.create_string_buffer(struct.pack("=H", 2) + struct.pack("!H4s8x", origin, bytes((127, 0, 0, 1))), 16)
def write():
    while True:
        address[2:4] = struct.pack("!H", untouched)
        address[2:4] = struct.pack("!H", origin)
threading.Thread(target=write, daemon=True).start()
sys.setswitchinterval(1e-5)
for _ in range(300):
    s = socket.socket()
    libc.connect(s.fileno(), address, 16)
    s.close()
say(0)
os._exit(0)""") == 0
    assert hooked.came(hooked.origin) == 0
    assert hooked.came(hooked.proxy)
    assert hooked.came(hooked.untouched)


def test_a_thread_with_descriptors_of_its_own_is_looked_at_itself(hooked: Hooked):
    """Else a Unix socket under the same number in the process would be a way around."""
    hooked.start()
    assert hooked.run("""
a, b = socket.socketpair()
done = []
def act():
    os.unshare(os.CLONE_FILES)
    with socket.socket() as s:
        os.dup2(s.fileno(), a.fileno())
    s = socket.socket(fileno=a.fileno())
    done.append((tried(s.connect, ("127.0.0.1", origin)), s.getpeername()[1]))
    s.detach()
thread = threading.Thread(target=act); thread.start(); thread.join()
say(done[0][1] == proxy)""") is True


#: A listener that answers nobody any more, as its queue is full; `full` is its port.
FULL = """
deaf = socket.socket(); deaf.bind(("127.0.0.1", 0)); deaf.listen(0); full = deaf.getsockname()[1]
held = []
for _ in range(3):
    held.append(socket.socket()); held[-1].setblocking(False); held[-1].connect_ex(("127.0.0.1", full))
time.sleep(.1)
"""


def test_one_that_waits_keeps_nobody_else_waiting(hooked: Hooked):
    hooked.start()
    assert hooked.run(FULL + """
threading.Thread(target=lambda: socket.socket().connect(("127.0.0.1", full)), daemon=True).start()
time.sleep(.2); began = time.monotonic()
socket.create_connection(("127.0.0.1", untouched))
say(time.monotonic() - began < 1)
os._exit(0)""") is True


def test_its_time_is_the_sockets(hooked: Hooked):
    hooked.start()
    assert hooked.run(FULL + """
s = socket.socket(); s.setsockopt(1, 21, struct.pack("=qq", 0, 300_000)); began = time.monotonic()
say(tried(s.connect, ("127.0.0.1", full)), time.monotonic() - began < 5)""") == ["EINPROGRESS", True]


@pytest.mark.parametrize(("restarts", "expected"), [(0, "EINTR"), (0x10000000, None)])
def test_it_is_interrupted_as_without_us(hooked: Hooked, restarts, expected):
    """By sigaction(2): Python's own connect() would begin again by itself."""
    hooked.start()
    assert hooked.run(FULL + f"""
s = socket.socket()
heard = []
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: (heard.append(1), [h.close() for h in held], deaf.accept()))
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ubyte * 128), ("flags", ctypes.c_int), ("x", ctypes.c_void_p)]
action = Action(ctypes.cast(handler, ctypes.c_void_p), (ctypes.c_ubyte * 128)(), {restarts}, None)
assert libc.sigaction(14, ctypes.byref(action), None) == 0
signal.setitimer(signal.ITIMER_REAL, .3)
result = libc.connect(s.fileno(), struct.pack("=H", 2) + struct.pack("!H4s8x", full, bytes((127, 0, 0, 1))), 16)
say(errno.errorcode[ctypes.get_errno()] if result else None, heard)""") == [expected, [1]]


def test_each_is_told_once_and_strangers_not_at_all(hooked: Hooked):
    hooked.start()
    process = hooked.python(SIMPLE.format(port="origin"))
    peer, _ = hooked.proxy.accept()
    ends = peer.getpeername(), peer.getsockname()
    process.communicate()
    assert [hooked.ask(*ends).server is None for _ in range(2)] == [False, True]
    assert hooked.ask(("127.0.0.1", 1), ends[1]).process is None
    peer.close()


def test_calls_wait_for_the_next_redirector(hooked: Hooked):
    hooked.start()
    process = hooked.python("for _ in range(2):\n s = socket.socket(); s.connect(('127.0.0.1', origin)); say(0); input()",
                            stdin=-1)
    hooked.told()
    assert process.stdout.readline() == "0\n"
    hooked.redirector.kill()
    hooked.redirector.wait()
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(0.3)
    assert hooked.came(hooked.proxy) == 0       # nobody answers: it waits
    hooked.start()
    assert hooked.told().server == ("127.0.0.1", hooked.ports[0])
    assert process.stdout.readline() == "0\n"


def test_they_do_not_wait_for_ever(hooked: Hooked, monkeypatch):
    monkeypatch.setattr(keeper, "GRACE", 0.5)
    hooked.start()
    process = hooked.python(FULL + """
threading.Thread(target=lambda: say("taken", tried(socket.socket().connect, ("127.0.0.1", full)))).start()
say(0); input(); say("new", tried(socket.create_connection, ("127.0.0.1", origin)))""", stdin=-1)
    assert process.stdout.readline() == "0\n"
    time.sleep(0.3)
    hooked.redirector.kill()
    process.stdin.write("\n")
    process.stdin.flush()
    said = process.communicate(timeout=10)[0]
    assert '["taken", "ECONNABORTED"]' in said
    assert '["new", "ECONNREFUSED"]' in said
    hooked.start()
    assert hooked.run("say(tried(socket.create_connection, ('127.0.0.1', untouched)))") is None


def test_what_a_dead_redirector_left_unanswered_fails(hooked: Hooked):
    hooked.start()
    process = hooked.python(FULL + "say(0); say(tried(socket.socket().connect, ('127.0.0.1', full)))")
    assert process.stdout.readline() == "0\n"
    time.sleep(0.5)
    hooked.redirector.send_signal(signal.SIGKILL)
    hooked.redirector.wait()
    hooked.start()
    assert process.communicate(timeout=5)[0] == '"ECONNABORTED"\n'
