"""`tiedlib data`: which data sets there are, and fetching one."""

from __future__ import annotations

import argparse

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tiedlib data`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="list all data sets: their sizes, where they are, their terms", allow_abbrev=False
    )
    listing.set_defaults(do=_data_list)
    fetch = actions.add_parser("fetch", help="download a data set", allow_abbrev=False)
    fetch.add_argument("name", metavar="NAME", help="the data set, as `tiedlib data list` names it")
    fetch.set_defaults(do=_data_fetch)


def _data_list(options: argparse.Namespace) -> int:
    from tiedlib.lab.data import names

    for entry in names():
        size = f"{entry.megabytes:.1f} MB" if entry.megabytes else "–"
        print(f"{entry.name:16} {size:>9}  {entry.where}\n{'':16} {entry.description}\n{'':16} terms: {entry.terms}")
    return 0


def _data_fetch(options: argparse.Namespace) -> int:
    from tiedlib.lab.data import fetch

    files = fetch(options.name)
    print("\n".join(str(path) for path in files) or f"{options.name} needs no download")
    return 0
