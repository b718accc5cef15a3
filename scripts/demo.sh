#!/bin/sh
# Installs what is missing, builds, and shows the main job: the example project's tests on two throw-away
# sshd nodes on this machine, each in network, mount and process namespaces of its own.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
build=$top/build/demo

build() {
    [ -x configure ] || autoreconf -fi || return
    (cd "$build" && { [ -f Makefile ] || ../../configure --quiet; } && make cloudplan)
}

sh scripts/install-packages.sh build run nodes
mkdir -p "$build"
echo "Building build/demo/cloudplan ..." >&2
build >"$build/log" 2>&1 || {
    tail -n 20 "$build/log" >&2
    echo "demo.sh: the build failed; all it said is in build/demo/log" >&2
    exit 70
}
echo "Starting sshd nodes 10.0.120.1 and 10.0.120.2. In examples/project:" >&2
echo "\$ cloudplan --cloud-nodes='10.0.120.1 10.0.120.2' --cloud-mem-per-process=1000 -- tests/ -q" >&2
cd examples/project
exec /usr/bin/python3 ../../tests/e2e/cloudnodes.py --nodes 2 -- \
    "$build/cloudplan" --cloud-nodes='10.0.120.1 10.0.120.2' --cloud-mem-per-process=1000 -- tests/ -q
