#!/bin/sh
# Installs what is missing of the Debian packages for a purpose: install-packages.sh build|test ...
# Does nothing, and needs no privilege, where all are there already.
set -eu

build='autoconf automake make gcc libc6-dev pkg-config libssh2-1-dev libcurl4-openssl-dev libjansson-dev libssl-dev'
run='openssh-client rsync parallel python3 python3-pytest python3-pytest-xdist'
nodes='openssh-server iproute2 util-linux procps'
check='python3-pytest-cov clang libclang-rt-14-dev libcmocka-dev cppcheck shellcheck mandoc xz-utils busybox python3-venv strace'
bench='clustershell pdsh'

wanted=
for purpose; do
    case $purpose in
    build) wanted="$wanted $build" ;;
    run) wanted="$wanted $run" ;;
    nodes) wanted="$wanted $nodes" ;;
    check) wanted="$wanted $check" ;;
    bench) wanted="$wanted $bench" ;;
    *)
        echo "install-packages.sh: $purpose: not one of build run nodes check bench" >&2
        exit 64
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install-packages.sh: this is not Debian: install by hand what corresponds to:$wanted" >&2
    exit 0
fi

missing=
for package in $wanted; do
    # What another package provides counts, too (clang by clang-14, say).
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "install-packages.sh: packages are missing; as root: apt-get install$missing" >&2
    exit 78
fi
echo "Installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# A service that a package starts is none of ours: the test nodes start their own sshd.
# shellcheck disable=SC2086 # words on purpose
$as_root apt-get update -qq </dev/null >&2
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing </dev/null >&2
