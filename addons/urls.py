"""Block URLs by filter lists: EasyList, uBlock Origin and AdGuard rules, hosts files."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from mitmproxy import http

from addons.filterlist import ELSEWHERE, shown, text_of
from addons.names import parents
from addons.requestkind import asked
from addons.urlengine import Compiled, Source, compiled
from addons.urlmatch import Asked
from addons.verdict import Verdict, block, label

#: Decisions that are remembered: pages ask for the same things again and again.
_REMEMBERED: Final = 8192
#: Characters of URL and page beyond which one is not: those of clients that mean it ill would fill the memory.
_LONGEST: Final = 4096
#: Bytes of all lists together; the largest sets in use have 30 MB.
MAX_BYTES: Final = 128 * 2**20
#: The label of a request that a rule's exception lets pass.
EXCEPTED: Final = "urls:excepted"


@dataclass(frozen=True)
class UrlList:
    """A list: `file` is read; `url` is where `lockgate lists update` gets it from."""

    file: Path
    url: str = ""
    format: Literal["auto", "adblock", "hosts", "domains"] = "auto"
    sha256: str = ""


@dataclass
class Rules:
    """URL rules.

    `rules` are single ones (`||ads.example^$third-party`, `@@||good.example^`, `/banner/*/img^`), `files` lists of them
    in EasyList's, uBlock Origin's, AdGuard's or the hosts format, `lists` the same with `url` and `format`: what
    `lockgate lists update` keeps up to date.  The kind of resource and the page that asks come from the request's
    headers.  Exceptions hold over all lists.  What a proxy cannot do (hide elements, see pop-up windows) is counted by
    `lockgate check`.
    """

    rules: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    lists: tuple[UrlList, ...] = ()
    _set: Compiled = field(init=False, repr=False, compare=False)
    _known: OrderedDict[Asked, tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = [Path(file) for file in self.files]
        self.files = (*named, *(each.file for each in self.lists))
        sources = [Source("rules", "auto", "\n".join(self.rules))] if self.rules else []
        problems: list[str] = []
        for each in (*(UrlList(file) for file in named), *self.lists):
            try:
                sources.append(Source(each.file.name, each.format, text_of(each.file)))
            except (OSError, ValueError) as error:
                hint = "; `lockgate lists update` gets it" if each.url else ""
                problems.append(f"{each.file}: {getattr(error, 'strerror', None) or error}{hint}")
        if problems:
            raise ValueError("\n".join(problems))
        if sum(len(source.text) for source in sources) > MAX_BYTES:
            raise ValueError(f"the lists have more than {MAX_BYTES} bytes")
        self._set = compiled(sources)
        self._known = OrderedDict()
        wrong = {why: text for why, text in self._set.stats.examples.items() if why.removeprefix("$") not in ELSEWHERE}
        if mistakes := [f"not a rule: {text} ({why})" for why, text in wrong.items() if text.startswith("rules:")]:
            raise ValueError("\n".join(mistakes))

    @property
    def notes(self) -> list[str]:
        """What `lockgate check` says of the lists."""
        return self._set.stats.notes()

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        rule, excuse = self.judge(asked(flow))
        if excuse and rule:
            label(flow, EXCEPTED)
        if not rule or excuse:
            return None
        return block(f"URL is blocked: {shown(rule)[:200]} in {self._set.places.find(rule)}")

    def judge(self, request: Asked) -> tuple[str, str]:
        """Return the rule that covers the request and the exception that lets it pass, empty where there is none."""
        known = self._known
        if (answer := known.get(request)) is not None:
            return answer
        answer = self._judge(request)
        if len(request.url) + len(request.page) <= _LONGEST:
            known[request] = answer
            if len(known) > _REMEMBERED:
                known.popitem(last=False)
        return answer

    def _judge(self, request: Asked) -> tuple[str, str]:
        """An important rule wins over exceptions, those over rules, whoever of the two knows which."""
        url, host, source, kind, third = request[:5]
        matcher, engine = self._set.matcher, self._set.engine
        ours = matcher.find(request) if matcher else None
        if ours is not None and ours.important:
            return ours.text, ""
        rule = self._named(host) or (ours.text if ours else "")
        if rule:    # the engine need but look for what outweighs it
            result = engine.check_network_urls_with_hostnames_subset(url, host, source, kind, third, True, True)
        else:
            result = engine.check_network_urls_with_hostnames(url, host, source, kind, third)
            rule = result.filter or ""
        if result.important:
            return result.filter or rule, ""
        if result.exception or not rule or matcher is None:
            return rule, result.exception or ""
        excuse = matcher.excused(request)
        return rule, excuse.text if excuse else ""

    def _named(self, host: str) -> str:
        """Return the rule that has the host, or one above it, as a name and nothing else."""
        return next((f"||{name}^" for name in parents(host) if name in self._set.hosts), "")
