# What a job does before and after its ranks. Part of every script that mmgnn submit writes; slurm/*.sbatch read it.
# Expects $run (run directory) and $max_restarts.

mmgnn_before() {
  export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" OMP_WAIT_POLICY=PASSIVE
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
  # Slurm tells the end of the allocation from 23.02 on; a job without a limit has none
  local end
  if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(squeue -h -j "$SLURM_JOB_ID" -o %e | grep T); then
    SLURM_JOB_END_TIME=$(date +%s -d "$end") && export SLURM_JOB_END_TIME
  fi
  if [ "${SLURM_RESTART_COUNT:-0}" -gt "$max_restarts" ]; then
    echo "mmgnn: restarted $SLURM_RESTART_COUNT times (max_restarts): submit it again to continue" >&2
    exit 1
  fi
}

mmgnn_notes() { find "$run/slurm/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" -name "rank_*.$1" 2>/dev/null | wc -l; }

# Leave with 0 when every rank is done, with 1 for a fault of their own, which would come again. Anything else
# (saved in order, killed, lost without a note) goes back to the queue, max_restarts times at most. A job that
# the user cancels or that Slurm preempts by itself is no longer running and is left alone.
mmgnn_after() {
  local ended=$1 world=$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE)) told=0 end
  for end in done stopped failed killed ended; do told=$((told + $(mmgnn_notes $end))); done
  [ "$(mmgnn_notes done)" = "$world" ] && exit 0
  if [ "$(mmgnn_notes started)" = 0 ] && [ "$ended" -lt 128 ]; then  # above: a signal came very early
    echo "mmgnn: no rank started (srun ended with $ended)" >&2
    exit 1
  fi
  [ "$(mmgnn_notes failed)" -gt 0 ] && [ "$(mmgnn_notes killed)" = 0 ] && [ "$told" = "$world" ] && exit 1
  case $(scontrol -o show job "$SLURM_JOB_ID" | grep -o 'JobState=[A-Z]*') in
    JobState=RUNNING | JobState=TIMEOUT) ;;
    *) exit "$ended" ;;
  esac
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
    echo "mmgnn: restarted $max_restarts times (max_restarts): submit it again to continue" >&2
    exit 1
  fi
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
}
