#!/bin/sh
# Installs what is missing of the Debian packages for a purpose: install-packages.sh build|run|nodes|check|bench ...
# Does nothing, and needs no privilege, where all are there already.
set -eu

build='autoconf automake make gcc libc6-dev pkg-config libssh2-1-dev libcurl4-openssl-dev libjansson-dev libssl-dev'
run='openssh-client rsync parallel python3 python3-pytest python3-pytest-xdist'
nodes='openssh-server iproute2 util-linux mount'
check='clang clang-format libclang-rt-dev libcmocka-dev cppcheck shellcheck mandoc xz-utils busybox python3-pytest-cov python3-toolz python3-pyflakes python3-flake8 mypy'
check="$check python3-pytest-forked python3-pip python3-venv python3-setuptools python3-wheel flit python3-hatchling python3-poetry-core python3-pdm-pep517"
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

# What another package provides counts, too: busybox-static would have to go for busybox.
present=$(dpkg-query -W -f='${db:Status-Status} ${Package} ${Provides}\n' |
    awk '$1 == "installed" { gsub(/\([^)]*\)|,/, " "); for (i = 2; i <= NF; i++) printf "%s ", $i }')
missing=
for package in $wanted; do
    case " $present" in *" $package "*) ;; *) missing="$missing $package" ;; esac
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

# apt-get ARGUMENT...: hundreds of lines, which matter where it fails.
apt_get() {
    # shellcheck disable=SC2086 # no word or two
    said=$($as_root env DEBIAN_FRONTEND=noninteractive apt-get -y "$@" </dev/null 2>&1) && return
    printf '%s\n' "$said" >&2
    echo "install-packages.sh: apt-get $1 failed" >&2
    exit 69
}

echo "Installing$missing ..." >&2
apt_get update
# shellcheck disable=SC2086 # words on purpose
apt_get install --no-install-recommends $missing
