"""Certificates: the root, the leaves it signs, and the trust stores that must know it.

authority.py   the root and its key; issues a leaf a host
names.py       what a leaf may be for: DNS names and addresses, as subjectAltName entries
root.py        the root as everybody else sees it: the certificate, never the key
stores.py      what a trust store can do, and which ones this computer has
debian.py      the system's store        nss.py   Chromium's and Firefox's databases
record.py      what was changed, and how it was before, so that it can be undone
verify.py      does a program really accept us: a handshake on loopback
install.py     `python -I -m certs.install`: for the administrator, given the certificate only
"""
