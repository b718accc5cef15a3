#!/bin/sh
# Installs what is missing, builds, and shows the main job: the example project's tests on two throw-away
# sshd nodes on this machine, each in network, mount and process namespaces of its own.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install-packages.sh build run nodes
build=build/demo
[ -x configure ] || autoreconf -fi >/dev/null
mkdir -p "$build"
(cd "$build" && { [ -f Makefile ] || ../../configure --quiet; } && make --quiet cloudplan)
program=$PWD/$build/cloudplan
set -x
cd examples/project
exec /usr/bin/python3 ../../tests/e2e/cloudnodes.py --nodes 2 -- \
    "$program" --cloud-nodes='10.0.120.1 10.0.120.2' --cloud-mem-per-process=1000 -- tests/
