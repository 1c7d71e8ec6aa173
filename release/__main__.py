"""``python -m release check | prepare | lowest | canary``: each has options, see ``--help``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "check": "build, look into the archives, install without extras, and use it",
    "prepare": "date the changelog and write the version and the project's address",
    "lowest": "run the tests of the lowest versions that pyproject.toml declares",
    "canary": "run the families' tests on the newest diffusers, and say which moved",
}


def main(arguments: list[str]) -> int:
    """Run a command; exit status 2 where it is not one."""
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:<8} {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: python -m release COMMAND [--help]", *lines]), file=sys.stderr)
        return 2
    name, *rest = arguments
    return int(importlib.import_module(f"release.{name}").main(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
