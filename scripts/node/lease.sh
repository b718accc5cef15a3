# The leases on a node: what each run has been given of its cores and memory, as long as the run lasts.
# Functions for scripts/node/facts.sh, which lists the leases, and scripts/node/guard.sh, which takes one
# and holds it: this text is sent before either.  From outside come
#
#   CLOUDPLAN_RUN   the run's id: [a-z0-9]+; what lists needs none
#   CLOUDPLAN_WHO   USER@CONTROLLER, for those who find the room taken: [A-Za-z0-9._@:-]+
#
# and the guard, $$, is who holds the lease:
#
#   lease_list      prints a line CORES MEM_MIB WHO for each lease that another run holds or is about to take
#   lease_take PROCESSES MEM_MIB CORES AVAILABLE_MIB
#                   prints `ok`: the lease is held; `taken CORES MEM_MIB WHO`: this much of CORES and
#                   AVAILABLE_MIB is not to be had, WHO being one of those who have it; or `none REASON`:
#                   no lease is possible here.  MEM_MIB is 0 where memory sets no limit.  AVAILABLE_MIB is what the
#                   run may use of what the probe found available.  Asked again it replaces the guard's former lease,
#                   which stays where the answer is not `ok`.
#   lease_touch     to be called every 15 seconds; false where there is no lease (any more)
#   lease_drop      ends it
#
# A lease is a file RUN.GUARD (or RUN.GUARD.2: one that is to replace the former one) with one line
#
#   2 UID USER@CONTROLLER PROCESSES MEM_MIB GUARD_PID GUARD_STARTTIME PID_NAMESPACE TICKET SSH_CONNECTION-or-"-"
#
# and, from the moment on in which it is held, a second line `held`.  Before, it is a claim.
#
# It lives while that guard does, and no longer than two minutes after the last touch.  A guard in another container that
# shares /tmp cannot be seen: its touches are all that is known of it.
#
# WHERE.  Each user's leases are in a directory that nobody else can write to, /tmp/cloudplan-leases-UID, and every run
# reads those of all users.  A directory counts only where its owner is the one that its name says, and a file only where
# that one owns it, so that nobody can write, hide or remove another one's leases, or make this script write, chmod or
# remove anything by a path that leads elsewhere.  What other users' directories hold is written by anybody: it is read
# only by find and grep, which take small files and lines of the form above, no more than a thousand of each user.  A user
# can lease what he does not use, as he could use it; that costs him no more than running something, and nobody can
# prevent it.  A reading that is cut, since the machine is too busy or that user plays with his files, decides nothing: it
# is repeated as long as there is time, and then there is no lease.
#
# NO LOCK.  A lock that all users share can be held for ever by one of them.  Instead each run first writes its claim and
# only then reads all others:
#
#   1. It holds its lease only after it has read all files while its own claim was in its place, and has found room for
#      itself beside all that it read, held or only claimed.
#   2. Where what is held leaves no room for it, it takes its claim back: `taken`.
#   3. Where there would be room but for claims that were made earlier, it takes its claim back and looks again, until
#      those have become leases or are gone; then it claims anew, with its old ticket.
#   4. Where there would be room but for claims that were made later, it keeps its claim and looks again.
#
# Never more than there is: of those that hold leases, look at the one whose last claim was written last.  When it read
# all files, after that, the claims of all the others were in their places, under the very names that they have now: a
# claim becomes a lease by a line that is added to its file, so that there is no moment in which somebody who lists the
# directory could miss it.  By 1 it has found room beside all of them.  This does not depend on clocks, on the order, or
# on how long anything takes.
#
# Somebody gets on: by its ticket, and where tickets are equal by its name, of any two claims one is earlier, and
# everybody sees the same order.  A claim waits only for later ones (4), so the latest waits for none: it is decided at
# once, then the one before it.  Those that have taken theirs back (3) are in nobody's way.  So the earliest claim is refused
# only for what is held.  Whoever is stopped in between, or wants to be in the way, is waited for no longer than
# $lease_patience seconds and eight looks; then its claim counts as held.
#
# Of a lease's memory the part that its run uses already is missing in what the machine has available, so it must not
# be taken off twice.  It can be seen for this user's own runs, whose processes have CLOUDPLAN_RUN or, on the controller,
# CLOUDPLAN_CONTROLLER in their environment, or came over the guard's connection; of others' runs all is counted.
#
# Memory is counted in MiB, since some shells count in 32 bits.
# shellcheck shell=sh

lease_parent=/tmp
lease_dir=''         # this user's; see lease_own
lease_files=1000     # so many are read of each user
lease_users=64       # so many other users' are read
lease_many=999999999 # twice this fits into 32 bits
lease_patience=6     # seconds, and some looks, which take a second each on a busy machine
lease_hurry=24       # seconds: then it is to answer, since the controller does not wait for much longer
lease_newline='
'
lease_form='^2 [0-9]{1,10} [A-Za-z0-9._@:-]{1,64} [1-9][0-9]{0,4} (0|[1-9][0-9]{0,8}) [1-9][0-9]{0,9} [0-9]{1,20} '\
'[0-9]{1,20} [0-9]{1,10}[.][0-9]{2} (-|[A-Za-z0-9.:% _-]{7,200})$|^held$'

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

# This user's directory, in $lease_dir; what only this shell and its children need to know is found out once.
lease_own() {
    [ -z "$lease_dir" ] || return 0
    lease_uid=$(id -u)
    case $lease_uid in '' | *[!0-9]*) return 1 ;; esac
    lease_dir=$lease_parent/cloudplan-leases-$lease_uid
    lease_file_name=$lease_dir/$CLOUDPLAN_RUN.$$
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

# Whether the lease in hand is in this user's own directory, where nobody else can have put it.
lease_is_ours() {
    case $lease_file in "$lease_dir"/*) ;; *) return 1 ;; esac
}

# Whether the lease in hand is this guard's own.
lease_is_own() {
    [ "$lease_run.$lease_guard" = "$CLOUDPLAN_RUN.$$" ] && lease_is_ours
}

# Whether the guard of the lease in hand is still there.  Where processes are hidden (hidepid), or in another container,
# or there is no /proc, its touches are all that is known of it.
lease_guard_lives() {
    if [ "$lease_space" != "$lease_own_space" ]; then
        return 0
    elif lease_start_of "$lease_pid"; then
        [ "$lease_start" = "$lease_since" ] || [ "$lease_since" = 0 ]
    elif lease_is_ours; then
        [ ! -d /proc/self ]
    else
        [ -d "/proc/$lease_pid" ] || [ ! -d /proc/1 ]
    fi
}

# Whether there may be leases at all: there is a file in this user's directory, or there is another user's.  It takes no
# process, and leaves set -f.
lease_any() {
    set +f
    set -- "$lease_parent"/cloudplan-leases-[0-9]*
    for lease_path; do
        if [ ! -L "$lease_path" ] && [ -d "$lease_path" ]; then
            if [ ! -O "$lease_path" ]; then
                set -f
                return 0
            fi
            set -- "$lease_path"/[0-9a-z]*
            if [ -e "$1" ] || [ -L "$1" ]; then
                set -f
                return 0
            fi
        fi
    done
    set -f
    return 1
}

# The users whose directories there are, but for this one, in $lease_owners.
lease_find_owners() {
    lease_owners=
    set +f
    set -- "$lease_parent"/cloudplan-leases-[0-9]*
    set -f
    case $#$1 in "1$lease_dir" | 1*'*') return ;; esac
    lease_owners=$(LC_ALL=C find "$lease_parent/." -maxdepth 1 -name 'cloudplan-leases-[0-9]*' ! -name 'cloudplan-leases-*[!0-9]*' \
        ! -name 'cloudplan-leases-??????????*?' -type d -exec ls -dln '{}' + 2>/dev/null |
        sed -n 's|^d....-..-[^ ]* *[0-9]* *\([0-9]*\) .*/cloudplan-leases-\1$|\1|p' | grep -v -x "$lease_uid" | head -n $lease_users)
}

# The lines of the user's files that look like leases, each with its path and a colon before it.  The words after the
# user's id are grep's options.  A last line `cut` says that not all was read.  The owner is looked at once more where the directory is read: another user may put a link in the
# place of his own at any time.  To be called in a subshell: it sets limits.
lease_read_user() { # UID GREP_OPTION...
    lease_path=$lease_parent/cloudplan-leases-$1
    lease_reader=
    # A file may turn into a FIFO or an endless one just when it is opened.
    [ "$1" = "$lease_uid" ] || lease_reader=$lease_limit
    {
        # shellcheck disable=SC3045 # most shells have it
        [ -z "$lease_reader" ] || ulimit -v 1000000
        lease_user=$1
        shift
        {
            # shellcheck disable=SC2086 # into words: a command before the command
            LC_ALL=C $lease_reader find "$lease_path" -maxdepth 1 \
                -type d '(' ! -user "$lease_user" -o -perm -020 -o -perm -002 ')' -prune -o \
                -type f -user "$lease_user" -size -2 -mmin -2 -name '[0-9a-z]*' ! -name '*[!.0-9a-z]*' \
                -exec grep "$@" -s -H -m 2 -E "$lease_form" '{}' +
            # 1: without a line, or a file was gone.  124: timeout(1).  Above: a signal.
            [ $? -lt 124 ] || echo cut
        } | head -n $((2 * lease_files))
    } 2>/dev/null
}

# All users' lines, in $lease_lines; in $lease_cut, a user of whom not all was read.
lease_read() {
    lease_lines='' lease_held=' ' lease_cut=
    lease_any || return
    lease_find_owners
    set --
    # without it, as in busybox, a file that turns into a FIFO just now is waited for
    if [ -z "$lease_skip" ]; then
        lease_skip=no
        grep -D skip -q . /dev/null 2>/dev/null
        [ $? -ne 1 ] || lease_skip=yes
    fi
    [ "$lease_skip" = no ] || set -- -D skip
    if [ -n "$lease_owners" ] && [ -z "$lease_limit" ] && timeout 5 true 2>/dev/null; then
        lease_limit='timeout 5'
    fi
    # shellcheck disable=SC2086 # into words: numbers
    for lease_owner in "$lease_uid" $lease_owners; do
        lease_line=$(lease_read_user "$lease_owner" "$@")
        case $lease_newline$lease_line in
        *"${lease_newline}cut") lease_cut=$lease_owner lease_line=${lease_line%cut} ;;
        esac
        lease_lines=$lease_lines$lease_line$lease_newline
    done
    # Paths of those that are held, with a blank before and after each.
    case $lease_lines in *:held*) ;; *) return ;; esac
    IFS=$lease_newline
    for lease_line in $lease_lines; do
        case $lease_line in *:held) lease_held="$lease_held${lease_line%:held} " ;; esac
    done
    unset IFS
}

# Takes a line of $lease_lines apart.
lease_fields() {
    lease_file=${1%%:*}
    lease_run=${lease_file##*/}
    lease_guard=${lease_run#*.}
    lease_guard=${lease_guard%%.*}
    lease_run=${lease_run%%.*}
    # shellcheck disable=SC2086 # into words
    set -- ${1#*:}
    [ $# -ge 10 ] || return # "held"
    lease_who=$3 lease_processes=$4 lease_mem=$5 lease_pid=$6 lease_since=$7 lease_space=$8 lease_time=$9
    [ "$lease_processes" -le 65536 ] || lease_processes=65536
    shift 9
    lease_connection=$*
}

# What this user's processes say of the run or the connection that they belong to, for those that hold leases:
# lines PID/environ:NAME=VALUE in $lease_environs.
lease_look_for_processes() {
    lease_environs=
    lease_looked=1
    set --
    IFS=$lease_newline
    for lease_line in $lease_lines; do
        unset IFS
        if ! lease_fields "$lease_line" || ! lease_is_ours || lease_is_own || ! lease_guard_lives; then
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
    if lease_is_ours; then
        IFS=$lease_newline
        for lease_process_line in $lease_environs; do
            unset IFS
            lease_process=${lease_process_line%%/*}
            case ${lease_process_line#*:} in
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

# Where this process counts processes, in $lease_own_space: 0 where that cannot be told.
lease_find_space() {
    lease_own_space=$(readlink /proc/self/ns/pid)
    lease_own_space=${lease_own_space#*'['}
    lease_own_space=${lease_own_space%']'}
    case $lease_own_space in '' | *[!0-9]*) lease_own_space=0 ;; esac
}

# Calls the function for each claim and lease but the guard's own, which is in hand then: lease_run, lease_processes, ...
# How many files of this user there are: in $lease_seen.
lease_each() {
    lease_seen=0
    lease_read
    # Once: what holds its lease only since then has used nothing yet, and counts in full.
    [ -n "$lease_looked" ] || lease_look_for_processes
    IFS=$lease_newline
    for lease_line in $lease_lines; do
        unset IFS
        lease_fields "$lease_line" || continue
        ! lease_is_ours || lease_seen=$((lease_seen + 1))
        lease_is_own || "$1"
    done
    unset IFS
}

lease_print() {
    { [ "$lease_run" != "$CLOUDPLAN_RUN" ] || ! lease_is_ours; } && lease_guard_lives || return
    lease_unused
    echo "$lease_processes $lease_result $lease_who"
}

lease_list() (
    unset IFS
    set -f
    lease_limit='' lease_skip='' lease_looked=''
    lease_own && lease_find_space && lease_each lease_print
) 2>/dev/null

# Whether the claim in hand was made earlier than this guard's.
lease_is_earlier() {
    if [ "${lease_time%.*}" != "${lease_ticket%.*}" ]; then
        [ "${lease_time%.*}" -lt "${lease_ticket%.*}" ]
    elif [ "$lease_time" != "$lease_ticket" ]; then
        [ "1${lease_time#*.}" -lt "1${lease_ticket#*.}" ] # 1: 08 is no number to some
    else
        LC_ALL=C expr "x$lease_file" \< "x$lease_new" >/dev/null
    fi
}

# Adds the lease in hand to what has been found, a line LEVEL OURS CORES MEM_MIB WHO.  LEVEL is 1 for what is held, 2 for what
# was claimed earlier, 3 for what was claimed later; OURS is 1 for other nodes of this run, which are the same machine.
# What this user's ended guards have left is to be removed.
lease_count() {
    if ! lease_guard_lives; then
        ! lease_is_ours || lease_dead="$lease_dead $lease_file"
        return
    fi
    lease_unused
    case $lease_held in
    *" $lease_file "*) lease_level=1 ;;
    *)
        lease_level=3
        ! lease_is_earlier || lease_level=2
        ;;
    esac
    lease_same=0
    [ "$lease_run" != "$CLOUDPLAN_RUN" ] || ! lease_is_ours || lease_same=1
    lease_found="$lease_found$lease_level $lease_same $lease_processes $lease_result $lease_who$lease_newline"
}

# What is held on LEVEL and below, in $lease_all_cores and so on.
lease_sum() { # LEVEL
    lease_all_cores=0 lease_all_mem=0 lease_others_cores=0 lease_others_mem=0 lease_others_who=''
    lease_level=$1
    IFS=$lease_newline
    for lease_line in $lease_found; do
        unset IFS
        # shellcheck disable=SC2086 # into words
        set -- $lease_line
        [ "$1" -le "$lease_level" ] || continue
        lease_add "$lease_all_mem" "$4"
        lease_all_mem=$lease_result
        lease_all_cores=$((lease_all_cores + $3))
        [ "$2" = 0 ] || continue
        lease_add "$lease_others_mem" "$4"
        lease_others_mem=$lease_result
        lease_others_cores=$((lease_others_cores + $3))
        lease_others_who=${lease_others_who:-$5}
    done
    unset IFS
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

# Whether there is room beside what is held on LEVEL and below.  One that is alone has been planned with what there is.
lease_fits() { # LEVEL PROCESSES MEM_MIB CORES AVAILABLE_MIB
    lease_sum "$1"
    [ "$lease_others_cores" -gt 0 ] || return 0
    lease_hold "$4" "$5"
    [ "$2" -le $(($4 - lease_held_cores)) ] && { [ "$3" -eq 0 ] || [ "$3" -le $(($5 - lease_held_mem)) ]; }
}

# Seconds since some time ago, in $lease_result, and with hundredths, in $lease_stamp.
lease_clock() {
    lease_stamp=
    { read -r lease_stamp _ </proc/uptime; } 2>/dev/null
    case $lease_stamp in
    *[!0-9.]* | *.*.*) lease_stamp= ;;
    [0-9]*.[0-9][0-9]) ;;
    *) lease_stamp= ;;
    esac
    lease_stamp=${lease_stamp:-$(date +%s).00}
    lease_result=${lease_stamp%.*}
}

# A new file that then gets its name: nobody ever reads half a line.  In a shell of its own, since a limit of files' sizes
# ends the one that writes.
lease_write() { # PROCESSES MEM_MIB
    (
        umask 022
        echo "2 $lease_uid $lease_own_who $1 $2 $lease_own_words" >"$lease_dir/.${lease_new##*/}" &&
            mv -f "$lease_dir/.${lease_new##*/}" "$lease_new"
    )
}

# The claim becomes a lease.  The former one ends.
lease_hold_claim() {
    (echo held >>"$lease_new") || return
    rm -f "$lease_old"
}

lease_take_back() {
    [ -z "$lease_claimed" ] || rm -f "$lease_new"
    lease_claimed=
}

lease_describe() {
    lease_start_of $$ || lease_start=0
    lease_own_who=$CLOUDPLAN_WHO
    while [ ${#lease_own_who} -gt 64 ]; do
        lease_own_who=${lease_own_who%?}
    done
    case $lease_own_who in
    '' | *[!A-Za-z0-9._@:-]*) lease_own_who=unknown ;;
    esac
    lease_own_connection=$SSH_CONNECTION
    [ ${#lease_own_connection} -ge 7 ] && [ ${#lease_own_connection} -le 200 ] || lease_own_connection=-
    case $lease_own_connection in
    *[!A-Za-z0-9.:%\ _-]*) lease_own_connection=- ;;
    esac
    lease_own_words="$$ $lease_start $lease_own_space $lease_ticket $lease_own_connection"
    lease_new=$lease_file_name lease_old=$lease_file_name.2
    [ ! -e "$lease_new" ] || lease_new=$lease_file_name.2 lease_old=$lease_file_name
}

# The answer: see above.
lease_decide() { # PROCESSES MEM_MIB CORES AVAILABLE_MIB
    lease_clock
    lease_ticket=$lease_stamp
    lease_began=$lease_result
    lease_looks=0
    lease_describe
    lease_claimed=1
    lease_pauses=0
    find "$lease_dir" -maxdepth 1 -type f -mmin +4 -exec rm -f '{}' +
    while :; do
        if [ -n "$lease_claimed" ] && [ ! -e "$lease_new" ] && ! lease_write "$1" "$2"; then
            echo "none $lease_dir: no file can be made there: is the disk full, or is there a limit (ulimit -f)?"
            return
        fi
        lease_again=
        ! lease_round "$@" || return
        [ -z "$lease_again" ] || continue
        lease_pauses=$((lease_pauses + 1))
        # Not every sleep knows parts of a second.
        { [ "$lease_pauses" -le 20 ] && sleep 0.1; } || sleep 1
    done
}

# One look at all the others.  False: there is no answer yet, and it is to be repeated, at once where $lease_again says so.
lease_round() { # PROCESSES MEM_MIB CORES AVAILABLE_MIB
    lease_found='' lease_dead=
    lease_each lease_count
    # shellcheck disable=SC2086 # into words
    [ -z "$lease_dead" ] || rm -f $lease_dead
    lease_clock
    lease_late=
    lease_looks=$((lease_looks + 1))
    lease_result=$((lease_result - lease_began))
    if [ "$lease_result" -ge "$lease_hurry" ] || { [ "$lease_result" -ge "$lease_patience" ] && [ "$lease_looks" -ge 8 ]; }; then
        lease_late=1
    fi
    if [ -n "$lease_cut" ]; then
        [ -n "$lease_late" ] || return 1
        lease_take_back
        echo "none the leases of the user with the id $lease_cut could not be read there in time"
    elif [ "$lease_seen" -ge $lease_files ]; then
        lease_again=1
        [ -z "$lease_dead" ] || [ -n "$lease_late" ] || return 1
        lease_take_back
        echo "none more than $lease_files files are in $lease_dir there: remove it"
    elif lease_fits 3 "$@" && [ -n "$lease_claimed" ]; then
        if lease_hold_claim; then
            echo ok
        else
            lease_take_back
            echo "none $lease_dir: nothing can be written there: is the disk full?"
        fi
    elif [ -z "$lease_claimed" ] && lease_fits 3 "$@"; then
        # However late it is: nobody is left to be named as the one who has the room.
        lease_claimed=1 lease_again=1
        return 1
    elif [ -n "$lease_late" ] || ! lease_fits 1 "$@"; then
        lease_taken
    elif ! lease_fits 2 "$@"; then
        lease_take_back
        return 1
    else
        [ -n "$lease_claimed" ] || lease_again=1
        lease_claimed=1
        return 1
    fi
}

# Of what has been summed up last.
lease_taken() {
    lease_take_back
    [ "$lease_held_cores" -le 65536 ] || lease_held_cores=65536
    [ "$lease_held_mem" -le "$lease_many" ] || lease_held_mem=$lease_many
    echo "taken $lease_held_cores $lease_held_mem $lease_others_who"
}

# Nobody but root, or this user himself, can put something else in the directory's place: the one above it is root's (in a
# user namespace nobody may be root: then it is an unknown one's), or ours, and others cannot rename in it.
lease_parent_is_good() {
    lease_root=0
    lease_map=
    { read -r lease_map </proc/self/uid_map; } 2>/dev/null
    # shellcheck disable=SC2086 # into words
    set -- $lease_map
    if [ $# -eq 3 ] && [ "$*" != '0 0 4294967295' ]; then
        { read -r lease_root </proc/sys/kernel/overflowuid; } 2>/dev/null
    fi
    [ -n "$(find "$lease_parent/." -prune -type d '(' -user 0 -o -user "$lease_uid" -o -user "${lease_root:-0}" ')' \
        '(' -perm -1000 -o ! -perm -020 ! -perm -002 ')')" ]
}

# What is in the way of a lease, in $lease_reason.
lease_prepare() {
    lease_reason="id(1) does not say there who this is"
    lease_own || return
    lease_reason="$lease_parent is not root's there, or others can rename what is in it"
    lease_parent_is_good || return
    lease_reason="$lease_dir cannot be made there"
    [ -e "$lease_dir" ] || [ -L "$lease_dir" ] || mkdir -m 755 "$lease_dir" || [ -d "$lease_dir" ] || return
    lease_reason="$lease_dir is not this user's directory there: have it removed"
    [ ! -L "$lease_dir" ] && [ -d "$lease_dir" ] && [ -O "$lease_dir" ] || return
    [ -n "$(find "$lease_dir" -prune -perm -755 ! -perm -020 ! -perm -002)" ] || chmod 755 "$lease_dir"
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
    lease_answer=$(
        exec 2>/dev/null </dev/null
        unset IFS
        set -f
        lease_limit='' lease_skip='' lease_looked=''
        if lease_prepare; then
            lease_find_space
            lease_decide "$@"
        else
            echo "none $lease_reason"
        fi
    )
    echo "${lease_answer:-none what was to take it ended there before it had an answer}"
}

lease_touch() {
    lease_own && [ ! -L "$lease_dir" ] && [ -O "$lease_dir" ] || return
    set --
    [ ! -f "$lease_file_name" ] || set -- "$lease_file_name"
    [ ! -f "$lease_file_name.2" ] || set -- "$@" "$lease_file_name.2"
    [ $# -gt 0 ] && touch -c "$@" 2>/dev/null
}

lease_drop() {
    lease_own && [ ! -L "$lease_dir" ] && [ -O "$lease_dir" ] || return 0
    rm -f "$lease_file_name" "$lease_file_name.2" 2>/dev/null
}
