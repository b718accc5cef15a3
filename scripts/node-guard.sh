# Runs on a node, from the standard input of `sh -s`, as long as the run lasts: it is what the
# control master's own session does.  Assignments come before this text:
#
#   CLOUDPLAN_NONCE   marks our lines among those of a chatty start-up file
#   CLOUDPLAN_CHDIR   the directory for the copy: relative to the home directory, or absolute
#   CLOUDPLAN_RUN     the run's id: in the environment of its processes
#
# It prepares the directory, prints one line "cloudplan-guard NONCE ok" or "cloudplan-guard NONCE
# REASON", and waits for the end of its input: cloudplan closes it, or the kernel and
# sshd do when cloudplan or its machine is no more.  Then it ends what the run left here.
# shellcheck shell=sh

guard_say() {
    printf '\ncloudplan-guard %s %s\n' "$CLOUDPLAN_NONCE" "$1"
}

# Nothing is ever written in a directory that does not carry the mark, but for an empty one.
guard_prepare() {
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

# Workers end by themselves when their connection does; what they have started may not.
guard_end() {
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

guard_main() {
    exec 2>/dev/null
    # The end of the connection must not be the end of the clean-up.
    trap '' HUP PIPE TERM INT
    cd || return 1
    guard_prepare || return 1
    exec >/dev/null
    while read -r _; do :; done
    guard_end
}

guard_main
