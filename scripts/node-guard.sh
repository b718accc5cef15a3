# Runs on a node, from the standard input of `sh -s`, as long as the run lasts: it is what the
# control master's own session does.  Assignments come before this text, and scripts/node-prepare.sh:
#
#   CLOUDPLAN_NONCE   marks our lines among those of a chatty start-up file
#   CLOUDPLAN_CHDIR   the directory for the copy: relative to the home directory, or absolute
#   CLOUDPLAN_RUN     the run's id: in the environment of its processes
#   "$@"              develop eggs: directories of the copy
#
# It makes the directory, and prints one line "cloudplan-guard NONCE ok" or "cloudplan-guard NONCE REASON".  Then it
# reads commands from its input, one a line, and answers each with "cloudplan-guard NONCE COMMAND ok" or
# "cloudplan-guard NONCE COMMAND REASON":
#
#   prepare   makes what the sync has brought fit for use here
#
# At the end of its input it ends what the run left here: cloudplan closes it, or the kernel and
# sshd do when cloudplan or its machine is no more.  So that this is seen at any time, a command runs beside it.
# shellcheck shell=sh

guard_say() {
    printf '\ncloudplan-guard %s %s\n' "$CLOUDPLAN_NONCE" "$1"
}

# Nothing is ever written in a directory that does not carry the mark, but for an empty one.
guard_directory() {
    if [ -L "$CLOUDPLAN_CHDIR" ]; then
        guard_say "$CLOUDPLAN_CHDIR is a symbolic link there: remove it, or choose another --cloud-chdir"
        return 1
    fi
    if [ -e "$CLOUDPLAN_CHDIR" ] && [ ! -f "$CLOUDPLAN_CHDIR/.cloudplan" ]; then
        if [ ! -d "$CLOUDPLAN_CHDIR" ] || [ -n "$(ls -A "$CLOUDPLAN_CHDIR")" ]; then
            guard_say "$CLOUDPLAN_CHDIR exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir"
            return 1
        fi
    fi
    if ! guard_words=$(mkdir -p "$CLOUDPLAN_CHDIR" 2>&1) ||
        ! guard_words=$( (: >>"$CLOUDPLAN_CHDIR/.cloudplan") 2>&1); then
        guard_say "$CLOUDPLAN_CHDIR cannot be made there: $guard_words"
        return 1
    fi
    guard_say ok
}

# Pids of this user's processes that belong to the run: those that came over this very
# connection (sshd puts it into their environment), and those that the run's id marks; not this script.
guard_pids() {
    for guard_proc in /proc/[0-9]*; do
        guard_pid=${guard_proc#/proc/}
        if [ "$guard_pid" = "$$" ] || [ "$guard_pid" = "$PPID" ] || [ ! -O "$guard_proc/environ" ]; then
            continue
        fi
        if tr '\0' '\n' <"$guard_proc/environ" 2>/dev/null |
            grep -qxF -e "SSH_CONNECTION=$SSH_CONNECTION" -e "CLOUDPLAN_RUN=$CLOUDPLAN_RUN"; then
            # A shell of this very script (a subshell, the pipe above) is gone by itself.
            read -r _ _ _ guard_parent _ <"$guard_proc/stat" 2>/dev/null && [ "$guard_parent" != "$$" ] &&
                echo "$guard_pid"
        fi
    done
}

# Whether a pid is still that of a process that this script has started.
guard_is_child() { # PID
    guard_parent=
    if [ -d /proc/self ]; then
        read -r _ _ _ guard_parent _ <"/proc/$1/stat"
    else
        guard_parent=$(ps -o ppid= -p "$1")
    fi
    [ "${guard_parent##* }" = "$$" ]
}

# Workers end by themselves when their connection does; what they have started may not.
guard_end() {
    [ -z "$guard_job" ] || ! guard_is_child "$guard_job" || kill "$guard_job"
    [ -d /proc/self ] && [ -n "$SSH_CONNECTION" ] || return 0
    guard_tries=0
    while
        guard_left=$(guard_pids)
        [ -n "$guard_left" ]
    do
        guard_signal=TERM
        [ "$guard_tries" -lt 3 ] || guard_signal=KILL
        # shellcheck disable=SC2086 # a list of numbers
        kill -s "$guard_signal" $guard_left 2>/dev/null
        guard_tries=$((guard_tries + 1))
        [ "$guard_tries" -lt 10 ] || return 0
        sleep 1
    done
}

# To be called in a subshell, whose processes can be ended, unlike the guard.
guard_prepare() { # EGG...
    trap - HUP PIPE INT
    prepare_child=
    prepare_reason=
    trap '[ -z "$prepare_child" ] || kill "$prepare_child"; exit 1' TERM
    if prepare_run "$@"; then
        guard_say "prepare ok" >&3
    else
        guard_say "prepare $prepare_reason" >&3
    fi
}

guard_main() {
    exec 2>/dev/null
    # The end of the connection must not be the end of the clean-up.
    trap '' HUP PIPE TERM INT
    unset CDPATH
    cd || return 1
    guard_directory || return 1
    exec 3>&1 >/dev/null
    guard_job=
    while read -r guard_command; do
        case $guard_command in
        prepare)
            # The former one has answered, and is at its end.
            [ -z "$guard_job" ] || wait "$guard_job"
            guard_prepare "$@" </dev/null &
            guard_job=$!
            ;;
        esac
    done
    guard_end
}

guard_main "$@"
