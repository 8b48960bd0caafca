# shellcheck shell=bash
# The CUDA part of build.sh, which reads this file: the toolkit, cmake's options for it, the libraries for run time.
#
# The toolkit is the wheels of docker/cuda-wheels.txt, installed by pip beside PREFIX, or those that the caller has
# installed into the folder CUDA_TOOLKIT_DIR (pip install --no-deps --target FOLDER -r docker/cuda-wheels.txt).
# No device and no driver are needed for building, and none for computing on the CPU with what was built.

readonly DEFAULT_ARCHITECTURES='75 80 86 89 90 100 120' # Turing to Blackwell; a GPU newer than the last one uses its PTX
readonly CUDA_WHEELS=$here/../cuda-wheels.txt
# What Caffe links with, and what these open while they run, found from the wheels' folder `nvidia`.
readonly CUDA_LIBRARIES=(
    cu13/lib/libcudart.so.13 cu13/lib/libcublas.so.13 cu13/lib/libcublasLt.so.13 cu13/lib/libcurand.so.10
    cu13/lib/libnvrtc.so.13 cu13/lib/libnvrtc-builtins.so.13.0
    cudnn/lib/libcudnn.so.9 cudnn/lib/libcudnn_{adv,cnn,engines_precompiled,engines_runtime_compiled,graph,heuristic,ops}.so.9
    nccl/lib/libnccl.so.2
)

# Prints what of cuda-wheels.txt a folder does not hold in the wanted version.
lacking_wheels() {
    local folder=$1 wheel name
    for wheel in $(cuda_wheels); do
        name=${wheel%%==*}
        [[ -d $folder/${name//-/_}-${wheel##*==}.dist-info ]] || printf '%s ' "$wheel"
    done
}
cuda_wheels() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$CUDA_WHEELS"; }

# Refuses early what would stop the build late. Leaves $architectures.
check_cuda_request() {
    local lacking
    read -ra architectures <<<"${CUDA_ARCHITECTURES:-$DEFAULT_ARCHITECTURES}"
    [[ ${architectures[*]} =~ ^[1-9][0-9]{1,2}[af]?(\ [1-9][0-9]{1,2}[af]?)*$ ]] ||
        die 2 "CUDA_ARCHITECTURES must be numbers such as '$DEFAULT_ARCHITECTURES', not '$CUDA_ARCHITECTURES'"
    [[ -n ${CUDA_TOOLKIT_DIR:-} ]] || return 0
    lacking=$(lacking_wheels "$CUDA_TOOLKIT_DIR")
    [[ -z $lacking ]] || die 3 "CUDA_TOOLKIT_DIR=$CUDA_TOOLKIT_DIR has not: $lacking(docker/cuda-wheels.txt)"
}

# Leaves the toolkit in $toolkit, and in it links with the names that a linker looks for: wheels have only the run-time names.
make_toolkit() {
    local folder library
    if [[ -n ${CUDA_TOOLKIT_DIR:-} ]]; then
        logged 'copying the CUDA toolkit' cp -r -- "$CUDA_TOOLKIT_DIR/." "$work/toolkit"
    else
        pip_locked cuda "$work/toolkit" $(cuda_wheels)
    fi
    toolkit=$work/toolkit/nvidia
    for library in "${CUDA_LIBRARIES[@]}"; do
        [[ -r $toolkit/$library ]] || die 3 "the wheels of docker/cuda-wheels.txt do not fit: no file nvidia/$library"
        ln -sf -- "${library##*/}" "$toolkit/${library%%.so.*}.so"
    done
    ln -sfn lib "$toolkit/cu13/lib64"
    logged 'nvcc of the CUDA wheels' "$toolkit/cu13/bin/nvcc" --version
}

# Adds to cmake's options. What has a path of this build goes to $toolkit_options, which is not recorded.
add_cuda_options() {
    local list
    printf -v list '%s-real;' "${architectures[@]}"
    options+=(-DCPU_ONLY=OFF -DUSE_CUDNN=ON -DUSE_NCCL=ON "-DCMAKE_CUDA_ARCHITECTURES=${list%-real;}"
        "-DCMAKE_CUDA_FLAGS='-Xcompiler=-ffile-prefix-map=$work=/caffe'")
    toolkit_options=(
        "-DCMAKE_CUDA_COMPILER=$toolkit/cu13/bin/nvcc"
        "-DCUDNN_INCLUDE=$toolkit/cudnn/include" "-DCUDNN_LIBRARY=$toolkit/cudnn/lib/libcudnn.so"
        "-DNCCL_INCLUDE_DIR=$toolkit/nccl/include" "-DNCCL_LIBRARIES=$toolkit/nccl/lib/libnccl.so"
    )
}

# Copies the libraries beside libcaffe.so, where its relative rpath finds them: PREFIX needs nothing but the driver.
install_cuda_libraries() {
    local library
    for library in "${CUDA_LIBRARIES[@]}"; do
        logged 'copying the CUDA libraries' cp -- "$toolkit/$library" "$work/prefix/lib/"
    done
}

# Prints what caffe-build.json says of CUDA.
cuda_record() {
    printf '{\n    "toolkit": %s,\n    "architectures": %s,\n    "libraries": %s\n  }' \
        "$(json_list $(cuda_wheels))" "$(json_list "${architectures[@]}")" "$(json_list "${CUDA_LIBRARIES[@]##*/}")"
}
