"""Certificates: the root, the leaves it signs, and the trust stores that must know it.

authority.py   the root and its key; issues a leaf for a host
minting.py     what root and leaves say        names.py   what a leaf may be for
root.py        the root as everybody else sees it: the certificate, never the key
stores.py      what a trust store can do, which ones this computer has, one operation on all of them
debian.py      the system's store              nss.py     Chromium's and Firefox's databases
record.py      what was changed, and how it was before, so that it can be undone
verify.py      does a program really accept us: a handshake on loopback
install.py     `python -I -m certs.install`: for the administrator, given the certificate only
bundles.py     where a system keeps the roots that it trusts
command.py, files.py, user.py   programs of others, files replaced whole, whose browsers are meant
"""
