"""The command line: `mmgnn VERB ...`. Every verb imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys

from mmgnn_dist.cli import (
    bench,
    cluster,
    completion,
    data,
    doctor,
    plan,
    predict,
    project,
    recipe,
    show,
    study,
    train,
)
from mmgnn_dist.cli.help.examples import add_examples
from mmgnn_dist.cli.help.verb_parser import BEGIN, VerbParser
from mmgnn_dist.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER, EXTRAS, UserError, need
from mmgnn_dist.files import disk_problem, is_disk_error
from mmgnn_dist.process import write_for_owner_only
from mmgnn_dist.version import __version__

GROUPS = (project, data, train, cluster, doctor, predict, show, plan, study, bench, recipe, completion)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    That is 0 when it is done, 2 for wrong input, 3 when it was stopped and the same command continues, and
    130 after Ctrl-C in a verb of which nothing is kept.
    """
    write_for_owner_only()
    if not (sys.argv[1:] if argv is None else argv):
        print(BEGIN, end="")
        return EXIT_DONE
    arguments = parse_command(make_parser(), argv)
    try:
        return int(arguments.action(arguments))
    except UserError as error:
        print(f"mmgnn: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if not is_disk_error(error):
            raise
        print(f"mmgnn: {disk_problem(error)}", file=sys.stderr)
        return EXIT_USER
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRAS:
            raise
        print(f"mmgnn: {need(name, EXTRAS[name])}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        continues = getattr(arguments, "continues", False)
        end = "the same command continues" if continues else "nothing is kept, the same command starts anew"
        print(f"mmgnn: interrupted; {end}", file=sys.stderr)
        return EXIT_STOPPED if continues else EXIT_INTERRUPTED


def parse_command(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse one command; a wrong one is told, and ends the process with exit code 2."""
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no positional words after an option, but overrides may stand anywhere
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(late) < len(rest) or (late and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if late:
        arguments.overrides = [*arguments.overrides, *late]
    return arguments


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = VerbParser(
        prog="mmgnn", description="Train models that read a molecule as a 3D graph and as text."
    )
    parser.add_argument("--version", action="version", version=f"mmgnn_dist {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for group in GROUPS:
        group.add_verbs(verbs)
    add_examples(verbs)
    parser.set_defaults(all_verbs=parser)  # for completion
    return parser
