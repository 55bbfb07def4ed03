// Runs inside the observed program, by frida: tells what its TLS library is given to send and hands out as received.
// Nothing is changed. What waits to be told is bounded: beyond it pieces are dropped and counted, as the program must
// not be slowed down.
'use strict';

const PIECE = 65536;            // bytes a message
const WAITING = 8 * 1048576;    // bytes told and not yet acknowledged
let waiting = 0;

const LIBRARIES = [
  { // OpenSSL, BoringSSL, LibreSSL: SSL_write(3), SSL_read(3); the _ex forms return 1 and store the length
    fd: 'SSL_get_fd', server: 'SSL_is_server', name: 'SSL_get_servername', end: 'SSL_free',
    calls: { SSL_write: true, SSL_read: false }, stored: { SSL_write_ex: true, SSL_read_ex: false },
  },
  { // GnuTLS
    fd: 'gnutls_transport_get_int', end: 'gnutls_deinit',
    calls: { gnutls_record_send: true, gnutls_record_recv: false }, stored: {},
  },
];

function acknowledged(message) {
  waiting -= message.size;
  recv('acknowledged', acknowledged);
}
recv('acknowledged', acknowledged);

function told(about, data, size) {
  for (let at = 0; at < size; at += PIECE) {
    const part = Math.min(PIECE, size - at);
    if (waiting + part > WAITING) {
      send({ ...about, kind: 'dropped', size: size - at });
      return;
    }
    waiting += part;
    send({ ...about, kind: 'data' }, data.add(at).readByteArray(part));
  }
}

function hook(module, library) {
  const limit = module.base.add(module.size);
  const find = (name) => {      // its own: a module's dependencies are asked as well
    const address = name ? module.findExportByName(name) : null;
    return address !== null && address.compare(module.base) >= 0 && address.compare(limit) < 0 ? address : null;
  };
  const functionAt = (name, result, words) => {
    const address = find(name);
    return address === null ? null : new NativeFunction(address, result, words);
  };
  const descriptor = functionAt(library.fd, 'int', ['pointer']);
  const isServer = functionAt(library.server, 'int', ['pointer']);
  const servername = functionAt(library.name, 'pointer', ['pointer', 'int']);

  const known = new Map();  // a session's address -> what is said of it with each piece
  let count = 0;
  const about = (session) => {
    const key = session.toString();
    let found = known.get(key);
    if (found === undefined) {
      const fd = descriptor === null ? -1 : descriptor(session);
      const name = servername === null ? NULL : servername(session, 0);
      found = {
        id: `${module.name}:${++count}`, server: isServer !== null && isServer(session) === 1,
        name: name.isNull() ? null : name.readUtf8String(),
        peer: fd < 0 ? null : Socket.peerAddress(fd), local: fd < 0 ? null : Socket.localAddress(fd),
      };
      known.set(key, found);
    }
    return found;
  };

  let hooked = 0;
  const attach = (name, sent, length) => {
    const address = find(name);
    if (address === null) return;
    hooked += 1;
    Interceptor.attach(address, {
      onEnter(args) { [this.session, this.data, this.stored] = [args[0], args[1], args[3]]; },
      onLeave(result) {
        const size = length(result.toInt32(), this.stored);
        if (size > 0) told({ ...about(this.session), sent }, this.data, size);
      },
    });
  };
  for (const [name, sent] of Object.entries(library.calls)) attach(name, sent, (result) => result);
  for (const [name, sent] of Object.entries(library.stored)) {
    attach(name, sent, (result, stored) => result === 1 ? stored.readULong() : 0);
  }
  const end = find(library.end);
  if (hooked && end !== null) {
    Interceptor.attach(end, {
      onEnter(args) {
        const key = args[0].toString();
        if (known.has(key)) send({ ...known.get(key), kind: 'end' });
        known.delete(key);
      },
    });
  }
  return hooked;
}

Process.attachModuleObserver({
  onAdded(module) {
    const hooked = LIBRARIES.reduce((sum, library) => sum + hook(module, library), 0);
    if (hooked) send({ kind: 'hooked', module: module.name });
  },
});
