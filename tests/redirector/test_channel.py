"""The channel waits for nobody: a peer that goes, hangs or does not read has an answer."""
import os
import socket
import struct

import pytest

from redirector.channel import MAX_PENDING, Channel, PeerGone
from redirector.wire import Failed, Heartbeat, ProtocolError, Stop, encode


@pytest.fixture
def ends():
    """The peer's socket, and our channel over the other one."""
    peer, ours = socket.socketpair()
    with peer, ours:
        yield peer, Channel(ours.fileno(), ours.fileno())


def test_messages_come_as_they_are_completed(ends):
    peer, channel = ends
    assert channel.messages(0) == []
    data = encode(Heartbeat()) + encode(Stop())
    peer.sendall(data[:-3])
    assert channel.messages(1) == [Heartbeat()]
    peer.sendall(data[-3:])
    assert channel.messages(1) == [Stop()]


@pytest.mark.parametrize("end", [
    pytest.param(lambda peer: peer.close(), id="closed"),
    pytest.param(lambda peer: peer.shutdown(socket.SHUT_WR), id="half closed"),
])
def test_end_of_input(ends, end):
    peer, channel = ends
    end(peer)
    with pytest.raises(PeerGone):
        channel.messages(1)


def test_a_peer_that_has_gone_cannot_be_told(ends):
    peer, channel = ends
    peer.close()
    with pytest.raises(PeerGone):
        channel.send(Heartbeat())


def test_a_peer_that_reset_the_connection_cannot_be_told():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(PeerGone):
            Channel(ours.fileno(), ours.fileno()).send(Heartbeat())


def test_a_peer_that_does_not_read_is_given_up(ends):
    _, channel = ends
    with pytest.raises(ProtocolError, match="does not read"):
        send_without_end(channel)


def send_without_end(channel):
    for _ in range(MAX_PENDING):
        channel.send(Failed("x" * 900))


def test_what_could_not_be_sent_follows_when_the_peer_reads(ends):
    peer, channel = ends
    line = encode(Failed("x" * 900))
    sent = 0
    while not channel.waiting:
        channel.send(Failed("x" * 900))
        sent += len(line)
    peer.setblocking(False)
    received = b""
    while len(received) < sent:
        received += peer.recv(1 << 20)
        channel.messages(0.01)
    assert received == line * (sent // len(line))


def test_two_pipes_do_as_well():
    (ours, peer_writes), (peer_reads, out) = os.pipe(), os.pipe()
    try:
        channel = Channel(ours, out)
        os.write(peer_writes, encode(Stop()))
        channel.send(Heartbeat())
        assert (channel.messages(1), os.read(peer_reads, 100)) == ([Stop()], encode(Heartbeat()))
    finally:
        for fd in (ours, peer_writes, peer_reads, out):
            os.close(fd)
