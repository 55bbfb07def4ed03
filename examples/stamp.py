"""A stock mitmproxy addon, used unchanged: marks what passed."""

from mitmproxy import ctx, http


class Stamp:
    def load(self, loader):
        loader.add_option("stamp", str, "inspected", "value of the x-lockgate header")

    def response(self, flow: http.HTTPFlow) -> None:
        flow.response.headers["x-lockgate"] = ctx.options.stamp


addons = [Stamp()]
