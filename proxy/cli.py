"""The `lockgate` command: one function a command, its help the function's docstring.

Exit codes: 0 done, 1 the thing asked about is not so, 2 a usage or policy error.  `run` has those of its command.
"""

import argparse
import ast
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from proxy.options import OPTIONS, UsageError

#: name -> (module:function, the options it takes); a module is imported when its command is given, so that the others
#: and `--help` are quick.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": ("proxy.demo:demo", ()),
    "run": ("proxy.commands:run", ("policy", "state", "run_capture", "user", "run_dir", "verbose", "command")),
    "start": ("proxy.commands:start", ("policy", "state", "capture", "listen", "allow_anyone", "system_proxy",
                                       "prefix", "only_user", "only_cgroup", "forward", "user",
                                       "run_dir", "verbose", "json")),
    "tap": ("proxy.tap:tap", ("policy", "state", "user", "pid", "command")),
    "redirect": ("proxy.redirecting:redirect", ("ports", "to_server", "fail", "lan", "only_user", "only_cgroup",
                                                "run_dir", "json")),
    "stop": ("proxy.control:stop", ("state", "run_dir")),
    "status": ("proxy.control:status", ("state", "run_dir", "json")),
    "release": ("proxy.control:release", ("run_dir",)),
    "check": ("proxy.checking:check", ("policy_file", "json")),
    "explain": ("proxy.explain:explain", ("url", "policy", "method", "header", "body_file", "app", "asking_user",
                                          "parent", "service", "container", "source", "type", "requests", "state",
                                          "json")),
    "replay": ("proxy.replay:replay", ("recorded", "policy", "against", "state", "json")),
    "scan": ("proxy.scanning:scan", ("paths", "policy", "json")),
    "events": ("proxy.control:events", ("state", "follow", "since", "host", "only_app", "only_tree", "by_user",
                                         "service", "container", "verdict", "filter", "incident", "limit", "json")),
    "connections": ("proxy.connections:connections", (
        "state", "watch", "history", "since", "limit", "sort", "only_app", "host", "port", "in_state", "row_verdict",
        "of_user", "listening", "all_rows", "json")),
    "ca": ("proxy.authority:ca", ("ca_action", "state", "stores", "form", "out", "yes", "dry_run", "json")),
    "pins": ("proxy.pinning:pins", ("pins_action", "pin_app", "pin_host", "lifetime", "every", "state", "json")),
    "system-proxy": ("proxy.systemproxy:system_proxy", ("setting_action", "to", "places", "prefix", "state", "run_dir",
                                                        "json")),
    "proxy-user": ("proxy.admission:proxy_user", ("proxy_user",)),
    "lists": ("proxy.listcommand:lists", ("lists_action", "policy", "force", "json")),
    "quotas": ("proxy.quotacommand:quotas", ("state", "json")),
    "filters": ("proxy.checking:filters", ("filter_words", "json")),
    "fingerprint": ("proxy.fingerprinting:fingerprint", (
        "fingerprint_what", "fingerprint_source", "out", "column", "delimiter", "alone", "salt_file", "ignore",
        "common", "json")),
    "canary": ("proxy.fingerprinting:canary", ("canary_action", "canary_kind", "canary_domain", "json")),
    "service": ("proxy.service:service", ("service_action", "policy", "yes", "dry_run", "json")),
    "doctor": ("proxy.doctor:doctor", ("state", "run_dir", "json")),
}


def resolve(name: str) -> Callable[[argparse.Namespace], int]:
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    return found


def help_text(name: str) -> str:
    """The docstring of a command's function, read without importing its module: some bring the whole engine."""
    module, _, function = COMMANDS[name][0].partition(":")
    source = Path(__file__).with_name(module.rpartition(".")[2] + ".py")
    return next(ast.get_docstring(node) or "" for node in ast.parse(source.read_bytes()).body
                if isinstance(node, ast.FunctionDef) and node.name == function)


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The command line; with `only` that of one command."""
    top = argparse.ArgumentParser(
        prog="lockgate", allow_abbrev=False, epilog="`lockgate COMMAND --help` has an example of each.",
        description="Inspects what a computer's applications send and receive over TLS, and enforces a policy on it.")
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for name in [only] if only else COMMANDS:
        text = help_text(name)
        sub = commands.add_parser(name, help=text.partition("\n")[0], description=text, allow_abbrev=False,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        for option in COMMANDS[name][1]:
            flags, settings = OPTIONS[option]
            sub.add_argument(*flags, **settings)
    return top


def refusals() -> tuple[type[Exception], ...]:
    """What a command raises whose request cannot be met; asked for when something was raised, as it costs imports."""
    from certs.authority import AuthorityError
    from proxy.policy import PolicyError

    return UsageError, PolicyError, AuthorityError


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser(words[0] if words and words[0] in COMMANDS else None).parse_args(words)
    try:
        code = resolve(arguments.name)(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:     # `lockgate events | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # or Python fails once more at its end
        return 0
    except KeyboardInterrupt:
        return 130
    except refusals() as error:
        print(*getattr(error, "errors", [f"lockgate {arguments.name}: {error}"]), sep="\n", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
