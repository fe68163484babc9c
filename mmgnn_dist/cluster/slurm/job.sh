# What a job does before and after its ranks. Part of every script that mmgnn submit writes; slurm/*.sbatch read it.
# Expects $run (run directory) and $max_restarts.

# Prints the id of this job or array element. One element has the same job number as the whole array.
mmgnn_job() { echo "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; }

# Prints the folder of the notes of one start, by default of this one.
mmgnn_attempt() { echo "$run/slurm/$SLURM_JOB_ID.${1:-${SLURM_RESTART_COUNT:-0}}"; }

# Slurm may not answer for a while: nothing is decided before it does. Other failures are answers.
if type -P scontrol >/dev/null; then
  scontrol() {
    local said tries code
    for ((tries = 0; tries < 30; tries++)); do
      said=$(timeout 30 "$(type -P scontrol)" "$@" 2>&1) && { echo "$said"; return 0; } || code=$?
      [ "$code" = 124 ] || [[ $said =~ ontact|onnect|imed\ out|ocket ]] || break
      sleep 10
    done
    echo "mmgnn: Slurm did not do 'scontrol $*' (${said:-no answer}): submit it again to continue" >&2
    return 1
  }
fi

# Prints the step of the newest complete checkpoint, 0 without any.
mmgnn_step() {
  local file step newest=0
  for file in "$run"/checkpoints/step_*/manifest.json; do
    [ -f "$file" ] || continue
    step=${file%/manifest.json} step=$((10#${step##*step_}))
    [ "$step" -gt "$newest" ] && newest=$step
  done
  echo "$newest"
}

# Ends the job if others may write to a folder, or replace it: what lies in it runs as this user.
mmgnn_private() {
  local path
  path=$(readlink -f "$1")
  while true; do
    if [ ! -k "$path" ] && [ $((8#$(stat -c %a "$path") & 8#22)) != 0 ]; then
      echo "mmgnn: group or others may write to $path: chmod go-w it, or take another run directory" >&2
      exit 1
    fi
    [ "$path" = / ] && break
    path=$(dirname "$path")
  done
}

mmgnn_before() {
  umask "$(printf %04o $((8#$(umask) | 8#22)))"
  mkdir -p "$run/slurm" && mmgnn_private "$run/slurm"
  export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" OMP_WAIT_POLICY=PASSIVE
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
  # Slurm sets the end of the allocation from version 23.02 on; a job without a time limit has none
  local end
  if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(timeout 60 squeue -h -j "$(mmgnn_job)" -o %e | grep T); then
    SLURM_JOB_END_TIME=$(date +%s -d "$end") && export SLURM_JOB_END_TIME
  fi
  if [ "${SLURM_RESTART_COUNT:-0}" -gt "$max_restarts" ]; then
    echo "mmgnn: restarted $SLURM_RESTART_COUNT times (max_restarts): submit it again to continue" >&2
    exit 1
  fi
  mkdir -p "$(mmgnn_attempt)" && mmgnn_step >"$(mmgnn_attempt)/from"
}

mmgnn_notes() { find "$(mmgnn_attempt)" -name "rank_*.$1" 2>/dev/null | wc -l; }

# Prints in one line why the ranks of this start ended; its argument is what Slurm shows of the job.
mmgnn_cause() {
  local end note rank said
  # srun then ends the other ranks by a signal, so their notes say nothing
  for ((rank = 0; rank < SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE; rank++)); do
    [ -f "$(mmgnn_attempt)/rank_$rank.started" ] && continue
    [[ $1 =~ StdOut=([^ ]*) ]] &&
      said=$(grep -o 'srun: error: .* task.*' "${BASH_REMATCH[1]}" | grep -Ev 'Killed|Terminated' | tail -n 1)
    echo "rank $rank did not start: ${said:-see the log of the job}"
    return
  done
  for end in hung killed failed; do
    note=$(find "$(mmgnn_attempt)" -name "rank_*.$end" -printf '%T@ %p\n' | sort | head -n 1 | cut -d ' ' -f 2-)
    if [ -n "$note" ]; then
      rank=${note##*/rank_} rank=${rank%.*}
      echo "rank $rank on $(cat "${note%.*}.started") $end: $(grep -m 1 -E '^mmgnn|^rank' "$note" || tail -n 1 "$note")"
      return
    fi
  done
  for ((rank = 0; rank < SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE; rank++)); do
    note=$(mmgnn_attempt)/rank_$rank
    compgen -G "$note.*ed" | grep -qv started || [ -f "$note.done" ] ||
      { echo "rank $rank on $(cat "$note.started") ended without a word"; return; }
  done
  echo "a signal or the time limit came before the first new checkpoint: is the time limit long enough?"
}

# A rank that the others waited for twice in a row on the same node: the next start takes other nodes.
mmgnn_exclude() {
  local note late node before
  note=$(find "$(mmgnn_attempt)" -name 'rank_*.hung' | head -n 1)
  [ -n "$note" ] && late=$(grep -o -m 1 'waited for rank [0-9]*' "$note") || return 0
  node=$(cat "$(mmgnn_attempt)/rank_${late##* }.started") && echo "$node" >"$(mmgnn_attempt)/late"
  before=$(mmgnn_attempt $((${SLURM_RESTART_COUNT:-0} - 1)))/late
  if [ -f "$before" ] && [ "$(cat "$before")" = "$node" ]; then
    scontrol update "jobid=$(mmgnn_job)" "excnodelist=$node" &&
      echo "mmgnn: ranks on $node hung twice in a row: the job goes on without this node" >&2
  fi
}

# Exits with 0 if every rank is done, and with 1 for a fault of the ranks, which would happen again. After any other
# end (saved in order, killed, hung, lost without a note) the job goes back to the queue, at most max_restarts times,
# and at most two times in a row without a newer checkpoint. A job that the user cancelled or Slurm preempted is no
# longer running and is left alone. So is a job that Slurm has started again because it lost this node for a while.
mmgnn_after() {
  local ended=$1 world=$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE)) told=0 end shown cause step start idle=0
  for end in done stopped failed hung killed ended; do told=$((told + $(mmgnn_notes $end))); done
  [ "$(mmgnn_notes done)" = "$world" ] && exit 0
  if [ "$(mmgnn_notes started)" = 0 ] && [ "$ended" -lt 128 ]; then  # above: a signal came very early
    echo "mmgnn: no rank started (srun ended with $ended)" >&2
    exit 1
  fi
  [ "$(mmgnn_notes failed)" -gt 0 ] && [ "$(mmgnn_notes killed)" = 0 ] && [ "$(mmgnn_notes hung)" = 0 ] &&
    [ "$told" = "$world" ] && exit 1
  shown=$(scontrol -o show job "$(mmgnn_job)") || exit 1
  case $shown in
    *" JobState=RUNNING "* | *" JobState=TIMEOUT "*) ;;
    *) exit "$ended" ;;
  esac
  [[ $shown == *" Restarts=${SLURM_RESTART_COUNT:-0} "* ]] || exit "$ended"
  cause=$(mmgnn_cause "$shown") step=$(mmgnn_step)
  # a job that is being preempted has no part in it
  [[ $shown == *" PreemptTime="[0-9]* ]] || echo "$cause" >"$(mmgnn_attempt)/again"
  for ((start = ${SLURM_RESTART_COUNT:-0}; start >= 0; start--, idle++)); do
    [ -f "$(mmgnn_attempt $start)/again" ] && [ "$(cat "$(mmgnn_attempt $start)/from")" = "$step" ] || break
  done
  if [ "$idle" -gt 2 ]; then
    echo "mmgnn: $idle starts in a row without a checkpoint after step $step: $cause" >&2
    exit 1
  fi
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
    echo "mmgnn: restarted $max_restarts times (max_restarts), last $cause: submit it again to continue" >&2
    exit 1
  fi
  mmgnn_exclude
  scontrol requeue "$(mmgnn_job)" || exit 1
  sleep 60
}
