"""The unprivileged proxy and the command line: the only package that imports the other three.

    listener -> gate (connection verdict) -> engine, layers (TLS, HTTP) -> stream, body <- chain <- filters
                    `-> splice (bypass)                                         `-> records -> sinks

`launcher` starts `worker` and the redirector.  What knows mitmproxy inside: `engine`, `transports`, `layers`, `http1`,
`http2`, `stream`, `refusing`, `websocket`, `tlsface`.
"""
