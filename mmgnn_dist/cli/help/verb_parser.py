"""The parser of all verbs: a wrong verb or value is told in one line with the nearest right one."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from mmgnn_dist.errors import EXIT_USER, nearest

BEGIN = """\
mmgnn trains models that read a molecule as a 3D graph and as text.

  mmgnn init project --data mine.csv      a recipe for molecules of your own
  mmgnn data prepare sample --to shards/sample
  mmgnn train launch/demo.yaml            the bundled molecules, minutes on two CPU cores
  mmgnn doctor                            what will not work on this machine, and its cure
  mmgnn --help                            all verbs;  mmgnn VERB --help: its options, with examples
"""
WRONG_CHOICE = re.compile(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)")


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are one line; the parsers of its verbs are of the same class."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the exit code of wrong input."""
        if match := WRONG_CHOICE.fullmatch(message):
            name, given, listed = match.groups()
            choices = re.findall(r"[^\s',]+", listed)
            what = "no verb" if name == "VERB" else f"{name}:"
            message = f"{what} '{given}'{nearest(given, choices)}; there are: {', '.join(choices)}"
        self.exit(EXIT_USER, f"mmgnn: {message}; see '{self.prog} --help'\n")
