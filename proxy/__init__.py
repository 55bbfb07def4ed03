"""The unprivileged proxy and the command line: the only package that imports the other three.

    listener -> gate (connection verdict) -> engine, layers (TLS, HTTP) -> stream, body <- chain <- filters
                    `-> splice (bypass)                                         `-> records -> sinks

`launcher` starts `worker` and the redirector; `engine`, `stream` and `tlsface` are the files that know mitmproxy inside.
"""
