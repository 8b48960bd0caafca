#!/bin/bash
# Checks and measures the GPU of this machine with the CUDA build of Caffe, in less than eight minutes:
#
#   docker run --rm --gpus all srn-caffe:cuda docker/gpu_check.sh [OPTION...]     in the image, or
#   CAFFE=PREFIX docker/gpu_check.sh [OPTION...]                                  with what `docker/caffe/build.sh --cuda PREFIX` made
#
# gradients of each kind of layer on GPU and CPU, losses and gradients of ten steps of all systems, two ranks on the one
# device against one process, images per second of all stages at batch 8, 32 and 96 (float32, TF32; with and without
# CAFFE_ENGINE's parts `device` and `measured`), the grouped convolution (SRN's conv4) with and without cuDNN's groups, where
# the time goes by CUDA kernel, PyTorch's step on the same net, eager and compiled, where the time goes by type of layer, 50
# iterations of each of the stages. What matters most comes first.
# The options are those of tools/gpu_check.py; --cpu --small tries the check itself without a GPU.
# The ranks want mpi4py and its MPI, the kernels CUPTI (libcupti.so.13, as PyTorch for CUDA has it).
# PyTorch's part wants one with CUDA, as in the image srn-caffe:cuda-full; --torch-python PYTHON names a Python that has it.
# What does not fit into the device's memory is told and is no error.
# Exit codes: 0 done, 2 wrong usage, 3 something needed is missing (no CUDA device), 4 a result is not as it should be.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -n ${CAFFE:-} ]]; then
    [[ -d $CAFFE/lib/python3/dist-packages/caffe ]] || {
        echo "docker/gpu_check.sh: CAFFE=$CAFFE has no Caffe: name the folder that docker/caffe/build.sh made" >&2
        exit 3
    }
    export PATH=$CAFFE/bin:$PATH PYTHONPATH=$CAFFE/lib/python3/dist-packages${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec python3 "$root/tools/gpu_check.py" "$@"
