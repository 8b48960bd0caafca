#!/bin/bash
# Builds BVLC Caffe 1.0 for Debian's Python and installs it to PREFIX.
#
#   docker/caffe/build.sh PREFIX           to compute on the CPU
#   docker/caffe/build.sh --cuda PREFIX    to compute on GPUs, too (CUDA, cuDNN, NCCL; see cuda.sh)
#   docker/caffe/build.sh --tests PREFIX   with Caffe's own unit tests as well; goes together with --cuda
#   docker/caffe/build.sh --sanitize PREFIX  with gcc's sanitizers of addresses and undefined behaviour; --tests, too
#
#   PREFIX/bin                          caffe, convert_imageset, ...
#   PREFIX/lib/python3/dist-packages    the Python package `caffe`: put this folder on PYTHONPATH
#   PREFIX/lib                          with --cuda: CUDA's own libraries as well
#   PREFIX/test                         with --tests: test.testbin, to be started in this folder, and what it reads
#   PREFIX/caffe-build.json             what was built: version, source hashes, patches, libraries
#
# The source is Debian's source package `caffe` (suite bullseye), which fetch-source keeps in caffe-source beside PREFIX, or
# takes from the folder CAFFE_SOURCE_DIR. It is patched with Debian's series and then with patches/build-*.patch,
# gpu-*.patch and speed-*.patch. Patches change Caffe's files; files of our own are in src/ and include/, in Caffe's layout.
# CUDA_ARCHITECTURES: GPU architectures to compile for, as '80 90' (default: 75 to 120).
# On the CPU convolutions are computed by oneDNN, which pip fetches; CAFFE_ONEDNN=off leaves it out. Its wheels are for
# x86-64 alone, so on other processors off is what is meant.
# CAFFE_OPENCV=off leaves out OpenCV, which Caffe's own layers read image files with; ours do so in Python.
# Everything happens beside PREFIX in a folder that is renamed at the end: PREFIX is complete or not there.
# Exit codes: 0 done, 1 failed while working, 2 wrong usage, 3 something needed is missing.
set -euo pipefail

# Without -DNDEBUG: debug assertions are checked, too.
readonly SANITIZERS='-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined'
readonly MEMORY_PER_COMPILER_MB=1000 # ten source files compiled as one, or pycaffe's, with room to spare

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# Debian's own tools: another cmake or python3 that stands first in PATH does not fit Debian's Boost and protobuf.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
unset PYTHONPATH PYTHONHOME

step() { printf 'caffe: [%4d s] %s\n' "$SECONDS" "$*" >&2; }
die() {
    local code=$1
    shift
    printf 'docker/caffe/build.sh: %s\n' "$*" >&2
    exit "$code"
}

# Runs a command with its output in the build log; on failure shows the log's end and stops.
logged() {
    local what=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null || failed "$what"
}
failed() {
    mv -f -- "$log" "$prefix.log"
    tail -n 25 "$prefix.log" >&2
    die 1 "$1 failed (the whole log: $prefix.log)"
}

unpack_and_patch() {
    local patch_file
    mkdir "$work/source"
    tar -xzf "$source/$ORIG_FILE" -C "$work/source" --no-same-owner
    tar -xJf "$source/$DEBIAN_FILE" -C "$work/source" --no-same-owner
    cd "$work/source"
    applied=()
    while read -r patch_file; do
        logged "patch debian/$patch_file" patch -p1 --forward -i "debian/patches/$patch_file"
        applied+=("debian/$patch_file")
    done <debian/patches/series
    for patch_file in "$here"/patches/{build,gpu,speed}-*.patch; do
        [[ -e $patch_file ]] || continue # a group without a patch
        logged "patch ${patch_file##*/}" patch -p1 --forward --fuzz=0 -i "$patch_file"
        applied+=("${patch_file##*/}")
    done
}

# Puts our own files beside Caffe's; cmake finds them by their folder.
add_files() {
    local file
    added=()
    while IFS= read -r file; do
        [[ ! -e $work/source/$file ]] || die 1 "docker/caffe/$file is a file of Caffe's, too: change that by a patch"
        install -D -m 644 -- "$here/$file" "$work/source/$file"
        added+=("$file")
    done < <(cd -- "$here" && find include src -type f | LC_ALL=C sort)
}

# NumPy's headers must be those of the NumPy that will be used (2.x), which is newer than Debian's.
make_build_python() {
    logged 'python3 -m venv' /usr/bin/python3 -m venv "$work/python"
    pip_locked python "$work/python" 'numpy>=2,<3' 'protobuf<8' six
}

# Installs the wheels of a list in locked/ into a folder; with SRN_LOCK=off those that are named here, unchecked.
pip_locked() {
    local list=$here/locked/$1.txt folder=$2 options=(--no-deps)
    shift 2
    if [[ ${SRN_LOCK:-on} == off ]]; then options+=("$@"); else options+=(--require-hashes -r "$list"); fi
    [[ $folder == "$work/python" ]] || options+=(--target "$folder")
    "$work/python/bin/pip" install --no-input --disable-pip-version-check "${options[@]}" >>"$log" 2>&1 </dev/null || {
        mv -f -- "$log" "$prefix.log"
        grep -E '^ *(ERROR|WARNING: Retrying|Expected sha256|Got  )' "$prefix.log" | tail -n 3 >&2 || true
        die 3 "pip cannot install what $list names (the whole log: $prefix.log); SRN_LOCK=off takes files whose hashes" \
            'are not checked'
    }
}
# The versions that a list in locked/ names, as pip takes them.
locked_versions() { sed -n 's/^\([a-z0-9-]*==[^ ;]*\).*/\1/p' "$here/locked/$1.txt"; }

# Leaves oneDNN in $work/python/{include,lib,share} and cmake's options for it in `onednn`.
fetch_onednn() {
    onednn=()
    if [[ $CAFFE_ONEDNN == off ]]; then
        step 'without oneDNN (CAFFE_ONEDNN=off): convolutions are computed by Caffe, which is slower'
        return
    fi
    step "oneDNN: wheels $(locked_versions onednn | paste -sd' ')"
    pip_locked onednn "$work/python" $(locked_versions onednn)
    onednn=(-DUSE_ONEDNN=ON "-DONEDNN_INCLUDE_DIR=$work/python/include"
        "-DONEDNN_LIBRARY=$work/python/lib/libdnnl.so")
}

# Reads ninja's output and prints a step at each tenth.
show_tenths() {
    local line tenth=0 part=0
    while IFS= read -r line; do
        [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
        part=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
        ((part > tenth)) || continue
        tenth=$part
        step "compiling: $((10 * tenth)) %"
    done
}

compile() {
    local memory_mb jobs triplet targets=(caffe pycaffe tools/all)
    triplet=$(g++ -print-multiarch)
    openblas=/usr/lib/$triplet/openblas-openmp/libopenblas.so
    python_version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    memory_mb=$(($(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))
    jobs=$((memory_mb / MEMORY_PER_COMPILER_MB))
    ((jobs < $(nproc))) || jobs=$(nproc)
    ((jobs > 0)) || jobs=1

    local cuda_folders='' # of libraries
    toolkit_options=()
    [[ -z $cuda ]] || cuda_folders=$toolkit/cu13/lib:$toolkit/cudnn/lib:$toolkit/nccl/lib
    # The OpenMP build of OpenBLAS is named by its own path, because the alternatives system may point to the
    # pthread build. glog 0.6 needs C++14. Without the promise to trap on comparisons with NaN, which nothing here
    # relies on, gcc vectorises them: the backward pass of ReLU is then 18 times as fast, with the same results.
    # Ten source files are compiled as one: half the time. No path of this build gets into a file, neither as a source's
    # name nor as a folder to search libraries in: two builds of the same inputs are the same bytes. So the linker is told
    # where those libraries are that libcaffe will find beside itself.
    options=(-DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS=-std=c++14 -fno-trapping-math '-ffile-prefix-map=$work=/caffe'"
        -DBUILD_python_layer=ON -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH_USE_LINK_PATH=OFF
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,'-rpath-link,$work/python/lib${cuda_folders:+:$cuda_folders}'"
        -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=10 -DUSE_LMDB=ON "-DUSE_OPENCV=${CAFFE_OPENCV^^}" -DUSE_LEVELDB=OFF -DBUILD_docs=OFF -DBLAS=Open
        "-DOpenBLAS_LIB=$openblas" "-DOpenBLAS_INCLUDE_DIR=/usr/include/$triplet/openblas-openmp")
    [[ -z $tests ]] || targets+=(test.testbin)
    [[ -z $sanitize ]] || options+=("-DCMAKE_CXX_FLAGS_RELEASE=$SANITIZERS")
    if [[ -n $cuda ]]; then add_cuda_options; else options+=(-DCPU_ONLY=ON); fi
    logged cmake cmake -S "$work/source" -B "$work/build" -G Ninja "${options[@]}" "${toolkit_options[@]}" "${onednn[@]}" \
        -Dpython_version=3 "-DPYTHON_EXECUTABLE=$work/python/bin/python" \
        "-DPYTHON_INCLUDE_DIR=/usr/include/python$python_version" \
        "-DPYTHON_LIBRARY=/usr/lib/$triplet/libpython$python_version.so" \
        "-DCMAKE_INSTALL_PREFIX=$work/prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        "-DCMAKE_INSTALL_RPATH=\$ORIGIN/../lib;\$ORIGIN/../../..;${openblas%/*}"
    step "compiling with $jobs jobs"
    ninja -C "$work/build" -j "$jobs" "${targets[@]}" 2>&1 </dev/null | tee -a "$log" | show_tenths ||
        failed compiling
    step 'installing'
    local part
    for part in src/caffe tools python; do
        logged 'cmake --install' cmake --install "$work/build/$part" $strip
    done
    if ((${#onednn[@]})); then
        # Under the name that libcaffe looks for; without the symbols, a fifth of it.
        cp -L -- "$work/python/lib/libdnnl.so.3" "$work/prefix/lib/"
        logged strip strip --strip-unneeded "$work/prefix/lib/libdnnl.so.3"
        mkdir -p "$work/prefix/share/doc"
        cp -r -- "$work/python/share/doc/onednn" "$work/prefix/share/doc/"
    fi
    rm -r "$work/prefix/python" # upstream's example scripts: they need packages that we do not install
    [[ -z $cuda ]] || install_cuda_libraries
    [[ -z $tests ]] || install_tests
}

# The tests look for their files below the current folder, by Caffe's paths.
install_tests() {
    local folder
    mkdir "$work/prefix/test"
    logged 'installing the tests' install $strip "$work/build/test/test.testbin" "$work/prefix/test/"
    for folder in examples/images src/caffe/test/test_data; do
        mkdir -p "$work/prefix/test/${folder%/*}"
        cp -r -- "$work/source/$folder" "$work/prefix/test/$folder"
    done
}

json_list() {
    local text
    printf -v text '"%s", ' "$@"
    printf '[%s]' "${text%, }"
}

# oneDNN's version as its header says it, its licence, and where the whole text of it lies below PREFIX.
onednn_record() {
    ((${#onednn[@]})) || {
        printf 'null'
        return
    }
    local header=$work/python/include/oneapi/dnnl/dnnl_version.h
    printf '{"version": "%s", "wheels": "%s", "licence": "Apache-2.0", "text": "share/doc/onednn/LICENSE"}' \
        "$(sed -n 's/^#define DNNL_VERSION_[MP][A-Z]* *\([0-9]*\)$/\1/p' "$header" | paste -sd.)" "$(locked_versions onednn | sed -n '1s/.*==//p')"
}

# The Debian packages of packages.txt with their versions.
debian_packages() {
    "$here/../missing-packages" --all | xargs dpkg-query --show --showformat '"${Package}": "${Version}"\n' | sort | paste -sd, | sed 's/,/, /g'
}

write_record() {
    cat >"$work/prefix/caffe-build.json" <<JSON
{
  "version": "${VERSION%%+*}",
  "commit": "${VERSION##*.}",
  "source": "$VERSION-$DEBIAN_REVISION",
  "source_sha256": {"$ORIG_FILE": "${SHA256[$ORIG_FILE]}", "$DEBIAN_FILE": "${SHA256[$DEBIAN_FILE]}"},
  "patches": $(json_list "${applied[@]}"),
  "files": $(json_list "${added[@]}"),
  "options": $(json_list "${options[@]//"$work"/WORK}"),
  "cuda": $(if [[ -n $cuda ]]; then cuda_record; else echo null; fi),
  "onednn": $(onednn_record),
  "compiler": "$(g++ --version | head -n 1)",
  "protoc": "$(protoc --version)",
  "packages": {$(debian_packages)},
  "python": "$python_version",
  "numpy_headers": "$("$work/python/bin/python" -c 'import numpy; print(numpy.__version__)')"
}
JSON
}

check_result() {
    local sanitizers=()
    logged 'the built caffe command' "$work/prefix/bin/caffe" --version
    # Python is not built with them, so it loads the sanitizers' libraries first; it leaks on purpose.
    [[ -z $sanitize ]] || sanitizers=("LD_PRELOAD=$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)"
        ASAN_OPTIONS=detect_leaks=0)
    logged 'import of the built caffe package' env "${sanitizers[@]}" PYTHONPATH="$work/prefix/lib/python3/dist-packages" \
        "$work/python/bin/python" -B -c 'import caffe; assert {"Python", "Data"} <= set(caffe.layer_type_list())'
}

. "$here/source.sh"
. "$here/cuda.sh"
cuda='' tests='' sanitize='' strip=--strip
while [[ ${1:-} == @(--cuda|--tests|--sanitize) ]]; do
    case $1 in
        --cuda) cuda=yes ;;
        --tests) tests=yes ;;
        --sanitize) sanitize=yes strip='' ;; # names of functions belong to what sanitizers report
    esac
    shift
done
if [[ $# -ne 1 || $1 == -* || -z $1 ]]; then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0
    exit 2
fi
parent=$(dirname -- "$1")
[[ -d $parent ]] || die 2 "no folder $parent to make ${1##*/} in"
[[ -w $parent ]] || die 2 "the folder $parent cannot be written to"
prefix=$(cd -- "$parent" && pwd)/$(basename -- "$1")
[[ ! -e $prefix ]] || die 2 "$prefix is there already: remove it first or name another folder"
[[ -z $cuda ]] || check_cuda_request
if [[ $(uname -m) == x86_64 ]]; then CAFFE_ONEDNN=${CAFFE_ONEDNN:-on}; else CAFFE_ONEDNN=${CAFFE_ONEDNN:-off}; fi
[[ $CAFFE_ONEDNN == @(on|off) ]] || die 2 "CAFFE_ONEDNN=$CAFFE_ONEDNN: say on or off"
CAFFE_OPENCV=${CAFFE_OPENCV:-on}
[[ $CAFFE_OPENCV == @(on|off) ]] || die 2 "CAFFE_OPENCV=$CAFFE_OPENCV: say on or off"
missing=$("$here/../missing-packages" 2>&1) || die 3 "$missing"
[[ -z $missing ]] || die 3 "missing packages; install them with: apt-get install --no-install-recommends $missing"

# The lock is on the parent folder. Every process started from here on holds it too, so that a second build waits even
# for the compilers that a killed first one left running. (Descriptor 9 is the lock of docker/local, kept likewise.)
exec 8<"$(dirname -- "$prefix")"
flock --nonblock 8 || {
    step "another build in ${prefix%/*} is running; waiting for it"
    flock 8
}
[[ ! -e $prefix ]] || die 2 "$prefix is there already: remove it first or name another folder"
work=$prefix.partial
rm -rf -- "$work"
trap 'cd /; rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$work"
log=$work/build.log

source=$("$here/fetch-source" "${prefix%/*}/caffe-source")
step 'unpacking and patching'
unpack_and_patch
add_files
step 'Python and its headers'
make_build_python
if [[ -n $cuda ]]; then
    step 'CUDA toolkit'
    make_toolkit
fi
fetch_onednn
step 'configuring'
compile
write_record
check_result
mv -T -- "$work/prefix" "$prefix"
rm -f -- "$prefix.log"
step "done: $prefix"
