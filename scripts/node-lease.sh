# The leases on a node: what each run has been given of its cores and memory, as long as the run lasts.
# Functions for scripts/node-facts.sh, which lists the leases, and scripts/node-guard.sh, which takes one
# and holds it: this text is sent before either.  From outside come
#
#   CLOUDPLAN_RUN   the run's id: [a-z0-9]+; what lists needs none
#   CLOUDPLAN_WHO   USER@CONTROLLER, for those who find the room taken: [A-Za-z0-9._@:-]+
#
# and the guard, $$, is who holds the lease:
#
#   lease_list      prints a line CORES MEM_MIB WHO for each lease that another run holds
#   lease_take PROCESSES MEM_MIB CORES AVAILABLE_MIB
#                   prints `ok`: the lease is held; `taken CORES MEM_MIB WHO`: this much of CORES and
#                   AVAILABLE_MIB is not to be had, WHO being one of those who have it; or `none REASON`:
#                   no lease is possible here.  MEM_MIB is 0 where memory sets no limit.  AVAILABLE_MIB is what the
#                   run may use of what the probe found available.  Asked again it replaces the guard's former lease.
#   lease_touch     to be called every 15 seconds; false where there is no lease (any more)
#   lease_drop      ends it
#
# A lease is a file RUN.GUARD with one line:
#
#   1 UID USER@CONTROLLER PROCESSES MEM_MIB GUARD_PID GUARD_STARTTIME SSH_CONNECTION-or-"-"
#
# It lives while that guard does, and no longer than two minutes after the last touch.  Files that are not
# ours are written by anybody: they are read only by grep, which takes lines of this form alone and does not wait for
# a FIFO's writer, and no more than a thousand of them.
#
# Of a lease's memory the part that its run uses already is missing in what the machine has available, so it must not
# be taken off twice.  It can be seen for this user's own runs, whose processes have CLOUDPLAN_RUN or, on the controller,
# CLOUDPLAN_CONTROLLER in their environment, or came over the guard's connection; of others' runs all is counted.
#
# Memory is counted in MiB, since some shells count in 32 bits.
# shellcheck shell=sh

lease_dir=/tmp/cloudplan-leases
lease_files=1000     # so many are read
lease_many=999999999 # twice this fits into 32 bits
lease_newline='
'
lease_form='^1 [0-9]{1,10} [A-Za-z0-9._@:-]{1,64} [1-9][0-9]{0,4} (0|[1-9][0-9]{0,8}) [1-9][0-9]{0,9} [0-9]{1,20} '\
'(-|[A-Za-z0-9.:% _-]{7,200})$'

lease_is_number() { # TEXT: of at most nine digits, and none that means octal
    case $1 in
    '' | *[!0-9]* | 0?* | ??????????*) return 1 ;;
    esac
}

# A value in KiB, of any length, in MiB: in $lease_result.
lease_mib() {
    case $1 in
    '' | *[!0-9]* | 0?*) return 1 ;;
    ?????????????*) lease_result=$lease_many ;;
    ??????????*)
        lease_result=${1%???}
        # shellcheck disable=SC2017 # 32 bits
        lease_result=$((lease_result / 128 * 125 + lease_result % 128 * 125 / 128))
        ;;
    *) lease_result=$(($1 / 1024)) ;;
    esac
}

# A + B in $lease_result, or as many as there can be.
lease_add() {
    lease_result=$(($1 + $2))
    [ "$lease_result" -le "$lease_many" ] || lease_result=$lease_many
}

# The directory is of use: nobody but its owner can have put it there in another's place, nor can take away others' files.
lease_dir_is_good() {
    [ ! -L "$lease_dir" ] && [ -d "$lease_dir" ] && [ -k "$lease_dir" ]
}

# When a process has started, in $lease_start; false where that cannot be read.
lease_start_of() { # PID
    lease_stat=
    { read -r lease_stat <"/proc/$1/stat"; } 2>/dev/null
    case $lease_stat in
    *') '*) ;;
    *) return 1 ;;
    esac
    # shellcheck disable=SC2086 # into words: the third and following ones; the second, a name, may hold anything
    set -- ${lease_stat##*') '}
    lease_start=${20}
}

# Whether the guard of the lease in hand is still there.  Where processes are hidden (hidepid), or there is no /proc, its
# touches are all that is known of it.
lease_guard_lives() {
    if lease_start_of "$lease_pid"; then
        [ "$lease_start" = "$lease_since" ] || [ "$lease_since" = 0 ]
    elif [ -O "$lease_file" ]; then
        [ ! -d /proc/self ]
    else
        [ -d "/proc/$lease_pid" ] || [ ! -d /proc/1 ]
    fi
}

# Whether there may be leases at all.  It takes no process, and leaves set -f.
lease_any() {
    lease_dir_is_good || return
    set +f
    set -- "$lease_dir"/[0-9a-z]*
    set -f
    [ -e "$1" ] || [ -L "$1" ]
}

# The lines of all files that look like leases, each with its path and a colon before it, in $lease_lines.
lease_read() {
    lease_lines=
    lease_any || return
    # without it, as in busybox, a file that turns into a FIFO just now is waited for
    set -- -D skip
    grep "$@" -q . /dev/null 2>/dev/null
    [ $? -eq 1 ] || set --
    lease_lines=$(LC_ALL=C find "$lease_dir" -maxdepth 1 -type f -size -2 -mmin -2 \
        -name '[0-9a-z]*' ! -name '*[!.0-9a-z]*' \
        -exec grep "$@" -s -H -m 1 -E "$lease_form" '{}' + 2>/dev/null | head -n $lease_files)
}

# Takes a line of $lease_lines apart.
lease_fields() {
    lease_file=${1%%:*}
    lease_run=${lease_file##*/}
    lease_guard=${lease_run#*.}
    lease_run=${lease_run%%.*}
    # shellcheck disable=SC2086 # into words
    set -- ${1#*:}
    lease_who=$3 lease_processes=$4 lease_mem=$5 lease_pid=$6 lease_since=$7
    [ "$lease_processes" -le 65536 ] || lease_processes=65536
    shift 7
    lease_connection=$*
}

# What this user's processes say of the run or the connection that they belong to, for those that hold leases:
# lines PID/environ:NAME=VALUE in $lease_environs.
lease_look_for_processes() {
    lease_environs=
    set --
    IFS=$lease_newline
    for lease_line in $lease_lines; do
        unset IFS
        lease_fields "$lease_line"
        if ! [ -O "$lease_file" ] || ! lease_guard_lives; then
            continue
        fi
        set -- "$@" -e "CLOUDPLAN_RUN=$lease_run" -e "CLOUDPLAN_CONTROLLER=$lease_run"
        [ "$lease_connection" = - ] || set -- "$@" -e "SSH_CONNECTION=$lease_connection"
    done
    unset IFS
    [ $# -gt 0 ] || return
    lease_environs=$(cd /proc && set +f && LC_ALL=C grep -s -z -H -x -F "$@" [0-9]*/environ | tr '\0' '\n')
    lease_page=
    [ -z "$lease_environs" ] || lease_page=$(getconf PAGESIZE)
    lease_is_number "$lease_page" && [ "$lease_page" -gt 0 ] && [ "$lease_page" -le 1048576 ] || lease_environs=
}

# How much of its memory the run of the lease in hand has not yet used, in $lease_result.  What its processes share,
# files mostly, is not counted as used: the kernel counts that as available, or as used once.
lease_unused() {
    lease_pages=0 lease_last=
    if [ -O "$lease_file" ]; then
        IFS=$lease_newline
        for lease_line in $lease_environs; do
            unset IFS
            lease_process=${lease_line%%/*}
            case ${lease_line#*:} in
            "CLOUDPLAN_RUN=$lease_run" | "CLOUDPLAN_CONTROLLER=$lease_run" | "SSH_CONNECTION=$lease_connection") ;;
            *) continue ;;
            esac
            [ "$lease_process" != "$lease_last" ] || continue
            lease_last=$lease_process lease_resident='' lease_shared=
            { read -r _ lease_resident lease_shared _ <"/proc/$lease_process/statm"; } 2>/dev/null
            if lease_is_number "$lease_resident" && lease_is_number "$lease_shared" &&
                [ "$lease_resident" -gt "$lease_shared" ]; then
                lease_add "$lease_pages" $((lease_resident - lease_shared))
                lease_pages=$lease_result
            fi
        done
        unset IFS
    fi
    lease_result=$lease_mem
    if [ "$lease_pages" -gt 0 ]; then
        lease_pages=$((lease_pages / (1048576 / lease_page)))
        lease_result=$((lease_mem > lease_pages ? lease_mem - lease_pages : 0))
    fi
}

# Calls the function for each living lease but the guard's own, which is in hand then: lease_run, lease_processes, ...
lease_each() {
    lease_read
    lease_seen=0
    [ -n "$lease_lines" ] || return 0
    lease_look_for_processes
    IFS=$lease_newline
    for lease_line in $lease_lines; do
        unset IFS
        lease_seen=$((lease_seen + 1))
        lease_fields "$lease_line"
        [ "$lease_run.$lease_guard" != "$CLOUDPLAN_RUN.$$" ] || continue
        "$1"
    done
    unset IFS
}

lease_print() {
    [ "$lease_run" != "$CLOUDPLAN_RUN" ] && lease_guard_lives || return
    lease_unused
    echo "$lease_processes $lease_result $lease_who"
}

lease_list() (
    unset IFS
    set -f
    lease_each lease_print 2>/dev/null
)

# Adds the lease in hand to what others hold, and to what is held in all, by other nodes of this run too, which are the
# same machine.  What this user's ended guards have left is to be removed.
lease_count() {
    if ! lease_guard_lives; then
        [ ! -O "$lease_file" ] || lease_dead="$lease_dead $lease_file"
        return
    fi
    lease_unused
    lease_rest=$lease_result
    lease_add "$lease_all_mem" "$lease_rest"
    lease_all_mem=$lease_result
    lease_all_cores=$((lease_all_cores + lease_processes))
    [ "$lease_run" != "$CLOUDPLAN_RUN" ] || return
    lease_add "$lease_others_mem" "$lease_rest"
    lease_others_mem=$lease_result
    lease_others_cores=$((lease_others_cores + lease_processes))
    lease_others_who=${lease_others_who:-$lease_who}
}

# What the machine has available now, in $lease_result.
lease_available_now() {
    lease_key=
    while read -r lease_key lease_value _; do
        [ "$lease_key" != MemAvailable: ] || break
    done </proc/meminfo
    [ "$lease_key" = MemAvailable: ] && lease_mib "$lease_value"
}

# How much of CORES and AVAILABLE_MIB is not to be had, in $lease_held_cores and $lease_held_mem.  CORES are what this login
# may use, and others may use the same ones.  Other nodes of this run that are the same machine have theirs within what
# the whole machine has; without another run there they fit, having been planned together.
# What has become less since the probe is not to be had either: processes of a run that was given its lease since then
# may use their part of it already.
lease_hold() { # CORES AVAILABLE_MIB
    lease_held_cores=$lease_others_cores lease_held_mem=$lease_others_mem
    if [ "$lease_all_cores" -gt "$lease_others_cores" ]; then
        lease_machine=$(getconf _NPROCESSORS_ONLN)
        lease_is_number "$lease_machine" && [ "$lease_machine" -gt "$1" ] || lease_machine=$1
        lease_result=$((lease_all_cores + $1 - lease_machine))
        [ "$lease_result" -le "$lease_held_cores" ] || lease_held_cores=$lease_result
    fi
    lease_available_now || lease_result=$2
    lease_result=$((lease_all_mem + $2 - lease_result))
    [ "$lease_result" -le "$lease_held_mem" ] || lease_held_mem=$lease_result
}

# A new file that then gets its name: nobody ever reads half a line.
lease_write() { # PROCESSES MEM_MIB
    lease_start_of $$ || lease_start=0
    lease_who=$CLOUDPLAN_WHO
    while [ ${#lease_who} -gt 64 ]; do
        lease_who=${lease_who%?}
    done
    case $lease_who in
    '' | *[!A-Za-z0-9._@:-]*) lease_who=unknown ;;
    esac
    lease_connection=$(printf '%s\n' "$SSH_CONNECTION" | grep -x -E '[A-Za-z0-9.:% _-]{7,200}')
    lease_new=$(mktemp "$lease_dir/.XXXXXXXXXX") || return
    if echo "1 $lease_uid $lease_who $1 $2 $$ $lease_start ${lease_connection:--}" >"$lease_new" &&
        chmod 644 "$lease_new" && mv -f "$lease_new" "$lease_dir/$CLOUDPLAN_RUN.$$"; then
        return
    fi
    rm -f "$lease_new"
    return 1
}

# With the lock held.
lease_decide() { # PROCESSES MEM_MIB CORES AVAILABLE_MIB
    lease_all_cores=0 lease_all_mem=0 lease_others_cores=0 lease_others_mem=0 lease_others_who='' lease_dead=
    lease_each lease_count
    if [ "$lease_seen" -ge $lease_files ]; then
        echo "none more than $lease_files files are in $lease_dir there: remove it"
        return
    fi
    lease_uid=$(id -u)
    # shellcheck disable=SC2086 # into words
    [ -z "$lease_dead" ] || rm -f $lease_dead
    find "$lease_dir" -maxdepth 1 -type f -user "$lease_uid" -mmin +4 -exec rm -f '{}' +
    if [ "$lease_others_cores" -gt 0 ]; then
        lease_hold "$3" "$4"
        if [ "$1" -gt $(($3 - lease_held_cores)) ] || { [ "$2" -gt 0 ] && [ "$2" -gt $(($4 - lease_held_mem)) ]; }; then
            [ "$lease_held_cores" -le 65536 ] || lease_held_cores=65536
            [ "$lease_held_mem" -le "$lease_many" ] || lease_held_mem=$lease_many
            echo "taken $lease_held_cores $lease_held_mem $lease_others_who"
            return
        fi
    fi
    if lease_write "$1" "$2"; then
        echo ok
    else
        echo "none $lease_dir: no file can be made there: is the disk full?"
    fi
}

# The lock is the directory's own, which is our input: nobody can put another file in its place.  busybox's flock
# knows no -w.
lease_lock() {
    flock -n 0 || flock -w 3 0 || { sleep 1 && flock -n 0; } || { sleep 1 && flock -n 0; }
}

# What is in the way of a lease, in $lease_reason.
lease_prepare() {
    if ! command -v flock >/dev/null; then
        lease_reason="flock(1) is missing there: install util-linux"
        return 1
    fi
    [ -e "$lease_dir" ] || [ -L "$lease_dir" ] || mkdir -m 1777 "$lease_dir"
    lease_try=0
    until lease_dir_is_good || [ "$lease_try" -eq 2 ] || [ -L "$lease_dir" ] || [ ! -d "$lease_dir" ]; do
        lease_try=$((lease_try + 1)) # another run may be making it just now
        sleep 1
    done
    if lease_dir_is_good && [ -w "$lease_dir" ] && [ -x "$lease_dir" ] && [ -r "$lease_dir" ]; then
        return
    fi
    if [ -e "$lease_dir" ] || [ -L "$lease_dir" ]; then
        lease_reason="$lease_dir is not a directory of mode 1777 there: remove it"
    else
        lease_reason="$lease_dir cannot be made there"
    fi
    return 1
}

lease_take() {
    for lease_value; do
        lease_is_number "$lease_value" || set --
    done
    case $CLOUDPLAN_RUN in
    '' | *[!a-z0-9]*) set -- ;;
    esac
    if [ $# -ne 4 ]; then
        echo "none the lease was asked for in a wrong way"
        return
    fi
    lease_reason=
    if ! lease_prepare 2>/dev/null; then
        echo "none $lease_reason"
        return
    fi
    # /. so that nothing but a directory is opened
    lease_answer=$(
        exec 2>/dev/null <"$lease_dir/."
        unset IFS
        set -f
        if lease_lock; then
            lease_decide "$@"
        else
            echo "none another process there has held the lock on $lease_dir for 5 seconds"
        fi
    )
    echo "${lease_answer:-none $lease_dir cannot be opened there}"
}

lease_touch() {
    [ -f "$lease_dir/$CLOUDPLAN_RUN.$$" ] && touch -c "$lease_dir/$CLOUDPLAN_RUN.$$" 2>/dev/null
}

lease_drop() {
    rm -f "$lease_dir/$CLOUDPLAN_RUN.$$" 2>/dev/null
}
