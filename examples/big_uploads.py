"""Block uploads of more than so many bytes to hosts that are not ours."""

from dataclasses import dataclass

from mitmproxy import http

from lockgate import BodyScanner, Verdict, allow, block


@dataclass
class BigUploads:
    """`ours`: hosts without a limit; `limit`: bytes of decoded body for all others."""

    ours: tuple[str, ...] = ()
    limit: int = 10_000_000

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        return allow("our own host") if flow.request.pretty_host in self.ours else None

    def requestbody(self, flow: http.HTTPFlow) -> BodyScanner:
        seen = 0

        def scan(piece: bytes) -> Verdict | None:
            nonlocal seen
            seen += len(piece)
            return block(f"upload of more than {self.limit} bytes") if seen > self.limit else None

        return scan
