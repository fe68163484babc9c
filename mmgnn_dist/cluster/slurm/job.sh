# What a job does before and after its ranks. Part of every script that mmgnn submit writes; slurm/*.sbatch read it.
# Expects $run (run directory) and $max_restarts.

# Prints the id of this job or array element. One element has the same job number as the whole array.
mmgnn_job() { echo "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; }

mmgnn_before() {
  export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" OMP_WAIT_POLICY=PASSIVE
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
  # Slurm sets the end of the allocation from version 23.02 on; a job without a time limit has none
  local end
  if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(squeue -h -j "$(mmgnn_job)" -o %e | grep T); then
    SLURM_JOB_END_TIME=$(date +%s -d "$end") && export SLURM_JOB_END_TIME
  fi
  if [ "${SLURM_RESTART_COUNT:-0}" -gt "$max_restarts" ]; then
    echo "mmgnn: restarted $SLURM_RESTART_COUNT times (max_restarts): submit it again to continue" >&2
    exit 1
  fi
}

mmgnn_notes() { find "$run/slurm/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" -name "rank_*.$1" 2>/dev/null | wc -l; }

# Exits with 0 if every rank is done, and with 1 for a fault of the ranks, which would happen again. After any other
# end (saved in order, killed, lost without a note) the job goes back to the queue, at most max_restarts times.
# A job that the user cancelled or Slurm preempted is no longer running and is left alone. So is a job that Slurm
# has started again because it lost this node for a while.
mmgnn_after() {
  local ended=$1 world=$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE)) told=0 end shown
  for end in done stopped failed killed ended; do told=$((told + $(mmgnn_notes $end))); done
  [ "$(mmgnn_notes done)" = "$world" ] && exit 0
  if [ "$(mmgnn_notes started)" = 0 ] && [ "$ended" -lt 128 ]; then  # above: a signal came very early
    echo "mmgnn: no rank started (srun ended with $ended)" >&2
    exit 1
  fi
  [ "$(mmgnn_notes failed)" -gt 0 ] && [ "$(mmgnn_notes killed)" = 0 ] && [ "$told" = "$world" ] && exit 1
  shown=$(scontrol -o show job "$(mmgnn_job)")
  case $shown in
    *" JobState=RUNNING "* | *" JobState=TIMEOUT "*) ;;
    *) exit "$ended" ;;
  esac
  [[ $shown == *" Restarts=${SLURM_RESTART_COUNT:-0} "* ]] || exit "$ended"
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
    echo "mmgnn: restarted $max_restarts times (max_restarts): submit it again to continue" >&2
    exit 1
  fi
  scontrol requeue "$(mmgnn_job)" && sleep 60
}
