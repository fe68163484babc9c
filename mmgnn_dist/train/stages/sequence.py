"""All stages of a run in order.

    build    make text, scaler, model and engine from recipe and data; vectors of the initial weights
    resume   load state and weights of the newest complete checkpoint, if any
    fit      run the training loop to its end or to a stop
    test     apply the exported model to the test part
    record   write results, plots and the last line of the journal

All ranks go through the same stages; the first rank writes the files.
"""

from __future__ import annotations

from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED
from mmgnn_dist.files import read_json
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.stages.build import Built, build
from mmgnn_dist.train.stages.context import make_context
from mmgnn_dist.train.stages.final_test import test
from mmgnn_dist.train.stages.record import record_end, record_start
from mmgnn_dist.train.stages.resume import resume
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.stages.untrained import save_untrained
from mmgnn_dist.train.start.plan import StartPlan
from mmgnn_dist.train.start.proof import prove_start
from mmgnn_dist.train.tracking.train_context import TrainContext


def train_stages(setting: Setting) -> int:
    """Go through all stages; return the exit code: done, or stopped cleanly.

    Raises:
        Stopped: a stop signal came before training began.
        UserError: the input is wrong.
    """
    built = build(setting)
    save_untrained(setting, built)
    state, checkpoint_dir = resume(setting, built)
    context = make_context(setting, built, state)
    sink = record_start(setting, built, context, state, checkpoint_dir)
    finished = fit(setting, built, context, state)
    tested = test(setting, built) if finished else None
    setting.watch.stop()  # the first rank does the rest alone, and an upload may take long
    if tested:
        record_end(setting, built, context, state, tested)
    if sink:
        sink.finish(read_json(setting.run.metrics) if finished else None)
    if not finished:
        setting.progress.say(f"stopped at step {state.step}; the same command continues")
    return EXIT_DONE if finished else EXIT_STOPPED


def fit(setting: Setting, built: Built, context: TrainContext, state: TrainState) -> bool:
    """Train; return whether training reached its end and no rank was asked to stop since.

    Raises:
        UserError: the weights that training starts from do not give what their source recorded.
    """
    trainer = Trainer(context, state, built.average)
    try:
        if built.start is not None and state.step == 0:
            _begin_warm(setting, built.start, trainer)
        return trainer.run() and not context.ranks.stop_asked()
    finally:
        context.saver.close()


def _begin_warm(setting: Setting, start: StartPlan, trainer: Trainer) -> None:
    """Say what is taken of the source, validate it, and compare the score with what the source recorded."""
    for note in start.notes:
        setting.progress.say(note)
    score = trainer.start_score()
    if setting.ranks.is_rank0:
        setting.progress.say(prove_start(setting.run, setting.inputs, start, score))
