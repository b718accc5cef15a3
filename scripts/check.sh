#!/bin/sh
# Installs what the tests need and runs all of them. The last line counts: N passed, N failed.
#
# Options: --quick leaves out distcheck and the fuzzing. Everything is built below build/, out of the tree.
# FUZZ_SECONDS (60): for each parser.
set -u
cd "$(dirname "$0")/.." || exit 71
top=$PWD
quick=
[ "${1:-}" = --quick ] && quick=yes
fuzz_seconds=${FUZZ_SECONDS:-60}
# Debian's own interpreter: the first python3 in PATH may be another one, without pytest.
python=/usr/bin/python3
passed=0
failed=0
names=

summary() {
    [ -z "$names" ] || echo "failed:$names"
    echo "$passed passed, $failed failed"
}

# step NAME COMMAND...: runs it with its output in build/log/NAME; one result.
# tests NAME COMMAND...: the same, where the output counts its tests itself (cmocka, pytest, run_cases).
step() {
    name=$1
    shift
    start=$(date +%s)
    if "$@" >"$logs/$name" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name ($(($(date +%s) - start)) s)"
    else
        failed=$((failed + 1))
        names="$names $name"
        echo "FAIL $name ($(($(date +%s) - start)) s), the end of build/log/$name:"
        tail -n "${TAIL:-60}" "$logs/$name" | sed 's/^/    /'
        return 1
    fi
}

tests() {
    step "$@"
    result=$?
    # The step itself is one result; its tests replace it.
    counted=$(awk '
        /^\[  PASSED  \] [0-9]+ test/ { p += $4 }
        /^\[  FAILED  \] [0-9]+ test/ { f += $4 }
        /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
        # The last such line is that of pytest itself: what is shown of failed tests may hold some, too.
        /(passed|failed|error).* in [0-9.]+s/ {
            passed = failed = 0
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^(failed|errors?)/) failed += $(i - 1)
            }
        }
        END { print p + passed, f + failed }' "$logs/$name")
    if [ "$result" = 0 ]; then passed=$((passed - 1)); else failed=$((failed - 1)); fi
    p=${counted% *}
    f=${counted#* }
    # No test at all, or a runner that failed without naming one, is a failure, too.
    [ "$result" = 0 ] && [ "$p" -gt 0 ] || [ "$f" -gt 0 ] || f=1
    passed=$((passed + p))
    failed=$((failed + f))
    return "$result"
}

if ! sh scripts/install-packages.sh build run nodes check; then
    echo "0 passed, 1 failed"
    exit 78
fi
logs=$top/build/log
rm -rf "$logs"
mkdir -p "$logs"
jobs=$(nproc)
fuzzers=
trap '[ -z "$fuzzers" ] || kill "$fuzzers"; summary; exit 1' INT TERM HUP

configure_in() { # DIR ARGUMENT...
    mkdir -p "$1" && cd "$1" && shift && "$top/configure" --quiet "$@"
}
# shellcheck disable=SC2329 # called by name
unit() {
    # The tests' own output is in automake's logs.
    make -C build/clang -j"$jobs" check WARN_CFLAGS=-Werror
    status=$?
    cat build/clang/tests/unit/*.log build/clang/tests/plan/*.log
    return $status
}
# shellcheck disable=SC2329
shells() {
    shellcheck -s sh scripts/node-*.sh &&
        shellcheck scripts/install-packages.sh scripts/demo.sh scripts/check.sh scripts/embed.sh tests/plan/run.sh \
            .ci/run
}
# shellcheck disable=SC2329
static() {
    # From 2.11 on it says of each file how thorough it was, and takes that for a finding.
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches -I src -D_GNU_SOURCE "-DPACKAGE_VERSION=\"0\"" src
}
# shellcheck disable=SC2329
manual() {
    # mandoc knows neither this page's date nor Debian's names of others' manuals: warnings count, style does not.
    mandoc -Tlint -Wwarning man/cloudplan.1
}
# Most of their time the tests wait, for a network, a signal, a node that is gone: two files more than there are processors.
# shellcheck disable=SC2329
e2e() {
    CLOUDPLAN=$top/build/gcc/cloudplan CLOUDPLAN_SRC=$top CLOUDPLAN_BUILD=$top/build/gcc \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$python" -m pytest -p no:cacheprovider -v --tb=short -rf --durations=10 -n $((jobs + 2)) --dist=loadfile tests/e2e
}
fuzz() {
    # A copy of the corpus: what a run finds does not change the tree.
    rm -rf "build/fuzz/corpus-$1"
    mkdir -p "build/fuzz/corpus-$1"
    exec nice -n 19 build/fuzz/tests/fuzz/fuzz_"$1" -max_total_time="$fuzz_seconds" -timeout=60 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="build/fuzz/crash-$1-" "build/fuzz/corpus-$1" "tests/fuzz/corpus/$1"
}
fuzz_targets() {
    for target in tests/fuzz/fuzz_*.c; do
        target=${target#tests/fuzz/fuzz_}
        echo "${target%.c}"
    done
}
# All of them, one after the other, in the time that the tests leave: those wait more than they work. The result of each
# is a file.
fuzz_all() {
    trap 'kill "$fuzzer"; exit' TERM
    for target in $(fuzz_targets); do
        (fuzz "$target") >"$logs/fuzz-$target" 2>&1 &
        fuzzer=$!
        wait "$fuzzer"
        echo $? >"$logs/fuzz-$target.status"
    done
}
# shellcheck disable=SC2329
fuzz_result() {
    cat "$logs/fuzz-$1" && return "$(cat "$logs/fuzz-$1.status")"
}

step autoreconf autoreconf -fi || { summary; exit 1; }
step configure-gcc configure_in build/gcc CC=gcc
cd "$top" || exit 71
step configure-clang configure_in build/clang CC=clang --enable-sanitizers CFLAGS='-O1 -g'
cd "$top" || exit 71
built=
step build-gcc make -C build/gcc -j"$jobs" WARN_CFLAGS=-Werror check TESTS= && built=yes
step build-clang make -C build/clang -j"$jobs" WARN_CFLAGS=-Werror
if [ -z "$quick" ]; then
    step configure-fuzz configure_in build/fuzz CC=clang --enable-fuzzers --enable-sanitizers CFLAGS='-O1 -g'
    cd "$top" || exit 71
    if step build-fuzz make -C build/fuzz -j"$jobs" fuzzers; then
        fuzz_all &
        fuzzers=$!
    fi
fi
tests unit unit
# Without a program every test fails, each after its own wait.
[ -z "$built" ] || tests e2e e2e
step shellcheck shells
step cppcheck static
step mandoc manual
[ -n "$quick" ] || step distcheck make -C build/gcc -j"$jobs" distcheck
if [ -n "$fuzzers" ]; then
    wait "$fuzzers"
    fuzzers=
    for target in $(fuzz_targets); do
        step "fuzz-$target" fuzz_result "$target"
    done
fi
summary
[ "$failed" = 0 ]
