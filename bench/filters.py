"""What the filters cost and find: `python -m bench.filters [SECTION ...]`, all sections by default.

    nice .venv/bin/python -m bench.filters scan
    nice .venv/bin/python -m bench.filters --data /path/to/labelled/cases --documents /usr/share/doc

Trust ratios: they are taken in turn, in one run, as medians of processor time.  `--data` adds precision and recall on
labelled cases (`secrets_*.jsonl.gz`), `--documents` false hits in a folder that holds no secrets.
"""

import argparse
from pathlib import Path

from bench import filter_scan

SECTIONS = {"scan": filter_scan.speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--data", type=Path, help="folder of labelled cases")
    parser.add_argument("--pack", type=Path, help="a rule pack to compare with (gitleaks.toml)")
    parser.add_argument("--documents", type=Path, nargs="*", default=[], help="folders of ordinary files")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if arguments.data:
        filter_scan.labelled(arguments.data, arguments.pack)
    for folder in arguments.documents:
        filter_scan.ordinary(folder)
    if not (arguments.data or arguments.documents) or arguments.sections:
        for name in arguments.sections or SECTIONS:
            SECTIONS[name]()


if __name__ == "__main__":
    main()
