#!/usr/bin/env bash
# Train on a SLURM cluster: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# Settings by environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS.
# Five minutes before the time limit the run saves itself and ends with status 138; --resume goes on.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3 work_dir=$4
shift 4
read -ra srun_args <<< "${SRUN_ARGS:-}"
exec srun --partition="$partition" --job-name="$job_name" --gres="gpu:${GPUS_PER_NODE:-8}" --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 --signal=USR1@300 \
    ${srun_args[@]+"${srun_args[@]}"} \
    python -u "$(dirname "$0")/train.py" "$config" --work-dir="$work_dir" --launcher=slurm "$@"
