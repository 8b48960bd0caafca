#!/bin/bash
# Predicts in parts under Slurm, one a job of an array, and joins them:
#
#   sbatch --array=1-8 docs/slurm_predict.sh runs/coco
#   sbatch --dependency=afterok:JOB docs/slurm_predict.sh runs/coco --join    # JOB: the number that the first prints
#
# The words are those of tools/predict.py. A part that is ended goes on when Slurm starts it anew. Call it where the clone is.
#SBATCH --job-name=srn-predict
#SBATCH --requeue
#SBATCH --open-mode=append
part=()
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    part=(--part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
fi
exec docker/local tools/predict.py "$@" "${part[@]}"
