"""The `lockgate` command: one function a command, its help the function's docstring.

Exit codes: 0 done, 1 the thing asked about is not so, 2 a usage or policy error.  `run` has those of its command.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from certs.authority import AuthorityError
from proxy.options import OPTIONS, UsageError
from proxy.policy import PolicyError

#: name -> (module:function, the options it takes); imported when asked for, so that `--help` is quick.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": ("proxy.demo:demo", ()),
    "run": ("proxy.commands:run", ("policy", "state", "user", "verbose", "command")),
    "start": ("proxy.commands:start", ("policy", "state", "capture", "listen", "only_user", "only_cgroup", "user", "run_dir",
                                       "verbose", "json")),
    "stop": ("proxy.commands:stop", ("state",)),
    "status": ("proxy.commands:status", ("state", "run_dir", "json")),
    "release": ("proxy.commands:release", ("run_dir",)),
    "check": ("proxy.commands:check", ("policy_file", "json")),
    "explain": ("proxy.explain:explain", ("url", "policy", "method", "header", "body_file", "app", "source", "type",
                                          "requests", "json")),
    "scan": ("proxy.scanning:scan", ("paths", "policy", "json")),
    "events": ("proxy.commands:events", ("state", "follow", "since", "host", "only_app", "verdict", "filter", "incident",
                                         "limit", "json")),
    "ca": ("proxy.authority:ca", ("ca_action", "state", "stores", "form", "out", "yes", "dry_run", "json")),
    "filters": ("proxy.commands:filters", ("json",)),
    "doctor": ("proxy.doctor:doctor", ("state", "run_dir", "json")),
}


def resolve(name: str) -> Callable[[argparse.Namespace], int]:
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    return found


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The command line; `only` builds the named command's part, and leaves the modules of the others unread."""
    top = argparse.ArgumentParser(prog="lockgate", description="Inspects what a computer's applications send and receive "
                                  "over TLS, and enforces a policy on it.", allow_abbrev=False)
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for name, (_, options) in COMMANDS.items():
        text = resolve(name).__doc__ or "" if only in (None, name) else ""
        summary = text.strip().partition("\n")[0]
        sub = commands.add_parser(name, help=summary, description=text, allow_abbrev=False,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        for option in options:
            flags, settings = OPTIONS[option]
            sub.add_argument(*flags, **settings)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    only = words[0] if words and words[0] in COMMANDS else None
    arguments = parser(only).parse_args(words)
    try:
        return resolve(arguments.name)(arguments)
    except PolicyError as error:
        print(error, file=sys.stderr)
        return 2
    except (UsageError, AuthorityError) as error:
        print(f"lockgate {arguments.name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:     # `lockgate events | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
