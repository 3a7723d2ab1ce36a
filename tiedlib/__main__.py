"""`python -m tiedlib`, and the command `tiedlib`: the same program. Its parts are imported when they are used."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; `arguments` default to those of the process. The exit code: 0 where all went well."""
    from tiedlib.lab.commands.main import run

    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
