"""What the command line says of itself: where to begin, examples, wrong words, completion."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from test_verbs import VERBS

from mmgnn_dist.cli.help.examples import EXAMPLES
from mmgnn_dist.cli.main import main, make_parser, parse_command


def test_without_a_verb_it_says_where_to_begin(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "mmgnn init" in said and "mmgnn train launch/demo.yaml" in said


def test_every_verb_has_two_examples_that_its_parser_takes():
    assert set(EXAMPLES) == set(VERBS)
    parser = make_parser()
    for verb, examples in EXAMPLES.items():
        assert len(set(examples)) == 2
        for example in examples:
            program, *words = shlex.split(example)
            assert program == "mmgnn" and words[: len(verb.split())] == verb.split()
            parse_command(parser, words)
            assert example in VERBS[verb].format_help()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian", "mine.yaml"], "no verb 'trian' (did you mean 'train'?)"),
        (["data", "splt", "shards"], "no verb 'splt' (did you mean 'split'?)"),
        (["data", "split", "shards", "--kind", "randm"], "--kind: 'randm' (did you mean 'random'?)"),
        (["train"], "required: RECIPE"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_nearest_right_one(capsys, words, says):
    with pytest.raises(SystemExit) as left:
        main(words)
    told = capsys.readouterr().err
    assert left.value.code == 2 and told.count("\n") == 1
    assert says in told and told.startswith("mmgnn: ") and "--help'" in told


def test_completion_knows_verbs_keys_and_folders(tmp_path, capsys):
    """Asked as bash asks: the words so far, and the number of the one under the cursor."""
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "mmgnn.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "runs" / "demo").mkdir(parents=True)

    def completed(*words: str) -> list[str]:
        ask = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        ask += '_shtab_mmgnn mmgnn "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
        command = ["bash", "-c", ask, "bash", "mmgnn", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout.split()

    assert completed("tr") == ["train"]
    assert {"prepare", "split"} <= set(completed("data", ""))
    assert "train.optim.lr=" in completed("train", "mine.yaml", "train.optim.l")
    assert completed("show", "runs/d") == ["runs/demo"]
