"""`lockgate ca`: the root certificate and the stores that trust it."""

import argparse
import json
import sys
from pathlib import Path

from certs import install as script
from certs import stores
from certs.authority import Authority
from certs.record import Record, default_folder
from certs.root import Root, export, show
from proxy.options import UsageError, state

#: In the state folder.
FOLDER = "ca"


def ca(arguments: argparse.Namespace) -> int:
    """Make, show and export the root certificate; install it in trust stores, verify and remove it.

    example:
      lockgate ca export --out root.pem  # the certificate, never the key
      sudo lockgate ca install           # shows what it would do, then asks
      lockgate ca verify                 # a real handshake, as curl, Python and NSS would make it
    """
    folder = state(arguments) / FOLDER
    if arguments.action == "create":
        authority = Authority.create(folder)
        print(f"{show(authority.root)}\nwritten to {authority.pem_path}; its key lies beside it and is yours alone")
        return 0
    root = _root(folder)
    match arguments.action:
        case "show":
            print(json.dumps(_facts(root)) if arguments.json else show(root))
            return 0
        case "export":
            return _export(root, arguments.out, arguments.form)
        case action:
            return _stores(action, root, folder, arguments)


def _root(folder: Path) -> Root:
    try:
        return Root.read(folder / "ca.pem")
    except FileNotFoundError:
        advice = "`lockgate ca create` makes one, as the first start does"
        raise UsageError(f"there is no root in {folder} yet: {advice}") from None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _facts(root: Root) -> dict[str, object]:
    return {"subject": root.subject, "sha256": root.fingerprint, "days_left": root.days_left,
            "not_after": root.certificate.not_valid_after_utc.isoformat()}


def _export(root: Root, out: Path | None, form: str) -> int:
    if out is None:
        sys.stdout.buffer.write(root.pem if form == "pem" else root.der)
        return 0
    try:
        export(root, out, "pem" if form == "pem" else "der")
    except FileExistsError:
        raise UsageError(f"{out} exists; it was not touched") from None
    except OSError as error:
        raise UsageError(str(error)) from None
    print(f"the certificate, without its key, is in {out}")
    return 0


def _stores(action: str, root: Root, folder: Path, arguments: argparse.Namespace) -> int:
    kinds = (arguments.stores or ",".join(stores.KINDS)).split(",")
    try:
        found = stores.detect(kinds, record=Record(default_folder()))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if action == "verify":
        return script.report(stores.verify(root, found, authority=Authority.load(folder)), as_json=arguments.json)
    if arguments.dry_run:
        print(script.describe(root, found, action))
        return 0
    if arguments.json and not arguments.yes:
        raise UsageError("--json asks nothing: give --yes as well, or --dry-run")
    if not arguments.yes and not script.confirm(root, found, action):
        print("nothing was changed", file=sys.stderr)
        return 1
    act = stores.install if action == "install" else stores.uninstall
    try:
        return script.report(act(root, found), as_json=arguments.json)
    except ValueError as error:     # it has expired
        raise UsageError(str(error)) from None
