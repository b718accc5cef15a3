#!/bin/sh
# What a node can offer to this login, right now.
#
# It is sent to the stdin of the node's `sh -s`, after generated lines that assign
#     CLOUDPLAN_NONCE    marks the answer
#     CLOUDPLAN_CHDIR    where the copy will be: absolute, or relative to home
#     CLOUDPLAN_PYTHON   interpreters, names or paths, one a line; or nothing
#     CLOUDPLAN_MODULES  Python modules that they must find, between blanks; or nothing
#     CLOUDPLAN_FACTS    a function to be called for the fact "engine": of the engine's snippet, which comes before this text; or nothing
# and after scripts/node/lease.sh.
#
# Everything is in functions and the last line starts them: a script cut short does nothing, and no
# child can eat the rest of it. It runs on busy nodes: /proc is read with the shell's own `read`, all
# else takes eight short processes, and some ten more where there are leases. It writes nothing on
# the node, hence no here-documents (older bash keeps them in /tmp). Of all file systems only home's,
# the target's and /tmp are touched.
#
# The answer is one write: an empty line (a chatty start-up file may have left the cursor in
# mid-line), `cloudplan-facts NONCE 1`, lines of KEY=VALUE, `cloudplan-end NONCE`. What is not
# known has no line.
#
#   cores=N              CPUs in this process's affinity mask
#   cores_online=N       CPUs of the machine
#   quota=QUOTA PERIOD   microseconds; a line for each cgroup, own to root, that has a CPU quota
#   mem_total=BYTES
#   mem_available=BYTES  Linux: MemAvailable, before 3.14 MemFree + Buffers + Cached;
#                        Darwin: free, inactive, speculative and purgeable pages;
#                        FreeBSD: free, inactive and cache pages (laundry has to be written out first, and
#                        ZFS's ARC counts as used)
#   cgroup_mem=LIMIT USAGE INACTIVE_FILE
#                        bytes; a line for each cgroup, own to root, that has a limit
#   lease=CORES MEM_MIB WHO
#                        a line for each lease of another run: what it has been given, less the memory that it is
#                        seen to use already, and who it is, USER@CONTROLLER
#   load1=X.XX           load average of the last minute
#   boot_id=ID           the same for two logins: the same machine
#   login_id=USER@DEV:INODE  of home
#   os= release= arch=   as uname(1) says
#   home=DIR
#   disk_free=BYTES      where the target is or will be
#   target=absent        it does not exist, or is an empty directory
#   target=ours          a directory with a regular file .cloudplan in it
#   target=unmarked      a directory of this login's, neither empty nor with anything called .cloudplan in it
#   target=homeless      CLOUDPLAN_CHDIR is relative, and HOME is not set or no absolute path
#   target=nowhere       CLOUDPLAN_CHDIR is relative, and the home directory cannot be entered
#   target=foreign       anything else, a symbolic link too
#   python=X.Y.Z         of the first of CLOUDPLAN_PYTHON, if it runs
#   python_path=FILE     where it was found
#   interpreter=N X.Y.Z  of the Nth, from the second on, if it runs
#   missing=N NAME...    those of CLOUDPLAN_MODULES that the Nth, from the first on, does not find
#   rsync=X.Y.Z          or openrsync-N, N being the protocol's version (openrsync tells no other),
#                        or the first line of another rsync's --version as it is
#   engine=TEXT          the first line of what the engine's own snippet says

nl='
'

put() { # KEY VALUE
    [ -z "$2" ] || answer=$answer$1=${2%%"$nl"*}$nl
}

is_number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
}

# A sum or product of numbers, in $result. mksh counts in 32 bits: there expr does it.
calc() {
    if [ "$((2147483647 + 1))" = 2147483648 ]; then
        result=$(($*))
    else
        # shellcheck disable=SC2003
        result=$(expr "$@")
    fi
    is_number "$result" # expr's own status is 1 for a result of 0
}

# The first line of a file, in $line.
first_line() {
    line=
    [ -r "$1" ] && { read -r line <"$1" || [ -n "$line" ]; }
}

# NAME TEXT: the value in TEXT's line "NAME: value", in $value. TEXT begins with a newline.
lookup() {
    value=${2#*"$nl$1:"}
    if [ "$value" = "$2" ]; then
        value=
    else
        value=${value%%"$nl"*}
        value=${value#"${value%%[! ]*}"}
    fi
}

# TEXT FACTOR NAME...: FACTOR times the sum of these values, in $result; false where there is none.
sum_of() {
    text=$1 factor=$2 sum=
    shift 2
    for name; do
        lookup "$name" "$text"
        value=${value%.} # vm_stat ends its numbers so
        is_number "$value" && calc "${sum:-0}" + "$value" && sum=$result
    done
    is_number "$sum" && is_number "$factor" && calc "$sum" '*' "$factor"
}

# How many numbers a list such as 0-3,8 holds, in $result.
count_list() {
    result=0
    IFS=,
    for range in $1; do
        is_number "${range%-*}" && is_number "${range#*-}" &&
            result=$((result + ${range#*-} - ${range%-*} + 1))
    done
    unset IFS
}

cores() {
    online=$ncpu
    if [ -z "$online" ] && first_line /sys/devices/system/cpu/online; then
        count_list "$line"
        [ "$result" -gt 0 ] && online=$result
    fi
    is_number "$online" || online=$(getconf _NPROCESSORS_ONLN)
    cores=$(nproc)
    if ! is_number "$cores" && [ -r /proc/self/status ]; then
        while read -r key value; do
            if [ "$key" = Cpus_allowed_list: ]; then
                count_list "$value"
                [ "$result" -gt 0 ] && cores=$result
                break
            fi
        done </proc/self/status
        # the mask may hold CPUs that could be plugged in
        is_number "$online" && [ "${cores:-0}" -gt "$online" ] && cores=$online
    fi
    is_number "$cores" || cores=$online
    put cores "$cores"
    put cores_online "$online"
}

linux_memory() {
    total='' available='' free=0 buffers=0 cached=0
    while read -r key value _; do
        case $key in
        MemTotal:) total=$value ;;
        MemAvailable:) available=$value ;;
        MemFree:) free=$value ;;
        Buffers:) buffers=$value ;;
        Cached:) cached=$value ;;
        esac
        [ -n "$total" ] && [ -n "$available" ] && break
    done </proc/meminfo
    is_number "$total" && calc "$total" '*' 1024 && put mem_total "$result"
    if [ -z "$available" ] && is_number "$free$buffers$cached"; then
        calc "$free" + "$buffers" + "$cached" && available=$result
    fi
    is_number "$available" && calc "$available" '*' 1024 && put mem_available "$result"
}

# Each of these four looks at one cgroup's directory, for the limit of one controller of one version.
v2_cpu() {
    first_line "$1/cpu.max" || return
    case $line in
    max*) ;;
    *) put quota "$line" ;;
    esac
}

v1_cpu() {
    first_line "$1/cpu.cfs_quota_us" || return
    quota=$line
    is_number "$quota" && first_line "$1/cpu.cfs_period_us" && put quota "$quota $line"
}

v2_memory() {
    memory_limit "$1" memory.max memory.current inactive_file
}

v1_memory() {
    memory_limit "$1" memory.limit_in_bytes memory.usage_in_bytes total_inactive_file
}

# DIR LIMIT-FILE USAGE-FILE KEY-IN-STAT
memory_limit() {
    first_line "$1/$2" || return
    case $line in
    # "max", and 2^63 less a page, which is v1's word for it: without a limit the kernel
    # is spared making up memory.stat, which can be dear
    *[!0-9]* | 92233720368547?????) return ;;
    esac
    limit=$line usage=0 inactive=0
    first_line "$1/$3" && usage=$line
    if [ -r "$1/memory.stat" ]; then
        while read -r key value; do
            if [ "$key" = "$4" ]; then
                inactive=$value
                break
            fi
        done <"$1/memory.stat"
    fi
    put cgroup_mem "$limit $usage $inactive"
}

# CHECK MOUNT PATH: CHECK for the cgroup and all its ancestors. In a container PATH may be the
# host's: what of it is not there says nothing, and the mount's root is the container's cgroup. A PATH with
# .. lies outside this cgroup namespace, and would lead out of the mount.
each_cgroup() {
    path=${3%/}
    case $path/ in
    */../*) path= ;;
    esac
    while
        "$1" "$2$path"
        [ -n "$path" ]
    do
        path=${path%/*}
    done
}

cgroups() {
    top=/sys/fs/cgroup
    [ -r /proc/self/cgroup ] || return
    while IFS=: read -r _ controllers own; do
        case ,$controllers, in
        ,,)
            mount=$top
            [ -d $top/unified ] && mount=$top/unified
            each_cgroup v2_cpu $mount "$own"
            each_cgroup v2_memory $mount "$own"
            ;;
        *,cpu,*)
            mount=$top/cpu
            [ -d $mount ] || mount=$top/$controllers
            each_cgroup v1_cpu "$mount" "$own"
            ;;
        *,memory,*)
            each_cgroup v1_memory $top/memory "$own"
            ;;
        esac
    done </proc/self/cgroup
}

leases() {
    lease_any || return
    IFS=$nl
    for line in $(lease_list); do
        unset IFS
        put lease "$line"
    done
    unset IFS
}

linux() {
    ncpu=
    cores
    linux_memory
    cgroups
    first_line /proc/loadavg && put load1 "${line%% *}"
    first_line /proc/sys/kernel/random/boot_id && put boot_id "$line"
}

# What Darwin and FreeBSD have alike, from the answer of sysctl.
bsd() {
    lookup hw.ncpu "$sysctl"
    ncpu=$value
    cores
    lookup vm.loadavg "$sysctl" # { 0.26 0.30 0.28 }
    value=${value#'{ '}
    put load1 "${value%% *}"
    lookup kern.boottime "$sysctl" # { sec = 1699999999, usec = 123456 } Tue Nov ...
    value=${value#*sec = }
    boottime=${value%%,*}
}

darwin() {
    sysctl=$nl$(sysctl hw.ncpu hw.memsize hw.pagesize vm.loadavg kern.boottime kern.bootsessionuuid \
        vm.page_free_count vm.page_speculative_count vm.page_purgeable_count)
    bsd
    lookup kern.bootsessionuuid "$sysctl"
    put boot_id "${value:-$boottime}"
    lookup hw.memsize "$sysctl"
    put mem_total "$value"
    vm_stat=$nl$(vm_stat)
    page=${vm_stat#*page size of }
    if sum_of "$vm_stat" "${page%% *}" 'Pages free' 'Pages inactive' 'Pages speculative' 'Pages purgeable'; then
        put mem_available "$result"
    else
        lookup hw.pagesize "$sysctl"
        sum_of "$sysctl" "$value" vm.page_free_count vm.page_speculative_count vm.page_purgeable_count &&
            put mem_available "$result"
    fi
}

freebsd() {
    sysctl=$nl$(sysctl hw.ncpu hw.physmem hw.pagesize vm.loadavg kern.boottime kern.hostuuid \
        vm.stats.vm.v_free_count vm.stats.vm.v_inactive_count vm.stats.vm.v_cache_count)
    bsd
    lookup kern.hostuuid "$sysctl"
    [ -n "$boottime" ] && put boot_id "$value:$boottime"
    lookup hw.physmem "$sysctl"
    put mem_total "$value"
    lookup hw.pagesize "$sysctl"
    sum_of "$sysctl" "$value" vm.stats.vm.v_free_count vm.stats.vm.v_inactive_count vm.stats.vm.v_cache_count &&
        put mem_available "$result"
}

# No function is called python*, which are names of interpreters.
interpreters() {
    number=0
    IFS=$nl
    for name in $CLOUDPLAN_PYTHON; do
        unset IFS
        number=$((number + 1))
        interpreter "$name" $number
    done
    unset IFS
}

interpreter() { # NAME NUMBER
    case $1 in
    -*) return ;;
    esac
    command -v "$1" >/dev/null || return
    # Apple's /usr/bin/python3 without the developer tools opens a dialogue on the node's screen
    if [ "$os" = Darwin ] && [ "$(command -v "$1")" = /usr/bin/python3 ]; then
        xcode-select -p >/dev/null || return
    fi
    if [ -n "$CLOUDPLAN_MODULES" ]; then
        # shellcheck disable=SC2086 # into words
        text=$("$1" -B -c "$find_modules" $CLOUDPLAN_MODULES) || return
        [ ${#text} -le 65536 ] || return # to search it takes the square of the time
        said=${text##*"$nl"cloudplan-python } # what starts with every interpreter there may print, too
    else
        # -V and no program: it takes a quarter of the time, which counts where a hundred nodes share one machine
        text=$("$1" -V) || return
        said=${text#Python }
    fi
    [ "$said" != "$text" ] || return
    said=${said%%"$nl"*}
    version=${said%% *}
    [ -n "$version" ] || return
    if [ "$2" = 1 ]; then
        put python "$version"
        put python_path "$(command -v "$1")"
    else
        put interpreter "$2 $version"
    fi
    [ -z "$CLOUDPLAN_MODULES" ] || [ "$said" = "$version" ] || put missing "$2 ${said#* }"
}

# Says the version and the modules that are not found. Nothing is imported: of a name with dots only the package is
# looked for, since to find the rest its parent would be run. What a module's finder stumbles over counts as found:
# whether it works is not the question here. Home, which -c puts into the path, holds no module of the workers.
find_modules='
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import importlib.util
def is_missing(name):
    try:
        return not importlib.util.find_spec(name.split(".")[0])
    except Exception:
        return False
missing = [name for name in sys.argv[1:] if is_missing(name)]
print("\ncloudplan-python " + " ".join([sys.version.split()[0]] + missing))
'

rsync_version() {
    text=$(rsync --version)
    text=${text%%"$nl"*}
    case $text in
    rsync*' version '*)
        text=${text#*version }
        text=${text%% *}
        ;;
    openrsync:*) text=openrsync-${text##* } ;;
    esac
    put rsync "$text"
}

target() { # DIR
    if [ -L "$1" ]; then
        put target foreign
    elif [ ! -e "$1" ]; then
        put target absent
    elif [ -d "$1" ] && is_home "$1"; then
        put target foreign # the home itself, by an absolute path: what else comes there is not to be deleted
    elif [ ! -O "$1" ]; then
        put target foreign # whoever owns it could change what is run
    elif [ -d "$1" ] && [ -f "$1/.cloudplan" ] && [ ! -L "$1/.cloudplan" ]; then
        put target ours
    elif [ -d "$1" ] && [ -r "$1" ] && [ -x "$1" ] && is_empty "$1"; then
        put target absent
    elif [ -d "$1" ] && [ -r "$1" ] && [ -x "$1" ] && [ ! -e "$1/.cloudplan" ] && [ ! -L "$1/.cloudplan" ]; then
        put target unmarked
    else
        put target foreign
    fi
}

look_at() { # DIR
    target "$1"
    disk_free "$1"
}

# As scripts/node/guard.sh needs it for a relative CLOUDPLAN_CHDIR.
has_home() {
    (cd -P "$home" || exit)
}

# By whatever name.  Nothing here depends on the directory that it leaves.
is_home() { # DIR
    cd -P "$home" && place=$PWD && cd -P "$1" && [ "$PWD" = "$place" ]
}

is_empty() { # DIR
    set +f
    for file in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            set -f
            return 1
        fi
    done
    set -f
}

disk_free() { # DIR, or its nearest ancestor that exists
    dir=$1
    while [ -n "$dir" ] && [ ! -d "$dir" ]; do
        dir=${dir%/*}
    done
    text=$(df -P -k "${dir:-/}")
    # shellcheck disable=SC2086 # into words: device (maybe several), size, used, free, N%, mount point
    set -- ${text#*"$nl"}
    while [ $# -ge 4 ]; do
        case $4 in
        *%) break ;;
        esac
        shift
    done
    case $3 in
    -[0-9]*) put disk_free 0 ;; # root's reserve is being eaten
    # what has more than 15 digits is some network's "endless", a size of 0 is a lie
    '' | *[!0-9]* | ????????????????*) ;;
    *) [ "$1" != 0 ] && calc "$3" '*' 1024 && put disk_free "$result" ;;
    esac
}

# What uname -s -r -m prints; Linux has it in files, since 6.1 all of it.
system() {
    if first_line /proc/sys/kernel/arch; then
        arch=$line
        first_line /proc/sys/kernel/osrelease
        release=$line
        first_line /proc/sys/kernel/ostype
        os=$line
    else
        text=$(uname -s -r -m)
        os=${text%% *}
        arch=${text##* }
        text=${text#* }
        release=${text% *}
    fi
    put os "$os"
    put arch "$arch"
    put release "$release"
}

main() {
    exec 2>/dev/null
    set -f
    unset -f cd pwd printf # bash has functions from its environment
    unset IFS CDPATH GLOBIGNORE OMP_NUM_THREADS OMP_THREAD_LIMIT # nproc obeys the last two
    LC_ALL=C
    PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
    export LC_ALL PATH
    answer=

    system
    case $os in
    Darwin) darwin ;;
    FreeBSD | DragonFly) freebsd ;;
    *) linux ;;
    esac
    leases
    interpreters
    rsync_version
    [ -z "$CLOUDPLAN_FACTS" ] || put engine "$("$CLOUDPLAN_FACTS")"

    case $HOME in
    /*) home=$HOME ;;
    *) home=$PWD ;;
    esac
    put home "$home"
    text=$(stat -L -c %d:%i "$home") || text=$(stat -L -f %d:%i "$home")
    case $text in
    '' | *[!0-9:]*) ;;
    *) put login_id "${LOGNAME:-$(id -un)}@$text" ;;
    esac
    case $CLOUDPLAN_CHDIR in
    /*) dir=$CLOUDPLAN_CHDIR ;;
    *) dir=$home/$CLOUDPLAN_CHDIR ;;
    esac
    dir=${dir%"${dir##*[!/]}"} # a link with a slash behind it would look like a directory
    case $CLOUDPLAN_CHDIR:$HOME in
    /*:*) look_at "$dir" ;;
    *:/*) if has_home; then look_at "$dir"; else put target nowhere; fi ;;
    *) put target homeless ;;
    esac

    printf '\ncloudplan-facts %s 1\n%scloudplan-end %s\n' "$CLOUDPLAN_NONCE" "$answer" "$CLOUDPLAN_NONCE"
}

main </dev/null
