# Which source of Caffe it is: read by fetch-source and build.sh.
# BVLC's master branch as it was on 2018-08-21, as Debian's source package `caffe` of suite bullseye has it
readonly VERSION='1.0.0+git20180821.99bd997' DEBIAN_REVISION=8
readonly ORIG_FILE="caffe_$VERSION.orig.tar.gz" DEBIAN_FILE="caffe_$VERSION-$DEBIAN_REVISION.debian.tar.xz"
declare -rA SHA256=(
    ["$ORIG_FILE"]=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
    ["$DEBIAN_FILE"]=07cf073227494a6b07234e40cb5df91db566616593eef9baafdc4d06ad159f21
)
declare -rA SHA1=( # a snapshot's address, proof of nothing
    ["$ORIG_FILE"]=4061e9b6915b7507ff30f83c1d1b74346fe026e2
    ["$DEBIAN_FILE"]=9b54a5482648c87841be32a5d65bce706d95d080
)
