#!/bin/bash
# Trains with one rank a node until all is done, under Slurm:
#
#   sbatch --nodes=2 docs/slurm.sh 4 --dataset coco --data data/coco --weights ResNet-101-model.caffemodel
#
# The words are those of tools/run_stage.py. Whatever ends the job (pre-emption, scontrol requeue, its time limit), what is
# trained is saved first, and the job waits for its next turn and goes on bit for bit. Call it where the clone is.
#SBATCH --job-name=srn-caffe
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out

stop() { kill -TERM "$tool" 2>/dev/null; }
trap stop TERM
docker/local tools/run_stage.py "$@" --ranks "$SLURM_NTASKS" --launcher "srun --mpi=pmi2 --ntasks=$SLURM_NTASKS" &
tool=$!
code=0
wait "$tool" || code=$?
while kill -0 "$tool" 2>/dev/null; do # a signal ended the waiting, not the tool
    code=0
    wait "$tool" || code=$?
done
if ((code == 130)); then # interrupted after saving
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
