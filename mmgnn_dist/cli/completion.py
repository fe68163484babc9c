"""The command-line verb that writes completion for a shell: verbs, options, keys of a recipe, run folders.

The script is written once and asks no Python when it completes, so it answers at once.
"""

from __future__ import annotations

import argparse

from mmgnn_dist.cli.common import Verbs, add_json, print_result
from mmgnn_dist.errors import EXIT_DONE

BASH = """
_mmgnn_keys() {{ compgen -S = -W "{keys}" -- "$1"; compgen -f -- "$1"; }}
_mmgnn_runs() {{ compgen -d -- "$1"; }}
"""
ZSH = """
_mmgnn_keys() {{ compadd -S = -- {keys}; _files }}
_mmgnn_runs() {{ _files -/ }}
"""
OF_RUNS = ("run", "runs", "study")  # names of arguments that are run directories
WITH_KEYS = ("overrides", "recipe", "sources")


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    completion = verbs.add_parser("completion", help="print a script that completes words in your shell")
    completion.add_argument("shell", choices=("bash", "zsh"), help="source it, or put it where yours looks")
    add_json(completion)
    completion.set_defaults(action=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    from mmgnn_dist.config.explain import explain_recipe

    keys = sorted({entry.key for section in explain_recipe().walk() for entry in section.keys})
    words = " ".join(keys)
    _complete(arguments.all_verbs)
    preamble = {"bash": BASH.format(keys=words), "zsh": ZSH.format(keys=words)}
    script = shtab.complete(arguments.all_verbs, arguments.shell, preamble=preamble)
    print_result(arguments.json, {"script": script}, [script])
    return EXIT_DONE


def _complete(parser: argparse.ArgumentParser) -> None:
    """Say of every positional argument how it is completed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete(child)
        elif action.dest in (*OF_RUNS, *WITH_KEYS):
            function = "_mmgnn_runs" if action.dest in OF_RUNS else "_mmgnn_keys"
            vars(action)["complete"] = dict.fromkeys(("bash", "zsh"), function)  # shtab reads it
