# Runs on a node, from the standard input of `sh -s SLOT`, as long as the run lasts: it is what the
# control master's own session does; on this machine, ":", it is a child of cloudplan's, for a lease only.
# Assignments come before this text, then scripts/node/lease.sh and scripts/node/prepare.sh:
#
#   CLOUDPLAN_NONCE   marks our lines among those of a chatty start-up file
#   CLOUDPLAN_CHDIR   the directory for the copy: relative to the home directory, or absolute
#   CLOUDPLAN_ADOPT   yes: one that does not carry the mark may be given it, when the controller has looked
#   CLOUDPLAN_RUN     the run's id: in the environment of its processes
#   CLOUDPLAN_WHO     USER@CONTROLLER, for those who find something taken
#   CLOUDPLAN_SLOT    0, or which copy this run has here already (its connection broke): no other one will do; none: it
#                     needs no copy, and the answer is "ok 0"
#   CLOUDPLAN_BEAT    seconds: so often there is a line from the controller
#   "$@"              develop eggs: directories of the copy
#
# It makes the directory, and prints one line "cloudplan-guard NONCE ok SLOT DIR" or "cloudplan-guard NONCE REASON".
# DIR is the directory's physical name, by which everything after this reaches it: another session may stand elsewhere,
# or have another HOME, and would find another directory by the relative name.  Without a copy there is no DIR.
# With CLOUDPLAN_ADOPT it may be "cloudplan-guard NONCE adopt DIR" first: then it waits for a line "adopt".
# Then it reads commands from its input, one a line, and answers with "cloudplan-guard NONCE COMMAND ok" or
# "cloudplan-guard NONCE COMMAND REASON":
#
#   alive     there is no answer to this
#   lease PROCESSES MEM_MIB CORES AVAILABLE_MIB
#             the answer is what lease_take says
#   prepare   makes what the sync has brought fit for use here
#
# A copy belongs to one run at a time: another run of the same project finds the lock taken and has CHDIR~2 for its
# own, and so on to CHDIR~9.  SLOT says which it is, 1 being CHDIR itself.  Without flock(1) it is always that one.
# The lock is on the mark, which nobody else can open, and goes with this process, however that ends.
#
# At the end of its input it ends what the run left here: cloudplan closes it, or the kernel and
# sshd do when cloudplan or its machine is no more.  Where nobody says so, as when a machine or a network vanishes, or
# cloudplan is stopped, six beats without a line are the end.
#
# Three processes: this one waits, and cleans up; a child reads; a child of that one watches, as this one does: so it
# works in every shell, since not in all of them a read has a time limit, or ends by a signal.  Any one of them may be
# lost, killed or stopped, and any sleep of theirs:
#
#   this one      the reader cleans up in its place, or the watcher where the reader is ended for its silence
#   the reader    this one sees it, and cleans up
#   the watcher   this one counts the beats, too; the reader starts another one at its next line
#   a sleep       who waits for it begins a new one.  Where no sleep works at all, nobody counts any more, rather than
#                 keeping a processor busy; the end of the input is the end still
#   stopped       whoever is not stopped wakes all of the guard's process group up, every few seconds
#
# shellcheck shell=sh
# shellcheck disable=SC2154 # lease_...: of scripts/node/lease.sh

guard_say() {
    printf '\ncloudplan-guard %s %s\n' "$CLOUDPLAN_NONCE" "$1"
}

# Where the copies are: guard_base is a physical name, "" for the root, and the last part of CLOUDPLAN_CHDIR is the
# name in it.  False: guard_reason.
guard_find() {
    guard_reason=
    guard_home=
    case $HOME in
    /*) guard_home=$(cd -P "$HOME" && pwd -P) ;;
    esac
    case $CLOUDPLAN_CHDIR in
    /*) guard_base=$CLOUDPLAN_CHDIR ;;
    *)
        if [ -z "$HOME" ]; then
            guard_reason="HOME is not set there: set it for this login, or give an absolute --cloud-chdir"
        elif [ -z "$guard_home" ]; then
            guard_reason='cannot be entered'
            [ -e "$HOME" ] || guard_reason='does not exist'
            case $HOME in
            /*) ;;
            *) guard_reason='is no absolute path' ;;
            esac
            guard_reason="the home directory, $HOME, $guard_reason there: mend that, or give an absolute --cloud-chdir"
        fi
        [ -z "$guard_reason" ] || return 1
        guard_base=$guard_home/$CLOUDPLAN_CHDIR
        ;;
    esac
    guard_base=${guard_base%/*}
    if ! guard_words=$(mkdir -p "${guard_base:-/}" 2>&1) || ! guard_words=$(cd -P "${guard_base:-/}" 2>&1); then
        guard_reason="$CLOUDPLAN_CHDIR cannot be made there: $guard_words"
        return 1
    fi
    guard_base=$(cd -P "${guard_base:-/}" && pwd -P)
    case $guard_base in / | //) guard_base= ;; esac
}

# Nothing but the copy would be left in it.
guard_holds_home() { # DIR
    case $guard_home/ in "$1"/*) ;; *) return 1 ;; esac
}

# A directory of this login's without any mark: there it may be asked for one.
guard_is_unmarked() { # DIR
    ! guard_holds_home "$1" && [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ ! -e "$1/.cloudplan" ] && [ ! -L "$1/.cloudplan" ]
}

# Something is in it, or may be: what cannot be read is not empty.
guard_is_full() { # DIR
    ! guard_words=$(ls -A "$1") || [ -n "$guard_words" ]
}

# Nothing is ever written in a directory that does not carry the mark, but for an empty one.  False: guard_reason.
guard_make() { # DIR NAME
    guard_reason=
    if [ -L "$1" ]; then
        guard_reason="$2 is a symbolic link there: remove it, or choose another --cloud-chdir"
    elif guard_holds_home "$1"; then
        guard_reason="$2 is the home directory there, or holds it: choose another --cloud-chdir"
    elif [ -e "$1" ] && { [ ! -O "$1" ] || [ -L "$1/.cloudplan" ]; } ||
        { [ -e "$1" ] && [ ! -f "$1/.cloudplan" ] && { [ ! -d "$1" ] || guard_is_full "$1"; } &&
            [ ! -f "$1/.cloudplan" ]; }; then # again: another guard may be making it at this moment
        guard_reason="$2 exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir"
        ! guard_is_unmarked "$1" || guard_reason="$guard_reason, or have --cloud-adopt look whether it can be used"
    elif ! guard_words=$(mkdir -p "$1" 2>&1) || ! guard_words=$( (umask 077 && : >>"$1/.cloudplan") 2>&1); then
        guard_reason="$2 cannot be made there: $guard_words"
    fi
    [ -z "$guard_reason" ]
}

# The controller looks what the sync would delete there, and has the directory marked or not.  False: it is not to be, or
# nobody has said so in ten minutes.
guard_adopt() { # DIR
    guard_say "adopt $1"
    (
        guard_timer=
        trap 'kill "$guard_timer"; exit' TERM
        guard_who
        sleep 600 &
        guard_timer=$!
        wait "$guard_timer"
        # The pid may be another's by then.
        ! guard_is_child "$guard_me" $$ || kill -s KILL $$
    ) </dev/null >/dev/null &
    guard_watch=$!
    guard_word=
    while [ "$guard_word" != adopt ] && read -r guard_word; do :; done
    kill "$guard_watch"
    [ "$guard_word" = adopt ] && guard_is_unmarked "$1" && (umask 077 && : >>"$1/.cloudplan")
}

# Whether other users can open the mark: who can open it, to read it only, can lock it.
guard_mark_is_open() { # DIR
    [ -n "$(find "$1/.cloudplan" -prune '(' -perm -040 -o -perm -020 -o -perm -004 -o -perm -002 ')')" ]
}

# Puts a mark that is locked already in the place of one that others can open, as earlier versions have made it: somebody
# may hold the old one's lock for ever, having it open.  Two guards do not replace each other's: the new file's
# lock is taken before one looks at the mark once more.  False: the old mark's guard is still there, or another one is
# replacing it.
guard_close_mark() { # DIR
    guard_read_mark "$1"
    ! guard_is_child "$guard_reader" "$guard_holder" && (umask 077 && : >>"$1/.cloudplan-new") || return
    exec 4>>"$1/.cloudplan-new"
    flock -n 0 <&4
    if [ $? = 1 ]; then
        exec 4>&-
        return 1
    fi
    if guard_mark_is_open "$1"; then
        mv -f "$1/.cloudplan-new" "$1/.cloudplan"
    else
        exec 4>&-
        rm -f "$1/.cloudplan-new"
    fi
}

# The copy becomes this guard's own: descriptor 4 holds the lock, and no process that may outlive the guard has it.
# False with an empty guard_reason: another guard has it.
guard_take() { # DIR NAME
    guard_make "$1" "$2" || return 1
    command -v flock >/dev/null || return 0
    ! guard_mark_is_open "$1" || guard_close_mark "$1" || return
    exec 4>>"$1/.cloudplan"
    # As its input: some shells hand on no other descriptor.  A status beyond 1 says that there are no locks here.
    flock -n 0 <&4
    [ $? != 1 ] || { exec 4>&- && return 1; }
}

# The copy of that number.
guard_name() { # SLOT
    guard_slot=$1
    guard_copy=$CLOUDPLAN_CHDIR
    [ "$1" = 1 ] || guard_copy=$CLOUDPLAN_CHDIR~$1
    guard_place=$guard_base/${guard_copy##*/}
}

# What the mark says of its guard: the run's id, and two pids.
guard_read_mark() { # DIR
    guard_run='' guard_holder='' guard_reader=''
    read -r guard_run guard_holder guard_reader <"$1/.cloudplan"
    case $guard_holder in '' | *[!0-9]*) guard_reader= ;; esac
    case $guard_reader in *[!0-9]*) guard_reader= ;; esac
}

# The guard of this very run that has the copy still, not having noticed that its connection broke: it is to clean up.
guard_end_former() { # DIR
    guard_read_mark "$1"
    if [ "$guard_run" = "$CLOUDPLAN_RUN" ] && guard_is_child "$guard_reader" "$guard_holder"; then
        kill -s KILL "$guard_reader"
    fi
}

# Sets guard_slot and guard_place, the copy's physical name.  False: guard_reason.
guard_directory() {
    # By relative names nothing is found from here on.
    if [ "$CLOUDPLAN_SLOT" = none ]; then
        guard_slot=0
        guard_place=
        cd /
        return
    fi
    guard_find || return 1
    cd /
    guard_tries=0
    while [ "${CLOUDPLAN_SLOT:-0}" != 0 ]; do
        guard_name "$CLOUDPLAN_SLOT"
        guard_take "$guard_place" "$guard_copy" && return
        guard_tries=$((guard_tries + 1))
        if [ -n "$guard_reason" ] || [ "$guard_tries" = 15 ]; then
            guard_reason=${guard_reason:-"$guard_copy has been taken there by another run"}
            return 1
        fi
        guard_end_former "$guard_place"
        sleep 1
    done
    guard_name 1
    guard_take "$guard_place" "$guard_copy" && return
    if [ -n "$guard_reason" ]; then
        # Another run may have it marked first, and use it.
        [ "$CLOUDPLAN_ADOPT" = yes ] && guard_is_unmarked "$guard_place" && guard_adopt "$guard_place" || return 1
        guard_take "$guard_place" "$guard_copy" && return
        [ -z "$guard_reason" ] || return 1
    fi
    for guard_number in 2 3 4 5 6 7 8 9; do
        guard_name "$guard_number"
        guard_take "$guard_place" "$guard_copy" && return
    done
    guard_reason="$CLOUDPLAN_CHDIR to $CLOUDPLAN_CHDIR~9 are in use there by other runs${guard_reason:+; $guard_reason}"
    return 1
}

# Names PID/environ of processes that came over this very connection (sshd puts it into their environment), or that the
# run's id marks.  All processes are looked at by one grep: on a busy machine it takes seconds to start two
# programs for each of some hundred.  busybox need not know grep's -z.
guard_grep() (
    cd /proc && set +f || return
    LC_ALL=C
    GUARD_CONNECTION=SSH_CONNECTION=$SSH_CONNECTION GUARD_RUN=CLOUDPLAN_RUN=$CLOUDPLAN_RUN
    export LC_ALL GUARD_CONNECTION GUARD_RUN
    if printf 'a\0b\0' | grep -q -z -x -F b; then
        echo [0-9]*/environ | xargs grep -l -s -z -x -F -e "$GUARD_CONNECTION" -e "$GUARD_RUN"
    else
        # shellcheck disable=SC2016 # awk's own
        echo [0-9]*/environ | xargs head -n 100000 | tr '\0' '\n' | awk '/^==> [0-9]+\/environ <==$/ { name = $2 }
            ($0 == ENVIRON["GUARD_CONNECTION"] || $0 == ENVIRON["GUARD_RUN"]) && name != last { print last = name }'
    fi
)

# Pids of this user's processes that belong to the run, in $guard_left; not this script, of which $guard_me asks.
guard_find_left() {
    guard_left=
    for guard_name in $(guard_grep); do
        guard_pid=${guard_name%%/*}
        if [ "$guard_pid" != "$$" ] && [ "$guard_pid" != "$guard_me" ] && [ "$guard_pid" != "$PPID" ] && [ -O "/proc/$guard_name" ]; then
            # Shells of this very script, and what looked for all this, are gone by now, or at once.
            guard_parent=
            read -r _ _ guard_state guard_parent _ <"/proc/$guard_pid/stat"
            [ "${guard_parent:-$guard_me}" = "$guard_me" ] || [ "$guard_state" = Z ] || guard_left="$guard_left $guard_pid"
        fi
    done
}

# Whether a pid is still that of a living child of the other one.
guard_is_child() { # PID PARENT
    [ -n "$1" ] && [ -n "$2" ] || return
    guard_parent='' guard_state=
    if [ -d /proc/self ]; then
        read -r _ _ guard_state guard_parent _ <"/proc/$1/stat"
    else
        guard_parent=$(ps -o ppid= -p "$1")
    fi
    [ "${guard_parent##* }" = "$2" ] && [ "$guard_state" != Z ]
}

# Whether the guard itself is still there: not only a zombie, whose parent is stopped.
guard_is_there() {
    if [ -d /proc/self ]; then
        lease_start_of $$ && [ "$lease_start" = "$guard_start" ] || return
        case ${lease_stat##*') '} in Z* | X*) return 1 ;; esac
    else
        kill -0 $$
    fi
}

# Workers end by themselves when their connection does; what they have started may not.  Within ten seconds: who ignores
# SIGTERM has two.
guard_end() {
    [ -d /proc/self ] && [ -n "$SSH_CONNECTION" ] || return 0
    guard_tries=0
    lease_clock
    guard_until=$((lease_result + 9))
    while
        guard_find_left
        [ -n "$guard_left" ]
    do
        guard_signal=TERM
        [ "$guard_tries" -lt 3 ] || guard_signal=KILL
        # shellcheck disable=SC2086 # a list of numbers
        kill -s "$guard_signal" $guard_left
        # One that is stopped ends only when it goes on.
        # shellcheck disable=SC2086 # a list of numbers
        kill -s CONT $guard_left
        guard_tries=$((guard_tries + 1))
        lease_clock
        [ "$lease_result" -lt "$guard_until" ] || return 0
        # Most end at once.  Not every sleep knows parts of a second.
        if [ "$guard_tries" -gt 1 ] || ! sleep 0.1; then
            sleep 1
        fi
    done
}

# Ends the connection, where it was not its end that ended the reader.  After six silent beats the other end may be there
# still, stopped, while its pytest goes on and starts a worker anew for each that guard_end ends.
guard_hang_up() {
    [ "$CLOUDPLAN_SLOT" != none ] && [ -d /proc/self ] && guard_is_child $$ "$PPID" || return 0
    guard_name=
    read -r guard_name <"/proc/$PPID/comm"
    case $guard_name in sshd*) kill "$PPID" ;; esac
}

# To be called in a subshell, whose processes can be ended, unlike the guard.
guard_prepare() { # EGG...
    trap - HUP PIPE INT USR1 USR2
    prepare_child=
    prepare_reason=
    trap '[ -z "$prepare_child" ] || kill "$prepare_child"; exit 1' TERM
    if prepare_run "$@"; then
        guard_say "prepare ok" >&3
    else
        guard_say "prepare $prepare_reason" >&3
    fi
}

# Both who watch: they wait for a step of a few seconds, or for a signal.  False: no sleep works here.
guard_pause() {
    # busybox says of no pid at all that it can be signalled.
    if [ -z "$guard_sleep" ] || ! kill -0 "$guard_sleep"; then
        # Twenty that do sleep take twenty seconds at least.  On a busy machine twenty that fail take some seconds, too.
        guard_pauses=$((guard_pauses + 1))
        if [ "$guard_pauses" -ge 20 ]; then
            [ $((guard_now - guard_mark)) -ge 10 ] || return
            guard_pauses=0 guard_mark=$guard_now
        fi
        # Ended with those who wait for it: they ignore signals.  It may outlive the guard, and has not the lock.
        (exec 4>&- && trap - HUP PIPE TERM INT && exec sleep "$guard_step") &
        guard_sleep=$!
    fi
    # It returns for a signal, too, and a sleep may end by one: whether it is there still is seen above.
    wait "$guard_sleep" || :
}

# Until the reader ends, which the command after READER LIMIT tells, or says so: kills it when it has not sent a signal for
# LIMIT seconds.
guard_watch() { # READER LIMIT COMMAND...
    guard_read_pid=$1
    guard_limit=$2
    shift 2
    guard_step=${CLOUDPLAN_BEAT:-15}
    [ "$guard_step" -le 5 ] || guard_step=5
    guard_pauses=0 guard_heard=1 guard_mark=
    while "$@"; do
        lease_clock
        guard_now=$lease_result
        guard_mark=${guard_mark:-$guard_now}
        [ -z "$guard_heard" ] || guard_last=$guard_now
        guard_heard=
        if [ $((guard_now - guard_last)) -ge "$guard_limit" ]; then
            kill -s KILL "$guard_read_pid"
        fi
        kill -s CONT 0
        guard_pause || break
    done
    kill -s KILL "$guard_sleep"
}

# The pid of this shell, which may be a subshell, in $guard_me: $$ is the first one's.
guard_who() {
    guard_me=$(exec sh -c 'echo "$PPID"')
}

# Whatever the reader's end was, something has to clean up.
guard_end_without_main() {
    guard_is_there || {
        guard_end
        lease_drop
    }
}

# The watcher.  It gives the first one, which counts as well, the time to act.
guard_count() { # READER
    trap 'guard_heard=1' USR1
    guard_sleep=
    trap 'kill -s KILL "$guard_sleep"; exit' TERM
    exec </dev/null 3>&-
    guard_who
    guard_watch "$1" $((6 * ${CLOUDPLAN_BEAT:-15} + 5)) guard_is_child "$guard_me" "$1"
    guard_is_child "$guard_me" "$1" || guard_end_without_main
    exit
}

# For the watcher that begins, SIGTERM is an end as long as it has no trap for it.
guard_start_counter() {
    trap : TERM
    guard_count "$guard_self" &
    guard_counter=$!
    trap '' TERM
}

# Says that there was a line.  Never to a pid that may be somebody else's by now.
guard_tell() { # SIGNAL
    if guard_is_child "$guard_counter" "$guard_self"; then
        kill -s USR1 "$guard_counter"
    else
        guard_start_counter
    fi
    ! guard_is_child "$guard_self" $$ || kill -s USR1 $$
}

# Whether the reader is at work, as its parent sees it.
guard_reads() {
    [ -z "$guard_over" ] && guard_is_child "$guard_reader" $$
}

# The reader.  It has not the lock: redirections of the call itself would leave it a copy.
guard_read() { # EGG...
    exec <&5 4>&- 5<&-
    guard_job=
    trap '' USR1 USR2
    guard_who
    guard_self=$guard_me
    guard_start_counter
    while read -r guard_command; do
        guard_tell
        lease_touch
        case $guard_command in
        'lease '*)
            # shellcheck disable=SC2086 # four numbers
            guard_words=$(lease_take ${guard_command#lease } </dev/null)
            guard_say "lease ${guard_words:-none the process that was to take it was ended there}" >&3
            ;;
        prepare)
            # The former one has answered, and is at its end.
            [ -z "$guard_job" ] || wait "$guard_job"
            guard_prepare "$@" </dev/null &
            guard_job=$!
            ;;
        esac
    done
    if guard_is_child "$guard_counter" "$guard_self"; then
        kill -s TERM "$guard_counter"
        kill -s CONT "$guard_counter"
    fi
    [ -z "$guard_job" ] || ! guard_is_child "$guard_job" "$guard_self" || kill "$guard_job"
    # Killed, the other one cannot clean up; stopped, it has to go on.
    if guard_is_child "$guard_self" $$; then
        kill -s CONT $$
        kill -s USR2 $$
    else
        guard_end
        lease_drop
    fi
}

guard_main() {
    exec 2>/dev/null
    # The end of the connection must not be the end of the clean-up.  USR1: before there is a trap for it.
    trap '' HUP PIPE TERM INT
    trap 'guard_heard=1' USR1
    trap 'guard_over=1' USR2
    unset CDPATH
    # bash has functions from its environment.  What says where this is, and what is there, must not be one of a login's own.
    unset -f cd pwd ls mkdir printf
    guard_me=$$ guard_over='' guard_sleep=''
    lease_start_of $$
    guard_start=$lease_start
    # As in scripts/node/facts.sh: what the login lacks, the script would lack, too.
    PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
    export PATH
    if ! guard_directory; then
        guard_say "$guard_reason"
        return 1
    fi
    exec 3>&1 5<&0 >/dev/null </dev/null
    guard_read "$@" &
    guard_reader=$!
    [ "$guard_slot" = 0 ] || [ ! -w "$guard_place/.cloudplan" ] || (echo "$CLOUDPLAN_RUN $$ $guard_reader" >"$guard_place/.cloudplan")
    guard_say "ok $guard_slot${guard_place:+ $guard_place}" >&3
    exec 3>&- 5<&-
    guard_watch "$guard_reader" $((6 * ${CLOUDPLAN_BEAT:-15})) guard_reads
    while guard_reads; do
        wait "$guard_reader"
    done
    [ -n "$guard_over" ] || guard_hang_up # the reader was killed, for its silence or by another
    guard_end
    lease_drop
}

guard_main "$@"; exit # on one line: the next ones are the reader's
