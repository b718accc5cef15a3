#!/bin/sh
# Installs what the tests need and runs all of them. The last line counts: N passed, N failed.
#
# Options: --quick leaves out distcheck and the fuzzing. --slow runs the end-to-end tests alone, while busy loops take most of
# the processors' time, as on a machine that is five times slower. Everything is built below build/, out of the tree.
# FUZZ_SECONDS (60): for each parser. BUSY_LOOPS (4): for each processor, with --slow.
# CLOUDPLAN_TEST_SLOWNESS: see tests/e2e/cloudnodes_patience.py.
set -u
cd "$(dirname "$0")/.." || exit 71
top=$PWD
quick=
slow=
for option; do
    case $option in
    --quick) quick=yes ;;
    --slow) slow=yes quick=yes ;;
    *)
        echo "usage: scripts/check.sh [--quick] [--slow]" >&2
        exit 64
        ;;
    esac
done
fuzz_seconds=${FUZZ_SECONDS:-60}
# Debian's own interpreter: the first python3 in PATH may be another one, without pytest.
python=/usr/bin/python3
# What a shell starts in the background ignores SIGINT, and the tests of it would wait for ever.
with_signals='env --default-signal=INT,QUIT'
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
    "$@" >"$logs/$name" 2>&1
    status=$?
    [ ! -t 1 ] || printf '\033[K'
    if [ "$status" = 0 ]; then
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

logs=$top/build/log
jobs=$(nproc)
fuzzers=
busy=
watcher=
# Ends by pid what runs in the background, however this ends.
end_children() {
    # shellcheck disable=SC2086 # pids
    [ -z "$fuzzers$busy$watcher" ] || kill $fuzzers $busy $watcher 2>/dev/null
    fuzzers='' busy='' watcher=''
}
trap end_children EXIT
trap 'end_children; summary; exit 1' INT TERM HUP

# In microseconds: what the start and the end of a process take here and now.
process_us() {
    begin=$(date +%s%N)
    count=0
    while [ "$count" -lt 100 ]; do
        /bin/true
        count=$((count + 1))
    done
    echo $((($(date +%s%N) - begin) / 100000))
}

# In minutes, roughly. Most of what the tests do is to start processes: measured with 0.8 ms for each (13 minutes with two
# processors) and with 5 ms (52 minutes). The fuzzers take their time beside that.
estimate() {
    us=$(process_us)
    minutes=$((4 + (1000 + 9 * us) * 2 / jobs / 1000))
    [ -z "$slow" ] || minutes=$((5 * minutes))
    least=$(($(fuzz_targets | wc -l) * fuzz_seconds / 60 + 3))
    [ -n "$quick" ] || [ "$minutes" -ge "$least" ] || minutes=$least
    echo "about $minutes minutes: $jobs processors, $((us / 1000)).$((us % 1000 / 100)) ms for a process"
}

# One of the loops that take the processors' time. It ends with its parent, too, should that be killed.
# shellcheck disable=SC2016 # for the shell that it starts
busy_loop='while kill -0 "$1"; do n=0; while [ $n -lt 200000 ]; do n=$((n + 1)); done; done 2>/dev/null'
start_busy_loops() {
    count=$((jobs * ${BUSY_LOOPS:-4}))
    while [ "$count" -gt 0 ]; do
        # A session of its own: the kernel may share the processors out among sessions, not among processes.
        setsid sh -c "$busy_loop" busy_loop $$ &
        busy="$busy $!"
        count=$((count - 1))
    done
}

# While pytest runs: how far it is, from its log. In place on a terminal, else a line for each tenth, or for a minute in which
# anything has changed.
progress() { # LOG
    trap 'kill "$sleeping" 2>/dev/null; exit' TERM
    tenth=0 last='' at=0
    while :; do
        sleep 2 &
        sleeping=$!
        wait "$sleeping"
        kill -0 $$ 2>/dev/null || exit # check.sh itself, which was killed
        # "gw0 [1590] / gw1 [1590]" of pytest-xdist, or "collected 1590 items"; then a line for each result.
        now=$(awk '
            !all && /^gw[0-9]+ \[[0-9]+\]/ { all = substr($2, 2) + 0 }
            !all && / workers? \[[0-9]+ items?\]/ { match($0, /\[[0-9]+/); all = substr($0, RSTART + 1, RLENGTH - 1) + 0 }
            /^\[gw[0-9]+\] .*%\] (PASSED|SKIPPED|XFAIL|XPASS) / { done++ }
            /^\[gw[0-9]+\] .*%\] (FAILED|ERROR) / { done++; bad++ }
            END { if (all) print done + 0, all, bad + 0 }' "$1" 2>/dev/null)
        [ -n "$now" ] || continue
        # shellcheck disable=SC2086 # three numbers
        set -- "$1" $now
        words="e2e: $2 of $3, $4 failed"
        if [ -t 1 ]; then
            printf '\033[K%s\r' "$words" # what comes next is written over it
        elif [ "$words" != "$last" ] && { [ $((10 * $2 / $3)) -gt "$tenth" ] || [ $(($(date +%s) - at)) -ge 60 ]; }; then
            echo "$words"
            tenth=$((10 * $2 / $3)) last=$words at=$(date +%s)
        fi
    done
}

configure_in() { # DIR ARGUMENT...
    mkdir -p "$1" && cd "$1" && shift && "$top/configure" --quiet "$@"
}
# shellcheck disable=SC2329 # called by name
unit() {
    # The tests' own output is in automake's logs.
    $with_signals make -C build/clang -j"$jobs" check WARN_CFLAGS=-Werror
    status=$?
    cat build/clang/tests/unit/*.log build/clang/tests/plan/*.log
    return $status
}
# shellcheck disable=SC2329
shells() {
    # From 0.11 on it knows that test -O is not POSIX; every shell that the tests run has it.
    shellcheck -s sh -e SC3067 scripts/node/*.sh &&
        shellcheck scripts/install-packages.sh scripts/demo.sh scripts/check.sh scripts/embed.sh tests/plan/run.sh tests/layers.sh \
            .ci/run
}
# shellcheck disable=SC2329
static() {
    # From 2.11 on it says of each file how thorough it was, and takes that for a finding.
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches -I src -D_GNU_SOURCE "-DPACKAGE_VERSION=\"0\"" src
}
# Other versions than the one that .clang-format names decide some things otherwise.
# shellcheck disable=SC2329
c_style() {
    case $(clang-format --version) in
    *' version 14.'*) find src tests -name '*.[ch]' -exec clang-format --dry-run -Werror {} + ;;
    *) echo "not version 14: left out" ;;
    esac
}
# shellcheck disable=SC2329
python_style() {
    "$python" -m flake8 scripts bench tests && "$python" -m mypy --cache-dir=build/mypy scripts/pytest_cloudplan
}
# shellcheck disable=SC2329
manual() {
    # mandoc knows neither this page's date nor Debian's names of others' manuals: warnings count, style does not.
    mandoc -Tlint -Wwarning man/cloudplan.1
}
# Most of their time the tests wait, for a network, a signal, a node that is gone: two files more than there are processors.
# shellcheck disable=SC2329
e2e() {
    [ -z "$slow" ] || export CLOUDPLAN_TEST_SLOWNESS="${CLOUDPLAN_TEST_SLOWNESS:-5}"
    CLOUDPLAN=$top/build/gcc/cloudplan CLOUDPLAN_SRC=$top CLOUDPLAN_BUILD=$top/build/gcc \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        $with_signals "$python" -m pytest -p no:cacheprovider -v --tb=short -rf --durations=10 -n $((jobs + 2)) --dist=loadfile tests/e2e
}
# With its progress shown; with --slow beside busy loops.
e2e_tests() {
    [ -z "$slow" ] || start_busy_loops
    progress "$logs/e2e" &
    watcher=$!
    tests e2e e2e
    result=$?
    kill "$watcher"
    wait "$watcher" 2>/dev/null
    watcher=
    # shellcheck disable=SC2086 # pids
    [ -z "$busy" ] || kill $busy
    busy=
    return $result
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

estimate
if ! sh scripts/install-packages.sh build run nodes check; then
    echo "0 passed, 1 failed"
    exit 78
fi
rm -rf "$logs"
mkdir -p "$logs"
step autoreconf autoreconf -fi || { summary; exit 1; }
step configure-gcc configure_in build/gcc CC=gcc
cd "$top" || exit 71
if [ -n "$slow" ]; then
    step build-gcc make -C build/gcc -j"$jobs" WARN_CFLAGS=-Werror check TESTS= && e2e_tests
    summary
    [ "$failed" = 0 ]
    exit
fi
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
[ -z "$built" ] || e2e_tests
step shellcheck shells
step cppcheck static
step clang-format c_style
step python python_style
step mandoc manual
# shellcheck disable=SC2086 # words
[ -n "$quick" ] || step distcheck $with_signals make -C build/gcc -j"$jobs" distcheck
if [ -n "$fuzzers" ]; then
    wait "$fuzzers"
    fuzzers=
    for target in $(fuzz_targets); do
        step "fuzz-$target" fuzz_result "$target"
    done
fi
summary
[ "$failed" = 0 ]
