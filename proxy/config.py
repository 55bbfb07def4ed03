"""What the launcher tells the worker: in a module of its own, so that the launcher need not load the engine."""

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Config:
    """`listen`: host and port pairs, port 0 for a free one; `channel`: descriptor of the control channel, if any.

    `asks`: the redirector knows where a captured connection was going, not the kernel.  `ports`, first and last: the
    local ports of our own connections, by which the capture knows us; then our clients come from their servers'
    addresses (`divert`).
    """

    state: str
    policy: str | None
    explicit: bool
    listen: list[tuple[str, int]]
    channel: int | None = None
    strict: bool = False                # refuse policy and filter files that others may write: root started us
    asks: bool = False
    ports: tuple[int, int] | None = None
    anyone: bool = False                # other computers may use the explicit proxy without a name and a password
    secrets: dict[str, str] = field(default_factory=dict, repr=False)   # of files that the worker's user cannot read

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"
