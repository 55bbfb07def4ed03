"""What runs as root, and why so little: it installs capture rules, keeps them while the proxy lives, takes them away.

Nothing here reads a policy, holds a key, listens for others or sees content; nothing of ours outside this package is
imported.

    __main__.py   Start -> install -> Ready -> heartbeats and look-ups -> end of input -> remove
    wire.py       the control channel: messages, encode, Decoder
    plan.py       what to capture, and what a backend must be able to do
    nftables.py   the Linux backend: rule text, install, remove         nft.py      libnftables, the owner of a table
    hook.py       connect() of one command redirected without rights, with supervisor.py and seccomp.py; the launcher's
                  part is keeper.py, trial.py
    guard.py      the process that holds the refusing rules for `fail: closed`
    conntrack.py  forgets what the kernel remembers of connections that are over
    sockets.py    which TCP sockets exist (netlink sock_diag)           owner.py    which process owns one
    connects.py   who called connect(), noted by the kernel (BPF)
    processes.py  what /proc says of one process                        groups.py   its systemd unit and container
    release.py    finds and ends all of the above; needs neither this package nor a virtual environment
"""
