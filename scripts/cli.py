"""``senbazuru``: the command line. One module of :mod:`scripts.commands` per subcommand; this one only dispatches.

Exit codes: 0 done, 1 a check failed, 2 bad input, told in one line on standard error; 130 interrupted.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from gen import __version__
from golden.spec import SpecError
from scripts import commands

OWN_PACKAGES = ("golden", "hdl", "gen", "tb", "scripts")


class Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """The parser of the whole command line, with a subparser for every module of :mod:`scripts.commands`."""
    about = "Synthesizable RTL for quantised large-language-model inference."
    top = Parser(prog="senbazuru", description=about, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"senbazuru {__version__}")
    subparsers = top.add_subparsers(required=True, metavar="COMMAND")
    for found in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{found.name}")
        sub = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP, allow_abbrev=False)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        if package in ("", *OWN_PACKAGES):
            raise
        print(
            f"the Python package {package} is needed and was not found: pip install 'senbazuru[all]'", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as e:
        print(f"{e.filename or 'output'} must be usable: {e.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
