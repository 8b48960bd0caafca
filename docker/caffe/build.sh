#!/bin/bash
# Builds BVLC Caffe 1.0 for Debian 12's Python and installs it to PREFIX.
#
#   docker/caffe/build.sh PREFIX           to compute on the CPU
#   docker/caffe/build.sh --cuda PREFIX    to compute on GPUs, too (CUDA, cuDNN, NCCL; see cuda.sh)
#   docker/caffe/build.sh --tests PREFIX   with Caffe's own unit tests as well; goes together with --cuda
#
#   PREFIX/bin                          caffe, convert_imageset, ...
#   PREFIX/lib/python3/dist-packages    the Python package `caffe`: put this folder on PYTHONPATH
#   PREFIX/lib                          with --cuda: CUDA's own libraries as well
#   PREFIX/test                         with --tests: test.testbin, to be started in this folder, and what it reads
#   PREFIX/caffe-build.json             what was built: version, source hashes, patches, libraries
#
# The source is Debian's source package `caffe` (suite bullseye), fetched through apt from this machine's own
# mirror, or taken from the folder CAFFE_SOURCE_DIR. It is patched with Debian's series and then with patches/build-*.patch,
# gpu-*.patch and speed-*.patch. Patches change Caffe's files; files of our own are in src/ and include/, in Caffe's layout.
# CUDA_ARCHITECTURES: GPU architectures to compile for, as '80 90' (default: 75 to 120).
# On the CPU convolutions are computed by oneDNN, which pip fetches; CAFFE_ONEDNN=off leaves it out.
# Everything happens beside PREFIX in a folder that is renamed at the end: PREFIX is complete or not there.
# Exit codes: 0 done, 1 failed while working, 2 wrong usage, 3 something needed is missing.
set -euo pipefail

# BVLC's master branch as it was on 2018-08-21
readonly VERSION='1.0.0+git20180821.99bd997' DEBIAN_REVISION=8
readonly ORIG_FILE="caffe_$VERSION.orig.tar.gz" DEBIAN_FILE="caffe_$VERSION-$DEBIAN_REVISION.debian.tar.xz"
readonly ORIG_SHA256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
readonly DEBIAN_SHA256=07cf073227494a6b07234e40cb5df91db566616593eef9baafdc4d06ad159f21
# oneDNN 3.2 for libgomp, the OpenMP that Caffe and OpenBLAS use
readonly ONEDNN_WHEELS=2023.2.0
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

# apt-get that reads only the lists below $work/apt, so that it works without root and leaves the machine's alone.
apt_beside() {
    apt-get -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User= \
        -o Acquire::Retries=2 "$@" >>"$log" 2>&1 </dev/null
}

# Prints the addresses of the mirrors that this machine takes Debian 12 itself from.
debian_mirrors() {
    local format='$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)'
    local targets
    targets=$(apt-get indextargets --format "$format" 'Created-By: Packages' 2>>"$log") || targets=
    if [[ -z $targets ]]; then # no `apt-get update` has been run here yet
        apt_beside update || true
        targets=$(apt-get -o Dir::State::Lists="$work/apt/lists" indextargets --format "$format" \
            'Created-By: Packages' 2>>"$log") || targets=
    fi
    sed -n 's/|bookworm|main|Debian$//p' <<<"$targets" | sort -u
}

# Leaves the two source archives in $work/download.
fetch_source() {
    local mirror list="$work/apt/bullseye.list" keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/download"
    if [[ -n ${CAFFE_SOURCE_DIR:-} ]]; then
        local file
        for file in "$ORIG_FILE" "$DEBIAN_FILE"; do
            [[ -r $CAFFE_SOURCE_DIR/$file ]] || die 3 "CAFFE_SOURCE_DIR=$CAFFE_SOURCE_DIR has no file $file"
            cp -- "$CAFFE_SOURCE_DIR/$file" "$work/download/"
        done
        step "source: $CAFFE_SOURCE_DIR"
        return
    fi
    while read -r mirror; do
        step "source: package caffe of Debian bullseye from $mirror"
        echo "deb-src [signed-by=$keys] $mirror bullseye main" >"$list"
        if apt_beside -o Dir::Etc::SourceList="$list" -o Dir::Etc::SourceParts=- update &&
            (cd "$work/download" &&
                apt_beside -o Dir::Etc::SourceList="$list" -o Dir::Etc::SourceParts=- \
                    source --download-only "caffe=$VERSION-$DEBIAN_REVISION"); then
            return
        fi
    done < <(debian_mirrors)
    mv -f -- "$log" "$prefix.log"
    grep -E '^(E|W|Err):' "$prefix.log" | tail -n 5 >&2 || true
    die 3 "apt cannot deliver Debian bullseye's source package caffe $VERSION-$DEBIAN_REVISION (its suite may have" \
        "moved to Debian's archive): put $ORIG_FILE and $DEBIAN_FILE into a folder and name it in CAFFE_SOURCE_DIR"
}

verify() {
    local file=$work/download/$1 expected=$2 found
    found=$(sha256sum <"$file" | cut -d' ' -f1)
    [[ $found == "$expected" ]] || die 1 "$1 is not the expected file: sha256 $found, not $expected"
}

unpack_and_patch() {
    local patch_file
    mkdir "$work/source"
    tar -xzf "$work/download/$ORIG_FILE" -C "$work/source" --no-same-owner
    tar -xJf "$work/download/$DEBIAN_FILE" -C "$work/source" --no-same-owner
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
    pip_install 'numpy>=2,<3' 'protobuf<8' six ||
        die 3 "pip cannot install numpy, protobuf and six (the whole log: $prefix.log)"
}

# On failure the log is kept and its last errors are shown.
pip_install() {
    "$work/python/bin/pip" install --no-input --disable-pip-version-check "$@" >>"$log" 2>&1 </dev/null || {
        mv -f -- "$log" "$prefix.log"
        grep -E '^(ERROR|WARNING: Retrying)' "$prefix.log" | tail -n 3 >&2 || true
        return 1
    }
}

# Leaves oneDNN in $work/python/{include,lib,share} and cmake's options for it in `onednn`.
fetch_onednn() {
    onednn=()
    if [[ ${CAFFE_ONEDNN:-on} == off ]]; then
        step 'without oneDNN (CAFFE_ONEDNN=off): convolutions are computed by Caffe, which is slower'
        return
    fi
    step "oneDNN: wheels of $ONEDNN_WHEELS"
    pip_install --no-deps {onednn-cpu-gomp,onednn-devel-cpu-gomp}=="$ONEDNN_WHEELS" ||
        die 3 "pip cannot install oneDNN's wheels (the whole log: $prefix.log); CAFFE_ONEDNN=off builds without it"
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

    # The OpenMP build of OpenBLAS is named by its own path, because the alternatives system may point to the
    # pthread build. glog 0.6 needs C++14. Without the promise to trap on comparisons with NaN, which nothing here
    # relies on, gcc vectorises them: the backward pass of ReLU is then 18 times as fast, with the same results.
    # Ten source files are compiled as one: half the time.
    options=(-DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS=-std=c++14 -fno-trapping-math" -DBUILD_python_layer=ON
        -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=10 -DUSE_LMDB=ON -DUSE_OPENCV=ON -DUSE_LEVELDB=OFF -DBUILD_docs=OFF -DBLAS=Open
        "-DOpenBLAS_LIB=$openblas" "-DOpenBLAS_INCLUDE_DIR=/usr/include/$triplet/openblas-openmp")
    toolkit_options=()
    # The program of the tests is not installed by cmake: it is linked as it will lie.
    if [[ -n $tests ]]; then targets+=(test.testbin) && options+=(-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON); fi
    if [[ -n $cuda ]]; then add_cuda_options; else options+=(-DCPU_ONLY=ON); fi
    logged cmake cmake -S "$work/source" -B "$work/build" -G Ninja "${options[@]}" "${toolkit_options[@]}" "${onednn[@]}" \
        -Dpython_version=3 "-DPYTHON_EXECUTABLE=$work/python/bin/python" \
        "-DPYTHON_INCLUDE_DIR=/usr/include/python$python_version" \
        "-DPYTHON_LIBRARY=/usr/lib/$triplet/libpython$python_version.so" \
        "-DCMAKE_INSTALL_PREFIX=$work/prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        '-DCMAKE_INSTALL_RPATH=$ORIGIN/../lib;$ORIGIN/../../..'
    step "compiling with $jobs jobs"
    ninja -C "$work/build" -j "$jobs" "${targets[@]}" 2>&1 </dev/null | tee -a "$log" | show_tenths ||
        failed compiling
    step 'installing'
    local part
    for part in src/caffe tools python; do
        logged 'cmake --install' cmake --install "$work/build/$part" --strip
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
    logged 'installing the tests' install --strip "$work/build/test/test.testbin" "$work/prefix/test/"
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
        "$(sed -n 's/^#define DNNL_VERSION_[MP][A-Z]* *\([0-9]*\)$/\1/p' "$header" | paste -sd.)" "$ONEDNN_WHEELS"
}

write_record() {
    cat >"$work/prefix/caffe-build.json" <<JSON
{
  "version": "${VERSION%%+*}",
  "commit": "${VERSION##*.}",
  "source": "$VERSION-$DEBIAN_REVISION",
  "source_sha256": {"$ORIG_FILE": "$ORIG_SHA256", "$DEBIAN_FILE": "$DEBIAN_SHA256"},
  "patches": $(json_list "${applied[@]}"),
  "files": $(json_list "${added[@]}"),
  "options": $(json_list "${options[@]}"),
  "cuda": $(if [[ -n $cuda ]]; then cuda_record; else echo null; fi),
  "onednn": $(onednn_record),
  "compiler": "$(g++ --version | head -n 1)",
  "protoc": "$(protoc --version)",
  "python": "$python_version",
  "numpy_headers": "$("$work/python/bin/python" -c 'import numpy; print(numpy.__version__)')"
}
JSON
}

check_result() {
    logged 'the built caffe command' "$work/prefix/bin/caffe" --version
    logged 'import of the built caffe package' env PYTHONPATH="$work/prefix/lib/python3/dist-packages" \
        "$work/python/bin/python" -c 'import caffe; assert {"Python", "Data"} <= set(caffe.layer_type_list())'
}

. "$here/cuda.sh"
cuda='' tests=''
while [[ ${1:-} == @(--cuda|--tests) ]]; do
    if [[ $1 == --cuda ]]; then cuda=yes; else tests=yes; fi
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
[[ ${CAFFE_ONEDNN:-on} == @(on|off) ]] || die 2 "CAFFE_ONEDNN=$CAFFE_ONEDNN: say on or off"
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

fetch_source
verify "$ORIG_FILE" "$ORIG_SHA256"
verify "$DEBIAN_FILE" "$DEBIAN_SHA256"
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
