"""Install, verify and remove a root certificate: `python -I -m certs.install install ca.pem`.

For the administrator of a computer. It is given the certificate only; the key stays with whoever signs.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from certs import stores
from certs.record import Record, default_folder
from certs.root import Root, show
from certs.stores import Result, Store

EPILOG = """\
example:
  sudo python -I -m certs.install install ca.pem --stores system,nss
exit codes: 0 done; 1 it is not so, or a store failed; 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        root = Root.read(options.certificate)
        found = stores.detect(options.stores.split(","), record=Record(options.record))
        return _run(options, root, found)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def describe(root: Root, found: Sequence[Store], command: str = "install") -> str:
    """Return what a person should see before they agree: the root, whom it concerns, and what would be done."""
    lines = [show(root), ""]
    for store, result in zip(found, stores.plan(root, found, command)):
        lines += [f"{store.name}  ({store.scope})", f"    {result.text}"]
    return "\n".join(lines)


def confirm(root: Root, found: Sequence[Store], command: str) -> bool:
    """Show it all and ask. No answer, as from a closed input, is a no."""
    print(describe(root, found, command))
    if command == "install":
        print("\nWhoever has the key of this root can pose as any site to the programs above. `uninstall` undoes it.")
    try:
        return input(f"{command}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def report(results: Iterable[Result], *, as_json: bool = False) -> int:
    """Print what became of each store as it is known. Returns 0 if all went well, else 1."""
    seen = []
    for result in results:
        mark = "ok  " if result.ok else "FAIL"
        print(json.dumps(asdict(result)) if as_json else f"{mark} {result.store}: {result.text}", flush=True)
        seen.append(result.ok)
    if not seen:
        print("no trust store was found here", file=sys.stderr)
    return 0 if seen and all(seen) else 1


def _run(options: argparse.Namespace, root: Root, found: Sequence[Store]) -> int:
    match options.command:
        case "show":
            print(describe(root, found))
            return 0
        case "verify":
            return report(stores.verify(root, found), as_json=options.json)
    if options.dry_run:
        print(describe(root, found, options.command))
        return 0
    if not options.yes and not confirm(root, found, options.command):
        print("nothing was changed", file=sys.stderr)
        return 1
    action = stores.install if options.command == "install" else stores.uninstall
    return report(action(root, found), as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -I -m certs.install",
        description=(__doc__ or "").split("\n\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["install", "verify", "uninstall", "show"])
    parser.add_argument("certificate", type=Path, help="the root's certificate, PEM or DER")
    kinds = ",".join(stores.KINDS)
    parser.add_argument("--stores", default=kinds, metavar="KINDS", help="which (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--record", type=Path, default=default_folder(), metavar="DIR", help="where it is noted")
    parser.add_argument("--json", action="store_true", help="one JSON object a store")
    return parser


if __name__ == "__main__":
    sys.exit(main())
